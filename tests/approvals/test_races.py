"""Races on a real PostgreSQL, with real threads: one outcome, whatever comes in whatever order."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from approvals.domain.dossier import current_statement
from approvals.domain.grant import claim_grant
from approvals.domain.refusal import Refusal
from approvals.domain.request import ReviewerGroup
from approvals.domain.review import decide_review, expire_due_reviews, withdraw_review
from approvals.models import Grant, Review
from tests.approvals.factories import UPDATE, binding, held, person

pytestmark = pytest.mark.django_db(transaction=True)

TERMINAL = {"approved", "denied", "expired", "withdrawn"}


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Run the calls in threads that start together; return their results or Refusals in order."""
    gate = threading.Barrier(len(calls))
    results: list[object] = [None] * len(calls)

    def run(index: int, call: Callable[[], object]) -> None:
        try:
            gate.wait(60)
            results[index] = call()
        except Refusal as refused:
            results[index] = refused
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def entries(kind: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit_logentry WHERE kind = %s", [kind])
        return cursor.fetchone()[0]


def decide(review, reviewer, decision):
    return decide_review(review=review, reviewer=reviewer, decision=decision, reason="race")


def test_fifty_claims_of_a_one_use_grant_give_one_execution(reviewer):
    decide(held(), reviewer, "approve")

    claims = at_once(*[lambda n=n: claim_grant(binding=binding(), statement_id=f"s{n}") for n in range(50)])

    assert len([claim for claim in claims if claim is not None]) == 1
    assert entries("grant.claimed") == 1
    assert Grant.objects.get().uses_left == 0


def test_fifty_claims_of_a_three_use_grant_give_three(reviewer):
    decide(held(), reviewer, "approve")
    Grant.objects.update(uses_left=3)

    claims = at_once(*[lambda n=n: claim_grant(binding=binding(), statement_id=f"s{n}") for n in range(50)])

    assert len([claim for claim in claims if claim is not None]) == 3


def test_ten_connections_open_one_review():
    reviews = at_once(*[held] * 10)

    assert len({review.pk for review in reviews}) == 1
    assert Review.objects.get().holders == 10
    assert entries("review.opened") == 1


def test_two_last_votes_at_once_meet_the_quorum_once(reviewer, reviewer2):
    review = held(groups=(ReviewerGroup("privacy-officers", 2),))

    at_once(lambda: decide(review, reviewer, "approve"), lambda: decide(review, reviewer2, "approve"))

    assert Review.objects.get().status == "approved"
    assert Grant.objects.count() == 1


def test_one_person_voting_ten_times_at_once_counts_once(reviewer):
    review = held(groups=(ReviewerGroup("privacy-officers", 2),))

    at_once(*[lambda: decide(review, reviewer, "approve")] * 10)

    assert Review.objects.get().status == "pending"
    assert review.votes.count() == 1


@pytest.mark.parametrize("order", list(itertools.permutations(["approve", "deny", "expire", "withdraw"])))
@pytest.mark.by_turns(2)
def test_endings_in_any_order_give_the_first_one(order, reviewer, reviewer2):
    review = held()
    calls = endings(review, reviewer, reviewer2)

    for name in order:
        with contextlib.suppress(Refusal):
            calls[name]()

    expected = {"approve": "approved", "deny": "denied", "expire": "expired", "withdraw": "withdrawn"}[order[0]]
    assert Review.objects.get().status == expected
    assert Grant.objects.count() == (1 if expected == "approved" else 0)


@pytest.mark.parametrize("attempt", range(6))
def test_endings_at_once_give_one(attempt, reviewer, reviewer2):
    review = held()
    calls = endings(review, reviewer, reviewer2)

    at_once(*calls.values(), calls["withdraw"], calls["expire"])

    status = Review.objects.get().status
    assert status in TERMINAL
    assert Grant.objects.count() == (1 if status == "approved" else 0)
    ended = entries("review.decided") + entries("review.expired") + entries("review.withdrawn")
    assert ended == 1


@pytest.mark.parametrize("attempt", range(4))
def test_a_change_and_approvals_at_once_approve_one_text(attempt, reviewer, reviewer2):
    """Whichever comes first: what may run is the text that its approver saw."""
    review = held()
    changed = "UPDATE patients SET phone = NULL WHERE id = 7"

    def change():
        return decide_review(
            review=review, reviewer=reviewer2, decision="modify", reason="race", statement=changed, seen_round=1
        )

    def approve(seen_round):
        return decide_review(review=review, reviewer=reviewer, decision="approve", reason="race", seen_round=seen_round)

    at_once(*[change] * 3, *[lambda: approve(1)] * 3, *[lambda: approve(2)] * 3)

    vote = review.votes.get()
    text = current_statement(Review.objects.get())
    assert text == (changed if vote.decision == "modify" else UPDATE)
    assert (Grant.objects.count(), entries("review.decided")) == (1, 1)


def test_expiry_and_approval_at_the_deadline_give_one(reviewer):
    review = held()
    Review.objects.update(decide_by=timezone.now() + timedelta(milliseconds=30))

    at_once(*[expire_due_reviews] * 3, lambda: decide(review, reviewer, "approve"), *[expire_due_reviews] * 3)

    while Review.objects.get().status == "pending":
        expire_due_reviews()
    assert Grant.objects.count() == (1 if Review.objects.get().status == "approved" else 0)


def endings(review, reviewer, reviewer2):
    def expire():
        Review.objects.filter(pk=review.pk).update(decide_by=timezone.now() - timedelta(seconds=1))
        expire_due_reviews()

    return {
        "approve": lambda: decide(review, reviewer, "approve"),
        "deny": lambda: decide(review, reviewer2, "deny"),
        "expire": expire,
        "withdraw": lambda: withdraw_review(review_id=str(review.pk)),
    }


def test_person_factory_makes_active_people(db):
    assert person("x").is_active
