"""The ways out of `pending`: each one conditional UPDATE under the review's row lock, announced after its commit."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from approvals.domain import refusal
from approvals.domain.announce import announce_change, announce_outcome
from approvals.domain.clock import ClockTimestamp
from approvals.domain.record import record
from approvals.domain.refusal import Refusal
from approvals.models import Review

Status = Review.Status


def withdraw_review(*, review_id: str) -> None:
    """A client stopped waiting. The last holder to leave withdraws the review, if it is still pending."""
    with transaction.atomic():
        review = Review.objects.select_for_update().filter(pk=review_id, status=Status.PENDING).first()
        if review is None:
            return
        if review.holders > 1:
            Review.objects.filter(pk=review.pk).update(holders=F("holders") - 1)
        elif leave_pending(review, Status.WITHDRAWN):
            record("review.withdrawn", review)


def expire_due_reviews() -> int:
    """End every review whose time to decide is over; return how many this call ended."""
    due = Review.objects.filter(status=Status.PENDING, decide_by__lte=timezone.now()).values_list("pk", flat=True)
    return sum(expire_if_due(review_id) for review_id in due)


def must_leave(review: Review, status: Review.Status) -> None:
    """`leave_pending` by a decision. Raises Refusal when it comes too late."""
    if not leave_pending(review, status):
        raise Refusal(refusal.EXPIRED, "nobody decided in time; the request has expired")


def leave_pending(review: Review, status: Review.Status) -> bool:
    """The only way out of `pending`. False when the review left by another door, or its time says otherwise."""
    pending = Review.objects.filter(pk=review.pk, status=Status.PENDING)
    if status == Status.EXPIRED:
        pending = pending.filter(decide_by__lte=ClockTimestamp())
    elif status != Status.WITHDRAWN:
        pending = pending.filter(decide_by__gt=ClockTimestamp())
    if pending.update(status=status, decided_at=ClockTimestamp()) != 1:
        return False
    review.refresh_from_db(fields=["status", "decided_at"])
    announce_change(review_id=review.pk, status=status.value)
    announce_outcome(review_id=review.pk)
    return True


def expire(review: Review) -> bool:
    """Under the row's lock: whether it was this call that ended it."""
    if not leave_pending(review, Status.EXPIRED):
        return False
    record("review.expired", review)
    return True


def expire_if_due(review_id: UUID) -> bool:
    """Whether its time was over, and this call ended it."""
    with transaction.atomic():
        review = Review.objects.select_for_update().filter(pk=review_id, status=Status.PENDING).first()
        return review is not None and review.is_overdue and expire(review)
