"""Reviews over REST: people decide, agents do not, and every refusal is a problem document."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from approvals.models import Grant, Review, Vote
from tests.approvals.factories import AGENT, UPDATE, held, person

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
BETTER = "UPDATE patients SET phone = NULL WHERE id = 7"


def api(user, principal=None):
    client = APIClient()
    client.force_authenticate(user, principal)
    return client


def decide(client, review, decision="approve", **more):
    body = {"decision": decision, "reason": "looked at it", **more}
    return client.post(f"/api/v1/reviews/{review.pk}/decision", body, format="json")


def test_api_lists_what_waits_without_the_statement(reviewer):
    review = held()

    answer = api(reviewer).get("/api/v1/reviews", {"status": "pending"})

    assert [row["id"] for row in answer.json()["results"]] == [str(review.pk)]
    assert answer.json()["results"][0]["url"] == review.absolute_url
    assert "555-0100" not in answer.text
    assert api(reviewer).get("/api/v1/reviews", {"status": "denied"}).json()["results"] == []


def test_api_shows_the_statement_to_reviewers_only(reviewer):
    review = held()
    address = f"/api/v1/reviews/{review.pk}"

    assert api(reviewer).get(address).json()["statement"] == UPDATE
    assert api(person("outsider")).get(address).status_code == 404


@pytest.mark.parametrize(("decision", "status"), [("approve", "approved"), ("deny", "denied"), ("modify", "approved")])
def test_api_decides(decision, status, reviewer):
    more = {"statement": BETTER} if decision == "modify" else {}

    answer = decide(api(reviewer), held(), decision, **more)

    assert (answer.status_code, answer.json()["status"]) == (200, status)
    if decision == "modify":
        assert (answer.json()["statement"], answer.json()["modified_from"]) == (BETTER, UPDATE)


def test_api_approves_no_other_text_than_the_one_it_was_sent(reviewer):
    """Whoever sends an edited text as an approval believes that it is what runs."""
    review = held()

    other = decide(api(reviewer), review, statement=BETTER)

    assert (other.status_code, other.json()["code"]) == (403, "text-changed")
    assert (Vote.objects.count(), Grant.objects.count()) == (0, 0)
    assert decide(api(reviewer), review, statement=UPDATE).json()["status"] == "approved"


@pytest.mark.parametrize("method", ["get", "post"])
def test_api_is_closed_to_agents_even_with_a_reviewers_account(method, reviewer):
    review = held()
    by_agent = api(reviewer, AGENT)

    answer = decide(by_agent, review) if method == "post" else by_agent.get(f"/api/v1/reviews/{review.pk}")

    assert (answer.status_code, answer.json()["code"]) == (403, "agents-never-approve")
    assert not Vote.objects.exists()


def test_api_refuses_self_approval_with_a_problem_document(admin):
    answer = decide(api(admin), held())

    assert answer.status_code == 403
    assert answer["Content-Type"].startswith("application/problem+json")
    assert answer.json()["code"] == "self-approval"
    assert not Grant.objects.exists()


def test_api_names_why_not(reviewer, reviewer2):
    auditor = person("auditor", "auditors")
    review = held()

    assert decide(api(auditor), review).json()["code"] == "not-reviewer"
    assert decide(api(reviewer), review, "modify", statement="DROP TABLE x").json()["code"] == "modified-denied"
    assert decide(api(reviewer), review, "modify").status_code == 400
    assert decide(api(reviewer), review).status_code == 200
    assert decide(api(reviewer2), review).json()["code"] == "already-decided"
    late = held(connection="other")
    Review.objects.filter(pk=late.pk).update(decide_by=timezone.now())
    assert decide(api(reviewer), late).json()["code"] == "review-expired"


def test_api_by_session_needs_csrf(reviewer):
    client = Client(enforce_csrf_checks=True)
    client.force_login(reviewer)
    review = held()

    answer = client.post(
        f"/api/v1/reviews/{review.pk}/decision",
        {"decision": "approve", "reason": "x"},
        content_type="application/json",
    )

    assert answer.status_code == 403
    assert Review.objects.get().status == "pending"
