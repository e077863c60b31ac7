"""Doors against each other: chat, mail, page and REST at once; forged posts; people and texts that changed."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from approvals.channels.slack import APPROVE, DENY
from approvals.domain import refusal
from approvals.domain.channels import SECRET, URL, set_channel_secrets
from approvals.domain.grant import claim_grant
from approvals.domain.links import issue_link
from approvals.domain.refusal import Refusal
from approvals.domain.request import ReviewerGroup
from approvals.domain.review import decide_review
from approvals.models import Channel, Grant, Review, Vote
from approvals.urls import urlpatterns
from tests.approvals.channels.test_slack import SIGNING, pressed, send
from tests.approvals.factories import UPDATE, binding, held
from tests.approvals.test_races import at_once

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.approvals.urls")]
BETTER = "UPDATE patients SET phone = NULL WHERE id = 7"
WORSE = "UPDATE patients SET phone = NULL"


@pytest.fixture
def slack(reviewer):
    made = Channel(name="officers", kind="slack", people={"T1/U1": "reviewer"})
    set_channel_secrets(channel=made, values={URL: "https://hooks.slack.example/x", SECRET: SIGNING})
    made.save()


def signed_in(user, **known) -> Client:
    client = Client(**known)
    client.force_login(user)
    return client


def doors(review, reviewer):
    """Every way one person may say yes or no, ready to be gone at the same moment."""
    link = reverse("approvals:link", args=[issue_link(review=review, reviewer=reviewer)])
    page, mail, rest = signed_in(reviewer), signed_in(reviewer), APIClient()
    rest.force_authenticate(reviewer)
    form = {"reason": "looked at it", "round": 1}
    return {
        "page": lambda decision: page.post(review.get_absolute_url(), {**form, "decision": decision}),
        "mail": lambda decision: mail.post(link, {**form, "decision": decision}),
        "rest": lambda decision: rest.post(
            f"/api/v1/reviews/{review.pk}/decision", {**form, "decision": decision}, format="json"
        ),
        "slack": lambda decision: send(pressed(review, APPROVE if decision == "approve" else DENY)),
    }


@pytest.mark.parametrize("door", ["page", "mail", "rest", "slack"])
def test_control_every_door_decides_by_itself(door, slack, reviewer):
    review = held()

    doors(review, reviewer)[door]("approve")

    assert Review.objects.get().status == "approved"
    assert Grant.objects.count() == 1


@pytest.mark.parametrize("attempt", range(3))
def test_one_person_through_every_door_at_once_votes_once(attempt, slack, reviewer):
    review = held(groups=(ReviewerGroup("privacy-officers", 2),))
    ways = doors(review, reviewer)

    at_once(*(lambda go=go: go("approve") for go in ways.values()))

    assert Vote.objects.count() == 1
    assert Review.objects.get().status == "pending"  # a quorum of two is not one person twice
    assert not Grant.objects.exists()


@pytest.mark.parametrize("attempt", range(3))
def test_yes_in_chat_and_no_in_mail_at_once_give_one_end(attempt, slack, reviewer, reviewer2):
    review = held()
    mine, others = doors(review, reviewer), doors(review, reviewer2)

    at_once(
        lambda: mine["slack"]("approve"),
        lambda: mine["mail"]("deny"),
        lambda: others["page"]("deny"),
        lambda: others["rest"]("approve"),
    )

    status = Review.objects.get().status
    assert status in {"approved", "denied"}
    assert Vote.objects.count() == 1
    assert Grant.objects.count() == (1 if status == "approved" else 0)


def test_mail_link_is_spent_with_the_decision_it_made_and_with_no_other(slack, reviewer):
    """Pressing in chat first leaves nothing for the link to decide, twice as little for a second press of the form."""
    review = held()
    ways = doors(review, reviewer)
    ways["slack"]("deny")

    answers = [ways["mail"]("approve"), ways["mail"]("approve"), ways["page"]("approve")]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert Review.objects.get().status == "denied"
    assert not Grant.objects.exists()


def test_two_changes_at_once_leave_one_text_and_one_approval(reviewer, reviewer2):
    """Each saw round 1: the second must look at the first one's text before anything of theirs counts."""
    review = held()

    outcomes = at_once(
        lambda: decide_review(
            review=review, reviewer=reviewer, decision="modify", reason="r", statement=BETTER, seen_round=1
        ),
        lambda: decide_review(
            review=review, reviewer=reviewer2, decision="modify", reason="r", statement=WORSE, seen_round=1
        ),
    )

    (refused,) = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert refused.code in {refusal.TEXT_CHANGED, refusal.ALREADY_DECIDED}
    kept = Review.objects.get()
    assert (kept.status, kept.round) == ("approved", 2)
    assert kept.modified_by == ("reviewer" if isinstance(outcomes[1], Refusal) else "reviewer2")
    assert Grant.objects.count() == 1


@pytest.mark.parametrize("change", ["disabled", "left the group", "became the owner"])
def test_form_opened_in_time_and_sent_too_late_changes_nothing(change, reviewer):
    review = held()
    client = signed_in(reviewer)
    assert "data-decide" in client.get(review.get_absolute_url()).text  # control: the form was offered
    if change == "disabled":
        reviewer.is_active = False
        reviewer.save()
    elif change == "left the group":
        reviewer.groups.clear()
    else:
        Review.objects.update(owner="reviewer")

    client.post(review.get_absolute_url(), {"decision": "approve", "reason": "yes", "round": 1})

    assert Review.objects.get().status == "pending"
    assert not Vote.objects.exists()


def test_approval_before_somebody_left_does_not_complete_a_quorum_afterwards(reviewer, reviewer2):
    review = held(groups=(ReviewerGroup("privacy-officers", 2),))
    decide_review(review=review, reviewer=reviewer, decision="approve", reason="yes")
    reviewer.groups.set([Group.objects.get_or_create(name="nurses")[0]])

    decide_review(review=review, reviewer=reviewer2, decision="approve", reason="yes")

    assert Review.objects.get().status == "pending"


# --- forged posts ----------------------------------------------------------------------------------------------------


def posts(review, reviewer) -> dict[str, tuple[str, dict[str, object]]]:
    """Every address of the reviewers' pages that takes a POST, with a form that would do something."""
    form = {"decision": "approve", "reason": "yes", "round": 1}
    nobody = "00000000-0000-4000-8000-000000000000"
    link = issue_link(review=review, reviewer=reviewer)
    return {
        "review": (review.get_absolute_url(), form),
        "link": (reverse("approvals:link", args=[link]), form),
        "analysis": (reverse("approvals:analysis", args=[review.pk]), {"statement": BETTER}),
        "revoke": (reverse("approvals:revoke", args=[nobody]), {}),
        "simulator": (reverse("approvals:simulator"), {"draft": "x"}),
        "emergencies": (reverse("approvals:emergencies"), {"reason": "x"}),
        "emergency": (reverse("approvals:emergency", args=[nobody]), {"reason": "x"}),
        "emergency-texts": (reverse("approvals:emergency-texts", args=[nobody]), {}),
        "emergency-end": (reverse("approvals:emergency-end", args=[nobody]), {}),
    }


NAMES = [
    *("review", "link", "analysis", "revoke", "simulator"),
    *("emergencies", "emergency", "emergency-texts", "emergency-end"),
]


@pytest.mark.parametrize("name", NAMES)
def test_form_of_another_site_is_refused_everywhere(name, reviewer):
    """The cookie comes along by itself, the token does not."""
    review = held()
    address, form = posts(review, reviewer)[name]

    forged = signed_in(reviewer, enforce_csrf_checks=True).post(address, form, headers={"Origin": "https://evil.test"})

    assert forged.status_code == 403
    assert b"CSRF" in forged.content or b"csrf" in forged.content
    assert not Vote.objects.exists()


def test_every_address_that_takes_a_post_is_among_those_tried():
    reading = {"inbox", "grants"}
    signed = {"slack"}  # signed by Slack, no cookie is read: tests.approvals.channels.test_slack
    assert {str(pattern.name) for pattern in urlpatterns} - reading - signed == set(NAMES)


def test_rest_decides_nothing_with_a_cookie_alone(reviewer):
    review = held()
    client = signed_in(reviewer, enforce_csrf_checks=True)

    forged = client.post(
        f"/api/v1/reviews/{review.pk}/decision",
        urlencode({"decision": "approve", "reason": "yes", "round": 1}),
        content_type="application/x-www-form-urlencoded",
    )

    assert forged.status_code in {401, 403, 415}
    assert not Vote.objects.exists()


# --- the statement that runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        UPDATE.replace("patients", "p\u0430tients"),
        UPDATE.replace(" ", "\u00a0", 1),
        UPDATE + "\u200b",
        UPDATE + " ",
        UPDATE.replace("UPDATE", "update"),
        UPDATE.replace("7", "7 -- \r\n"),
    ],
)
def test_approval_of_one_text_is_none_of_a_lookalike(asked, reviewer):
    decide_review(review=held(), reviewer=reviewer, decision="approve", reason="yes")

    assert claim_grant(binding=binding(statement=asked), statement_id="s1") is None
    assert claim_grant(binding=binding(), statement_id="s2") is not None  # control
