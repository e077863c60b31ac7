"""Which reviews run out of time, and who is told: reviewers when a quarter of it is left, others when policies say.

Each review is reminded of once and escalated once; whichever worker takes it with a conditional UPDATE does the
telling. That the others may decide from then on depends on the time alone (`Review.is_escalated`), on no worker.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from approvals.domain.announce import announce_change
from approvals.domain.decide import LAST_PART
from approvals.domain.record import record
from approvals.domain.request import RequireApproval
from approvals.domain.reviewers import administrators, people_in
from approvals.models import Review


def reviews_to_remind() -> list[UUID]:
    """Pending reviews in the last quarter of their time that nobody was reminded of."""
    waiting = Review.objects.filter(status=Review.Status.PENDING, reminded_at=None, decide_by__gt=Now())
    whole = F("decide_by") - F("opened_at")
    late = waiting.alias(whole=whole).filter(decide_by__lte=Now() + F("whole") / LAST_PART)
    return list(late.values_list("pk", flat=True))


def take_reminder(review_id: str) -> Review | None:
    """Take the one reminder of a review that is still pending; None when somebody else has, or it is over."""
    mine = Review.objects.filter(pk=review_id, status=Review.Status.PENDING, reminded_at=None)
    return Review.objects.get(pk=review_id) if mine.update(reminded_at=Now()) == 1 else None


def people_to_remind(review: Review) -> list[AbstractUser]:
    """Its reviewers who have not voted on the current text, and, one step up, the administrators."""
    voted = review.votes.filter(round=review.round).values_list("reviewer", flat=True)
    people = {person.pk: person for person in [*people_in(review.deciding_groups), *administrators()]}
    return [person for person in people.values() if person.username not in set(voted)]


def escalation_moment(decision: RequireApproval, opened_at: datetime) -> datetime | None:
    """When the policy's other groups decide as well; None when it names none. Never before the review is opened."""
    if not decision.escalate_to:
        return None
    whole_s = decision.decide_within_s
    before_s = decision.escalate_before_s or whole_s // LAST_PART
    return opened_at + timedelta(seconds=max(0, whole_s - before_s))


def reviews_to_escalate() -> list[UUID]:
    """Pending reviews whose other groups are to be told now, and have not been."""
    waiting = Review.objects.filter(status=Review.Status.PENDING, escalated_at=None, decide_by__gt=Now())
    return list(waiting.filter(escalate_at__lte=Now()).values_list("pk", flat=True))


def take_escalation(review_id: str) -> Review | None:
    """Take the one escalation of a review that is still pending; None when somebody else has, or it is over."""
    with transaction.atomic():
        mine = Review.objects.filter(pk=review_id, status=Review.Status.PENDING, escalated_at=None)
        if mine.update(escalated_at=Now()) != 1:
            return None
        review = Review.objects.get(pk=review_id)
        record("review.escalated", review, body={"groups": list(review.escalate_to)})
        announce_change(review_id=review.pk, status=review.status)
    return review
