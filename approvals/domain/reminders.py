"""Which reviews run out of time, and who is told: once, when a quarter of the time to decide is left."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.db.models import F
from django.db.models.functions import Now

from approvals.domain.reviewers import people_in
from approvals.models import Review

REMIND_IN_LAST = 4  # a quarter


def reviews_to_remind() -> list[UUID]:
    """Pending reviews in the last quarter of their time that nobody was reminded of."""
    waiting = Review.objects.filter(status=Review.Status.PENDING, reminded_at=None, decide_by__gt=Now())
    whole = F("decide_by") - F("opened_at")
    late = waiting.alias(whole=whole).filter(decide_by__lte=Now() + F("whole") / REMIND_IN_LAST)
    return list(late.values_list("pk", flat=True))


def take_reminder(review_id: str) -> Review | None:
    """Take the one reminder of a review that is still pending; None when somebody else has, or it is over."""
    mine = Review.objects.filter(pk=review_id, status=Review.Status.PENDING, reminded_at=None)
    return Review.objects.get(pk=review_id) if mine.update(reminded_at=Now()) == 1 else None


def people_to_remind(review: Review) -> list[AbstractUser]:
    """Its reviewers who have not voted on the current text, and, one step up, the administrators."""
    voted = review.votes.filter(round=review.round).values_list("reviewer", flat=True)
    administrators = get_user_model()._default_manager.filter(is_active=True, is_superuser=True)
    people = {person.pk: person for person in [*people_in(review.reviewer_groups), *administrators]}
    return [person for person in people.values() if person.username not in set(voted)]
