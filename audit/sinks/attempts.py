"""How an attempt went, written down: the same for sinks and anchors."""

from __future__ import annotations

import logging
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from audit.models_delivery import Delivery
from audit.sinks.sending import NotDelivered

logger = logging.getLogger(__name__)

BACK_OFF_FIRST_S = 2.0
BACK_OFF_MOST_S = 300.0
_JITTER = 0.2  # so that several of one receiver do not come back in step
TELL_AFTER = 5  # failures in a row, a minute or so: then the log says that delivery has stopped


def may_try(now: datetime) -> Q:
    """Whom nobody asked to wait any longer. A wait that is longer than any is from before the clock was set back."""
    longest = timedelta(seconds=BACK_OFF_MOST_S * (1 + _JITTER))
    return Q(next_try_at=None) | Q(next_try_at__lte=now) | Q(next_try_at__gt=now + longest)


def succeeded(row: Delivery, *, cursor: int, **fields: Any) -> None:
    """Move the cursor. The log says so when it had said that delivery stopped."""
    type(row)._default_manager.filter(pk=row.pk).update(
        cursor=cursor, delivered_at=datetime.now(UTC), failures=0, failing_since=None, next_try_at=None, problem="",
        **fields,
    )  # fmt: skip
    if row.failures >= TELL_AFTER:
        _tell(row, f"{type(row).__name__.lower()}.resumed", {"size": cursor})


def failed(row: Delivery, problem: NotDelivered, **fields: Any) -> None:
    """Leave the cursor, and wait before the next attempt: longer every time, or as long as the receiver asked.

    Where some of several receivers have it, the log says so at once: they are not asked again soon.
    """
    failures, now = max(row.failures + 1, TELL_AFTER if problem.partly else 0), datetime.now(UTC)
    pause_s = max(problem.retry_after_s, BACK_OFF_FIRST_S * 2 ** min(failures - 1, 10))
    pause_s = min(pause_s, BACK_OFF_MOST_S) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    type(row)._default_manager.filter(pk=row.pk).update(
        failures=failures,
        failing_since=row.failing_since or now,
        next_try_at=now + timedelta(seconds=pause_s),
        problem=str(problem)[:256],
        **fields,
    )
    logger.warning("not delivered: to=%s failures=%s problem=%s", row.name, failures, problem)
    if row.failures < TELL_AFTER <= failures:
        _tell(row, f"{type(row).__name__.lower()}.failing", {"size": row.cursor, "reason": str(problem)[:256]})


def _tell(row: Delivery, kind: str, body: dict[str, Json]) -> None:
    append_entries([Entry(kind=kind, body={"subject": "hoopweb", type(row).__name__.lower(): row.name, **body})])
