"""Approvals in force, on the page and over REST: seen, limited, revoked; and reminders before a review expires."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone
from rest_framework.test import APIClient

from approvals.domain.policies import save_policy
from approvals.models import Grant, Policy, Review
from approvals.tasks import remind_reviewers, send_reminder
from tests.approvals.factories import binding, person
from tests.approvals.test_wider_grants import EVERY, approve, claim, held

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.approvals.urls")]


def decide(client, review, **given):
    known = {"decision": "approve", "reason": "yes", "round": review.round}
    return client.post(review.get_absolute_url(), known | given)


def test_reviewer_chooses_how_far_an_approval_reaches(client, reviewer):
    client.force_login(reviewer)
    review = held()

    page = client.get(review.get_absolute_url()).content.decode()
    answer = decide(client, review, scope="tables", minutes=10)

    assert re.findall(r'name="scope" value="(\w+)"', page) == ["once", "shape", "tables", "connection"]
    assert answer.status_code == 303
    grant = Grant.objects.get()
    assert grant.scope == "tables"
    assert 540 < (grant.expires_at - timezone.now()).total_seconds() <= 600


def test_the_chosen_reach_stays_when_a_reason_is_missing(client, reviewer):
    client.force_login(reviewer)

    answer = decide(client, held(), scope="tables", minutes=7, reason=" ")

    assert answer.status_code == 403
    assert re.findall(r'value="(\w+)" checked', answer.text) == ["tables"]
    assert 'value="7"' in answer.text
    assert not Grant.objects.exists()


def test_once_is_all_there_is_without_a_choice(client, reviewer):
    client.force_login(reviewer)
    review = held(replace(EVERY, scopes=("once",)))

    page = client.get(review.get_absolute_url()).content.decode()
    answer = decide(client, review, scope="connection")

    assert 'name="scope"' not in page
    assert (answer.status_code, Review.objects.get().status) == (403, "pending")


def test_approvals_in_force_are_listed_and_revoked(client, reviewer):
    client.force_login(reviewer)
    decide(client, held(), scope="shape", minutes=5)
    grant = Grant.objects.get()

    page = client.get("/reviews/grants/").content.decode()
    answer = client.post(f"/reviews/grants/{grant.pk}/revoke/")

    assert "this statement with other values" in page
    assert "555-0100" not in page  # no literal of the statement
    assert answer.status_code == 303
    assert claim() is None
    assert "Nothing may run without asking" in client.get("/reviews/grants/").content.decode()


def test_strangers_neither_see_nor_revoke(client, reviewer):
    approve(held(), reviewer)
    grant = Grant.objects.get()
    client.force_login(person("outsider", "data-stewards"))

    assert "Nothing may run" in client.get("/reviews/grants/").content.decode()
    assert client.post(f"/reviews/grants/{grant.pk}/revoke/").status_code == 404
    assert client.get(f"/reviews/grants/{grant.pk}/revoke/").status_code == 405


def test_auditors_see_and_change_nothing(client, reviewer):
    approve(held(), reviewer)
    grant = Grant.objects.get()
    client.force_login(person("auditor", "auditors"))

    client.post(f"/reviews/grants/{grant.pk}/revoke/")

    assert not Grant.objects.get().revoked


def test_grants_page_costs_the_same_for_many(client, reviewer, django_assert_max_num_queries):
    client.force_login(reviewer)
    for number in range(6):
        approve(held(parameters=(str(number).encode(), None)), reviewer)

    client.get("/reviews/grants/")  # the first page of a sign-in notes that it began

    with django_assert_max_num_queries(14):
        client.get("/reviews/grants/")


def test_page_tells_what_the_agent_asked_before(client, reviewer):
    approve(held(), reviewer)
    client.force_login(reviewer)

    page = client.get(held(parameters=(b"8", None)).get_absolute_url()).content.decode()

    assert "1 earlier request of demo-agent: 1 approved, 0 denied. 1 of this very shape here." in page


def test_inbox_filters_by_risk_and_age(client, reviewer):
    client.force_login(reviewer)
    review = held()

    assert str(review.pk) in client.get("/reviews/?risk=30").content.decode()
    assert str(review.pk) not in client.get("/reviews/?risk=60").content.decode()
    assert str(review.pk) not in client.get("/reviews/?older_min=5").content.decode()
    Review.objects.update(opened_at=timezone.now() - timedelta(minutes=6))
    assert str(review.pk) in client.get("/reviews/?older_min=5").content.decode()


# --- REST ------------------------------------------------------------------------------------------------------------


def rest(user) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def test_rest_decides_with_a_reach_and_revokes(reviewer):
    review, api = held(), rest(reviewer)

    wide = api.post(
        f"/api/v1/reviews/{review.pk}/decision",
        {"decision": "approve", "reason": "yes", "scope": "shape", "for_s": 60},
        format="json",
    )
    listed = api.get("/api/v1/grants?usable=true").json()["results"]
    revoked = api.post(f"/api/v1/grants/{listed[0]['id']}/revoke")

    assert wide.status_code == 200
    assert (listed[0]["scope"], listed[0]["uses_left"]) == ("shape", 3)
    assert revoked.json()["revoked"] is True
    assert api.get("/api/v1/grants?usable=true").json()["results"] == []
    assert len(api.get("/api/v1/grants").json()["results"]) == 1


def test_rest_refuses_a_reach_the_policy_does_not_permit(reviewer):
    review = held()

    answer = rest(reviewer).post(
        f"/api/v1/reviews/{review.pk}/decision",
        {"decision": "approve", "reason": "yes", "scope": "shape", "for_s": 99999},
        format="json",
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "reach-too-wide")


def test_rest_tells_policy_versions_to_those_who_may_read_them(admin, reviewer):
    policy = Policy(name="writes", connections=["*"], action="deny")
    save_policy(policy=policy, author="ann")

    versions = rest(admin).get("/api/v1/policies/writes/versions").json()

    assert [(v["number"], v["author"], v["document"]["action"]) for v in versions] == [(1, "ann", "deny")]
    assert rest(reviewer).get("/api/v1/policies/writes/versions").status_code == 404


# --- Reminders -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch, settings):
    """Tasks run at once, as a worker would run them."""
    settings.CELERY_TASK_ALWAYS_EAGER = True
    monkeypatch.setattr(send_reminder, "delay", lambda review_id: send_reminder(review_id))
    return lambda: [(message.to[0], message.subject) for message in mail.outbox]


def test_reviewers_are_reminded_once_and_administrators_told(reviewer, reviewer2, admin, sent):
    review = held()
    mail.outbox.clear()
    remind_reviewers()
    assert sent() == []

    Review.objects.filter(pk=review.pk).update(opened_at=timezone.now() - timedelta(hours=4))
    remind_reviewers()
    remind_reviewers()

    subject = "Running out of time: UPDATE on clinic"
    assert sorted(sent()) == [(f"{name}@example.test", subject) for name in ("admin", "reviewer2", "reviewer")]
    bodies = "".join(message.body for message in mail.outbox)
    assert "555-0100" not in bodies
    assert bodies.count("You are told as an administrator") == 1


def test_who_decided_and_what_ended_is_not_reminded(reviewer, sent):
    approve(held(), reviewer)
    mail.outbox.clear()
    Review.objects.update(opened_at=timezone.now() - timedelta(hours=4))

    remind_reviewers()

    assert sent() == []
    assert binding().connection == "clinic"
