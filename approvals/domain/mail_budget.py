"""How many mails a reviewer gets: up to a number a minute each by itself, what comes beyond in one digest.

Opening and withdrawing requests in a loop would otherwise bury the one that matters. The budget is taken under a lock
of the reviewer's name, so that workers side by side do not each believe there is room.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from approvals.models import Review, ReviewMail

WINDOW = timedelta(minutes=1)
KEPT = timedelta(hours=1)


def take_mail(*, review: Review, reviewer: str) -> bool:
    """True when the mail may be sent now, and is counted; False when it is held for the reviewer's next digest."""
    with transaction.atomic():
        _lock(reviewer)
        mails = ReviewMail.objects.filter(reviewer=reviewer)
        waiting = mails.filter(held=True)
        # Once something is held, everything waits for the digest: otherwise the newest would overtake the oldest.
        full = waiting.exists() or mails.filter(_lately()).count() >= _limit()
        if not (full and waiting.filter(review=review).exists()):
            ReviewMail.objects.create(reviewer=reviewer, review=review, held=full)
        return not full


def reviewers_with_digests() -> list[str]:
    """Whose mails are held and whose last minute has room again."""
    held = ReviewMail.objects.filter(held=True).values_list("reviewer", flat=True).distinct()
    sent = ReviewMail.objects.filter(_lately(), held=False)
    return [name for name in held.order_by("reviewer") if sent.filter(reviewer=name).count() < _limit()]


def take_digest(reviewer: str) -> list[Review]:
    """The reviews that are held back for a reviewer and still wait; counted as one mail and held no more."""
    with transaction.atomic():
        _lock(reviewer)
        held = ReviewMail.objects.filter(reviewer=reviewer, held=True)
        ids = set(held.values_list("review", flat=True))
        held.delete()
        pending = Review.objects.filter(pk__in=ids, status=Review.Status.PENDING, decide_by__gt=timezone.now())
        reviews = list(pending.order_by("decide_by"))
        if reviews:
            ReviewMail.objects.create(reviewer=reviewer, review=reviews[0])
        return reviews


def hold_again(*, reviews: Iterable[Review], reviewer: str) -> None:
    """The digest could not be sent: it is tried again with the next one."""
    ReviewMail.objects.bulk_create(ReviewMail(reviewer=reviewer, review=review, held=True) for review in reviews)


def forget_old_mails() -> None:
    ReviewMail.objects.filter(held=False, at__lt=timezone.now() - KEPT).delete()


def _lately() -> Q:
    """Not what is far in the future: the clock was set back since, and would hold mails for as long as it was ahead."""
    now = timezone.now()
    return Q(at__gt=now - WINDOW, at__lt=now + WINDOW)


def _limit() -> int:
    return int(settings.HOOPWEB_MAX_MAILS_PER_MINUTE)


def _lock(reviewer: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"mail:{reviewer}"])
