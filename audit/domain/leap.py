"""Whether a clock may have leapt ahead, as the log's checkpoints tell.

What is destroyed by age is gone when a clock that was ahead is set right, and what was forgotten because it was over
would be good again: a withdrawn token, an assertion that was used. Checkpoints are signed every minute. Where the days
before now have none, the clock leapt or nothing ran for as long, and a day of checkpoints settles which.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from audit.models import Checkpoint

SETTLED = timedelta(days=1)
WITHIN = timedelta(days=7)
LEAPT = "nothing was signed a day ago, or in the week before: the clock may have leapt ahead"


def may_have_leapt(*, now: datetime | None = None) -> bool:
    """True unless something was signed a day ago, or up to a week before that."""
    since = (now or datetime.now(UTC)) - SETTLED
    newest = Checkpoint.objects.filter(signed_at__lte=since).order_by("-id").values_list("signed_at", flat=True).first()
    return newest is None or newest < since - WITHIN
