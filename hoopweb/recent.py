"""What the console's first page and metrics look back over: a day, or as much of it as may be read at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from audit.domain.places import not_before
from audit.models import LogEntry, StatementRecord

WINDOW = timedelta(hours=24)
MOST_STATEMENTS = 50_000  # some tenths of a second


@dataclass(frozen=True, slots=True)
class Recent:
    """`since` when; `statements` there were since then, and `said` how a person would call that."""

    since: datetime
    statements: int
    said: str
    counted: str


def recent_statements(now: datetime) -> Recent:
    """Those of a day, or the newest of them where a day has more."""
    day = StatementRecord.objects.filter(at__gte=now - WINDOW)
    first_left_out = day.order_by("-at", "-id").values_list("at", flat=True)[MOST_STATEMENTS : MOST_STATEMENTS + 1]
    for moment in first_left_out:
        said = f"in the newest {MOST_STATEMENTS:,} statements"
        return Recent(moment, MOST_STATEMENTS, said, f"more than {MOST_STATEMENTS:,} statements")
    count = day.count()
    return Recent(now - WINDOW, count, "in 24 hours", f"{count} statements")


def failures_since(moment: datetime) -> int:
    """How many were refused before any session began; those from before are not looked at."""
    refused = LogEntry.objects.filter(kind="authentication.failed", seq__gt=not_before(moment))
    return refused.filter(at__gte=moment).count()
