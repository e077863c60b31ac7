"""A decision sent twice with one key is taken once; what it was answered with is for those who may still read it."""

from __future__ import annotations

import pytest

from approvals.models import Grant, Vote
from tests.approvals.factories import held
from tests.approvals.test_api import api

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
KEYED = {"Idempotency-Key": "6f1c"}


def decide(user, review, **more):
    body = {"decision": "approve", "reason": "looked at it", **more}
    return api(user).post(f"/api/v1/reviews/{review.pk}/decision", body, format="json", headers=KEYED)


def test_decision_is_taken_once_and_answered_alike(reviewer):
    review = held()
    first = decide(reviewer, review)

    again = decide(reviewer, review)

    assert (first.status_code, again.status_code, again["Idempotency-Replayed"]) == (200, 200, "true")
    assert again.json() == first.json()
    assert (Vote.objects.count(), Grant.objects.count()) == (1, 1)
    body = {"decision": "approve", "reason": "x"}
    plain = api(reviewer).post(f"/api/v1/reviews/{review.pk}/decision", body, format="json")
    assert plain.status_code == 403  # the control: without a key it is a second decision


def test_other_decision_with_the_key_is_refused(reviewer):
    review = held()
    decide(reviewer, review)

    assert decide(reviewer, review, decision="deny").status_code == 422
    assert decide(reviewer, held()).status_code == 422


def test_corrected_request_may_keep_its_key(reviewer):
    review = held()

    assert decide(reviewer, review, reason="").status_code == 400
    assert decide(reviewer, review).status_code == 200


def test_answer_is_not_for_who_left_the_group(reviewer):
    review = held()
    assert decide(reviewer, review).status_code == 200
    reviewer.groups.clear()

    answer = decide(reviewer, review)

    assert answer.status_code == 404
