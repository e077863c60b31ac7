"""Chunks of recordings lie in partitions by the month their recording began in, so that a purge empties whole ones.

As with texts (audit.domain.partitions): deleting a month of results would write every row once more and leave the
pages to a vacuum, emptying a partition unlinks files. Here the place in the log is not known when the first chunk is
stored, so months count. The first partition holds what was there before there were months. Names are our tables' own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from audit.domain.exclusive import alone
from audit.domain.partitions import attach_partition, drop_if_empty, empty_but_for, partition_bounds

CHUNKS = "audit_recordingchunk"
AHEAD = timedelta(days=45)
# Below it what is due goes by the day, row by row: whoever keeps results for a week does not mean a month.
LEAST_DAYS = 300
_LOCK = 0x686F6F70_6D6F6E74
_BOUND = re.compile(r"FROM \((?:MINVALUE|'([^']+)')\) TO \('([^']+)'\)")


@dataclass(frozen=True, slots=True)
class Month:
    """Chunks of recordings that began from `low` (None: ever) up to, not including, `high`."""

    table: str
    low: datetime | None
    high: datetime


def months() -> list[Month]:
    """The partitions that have bounds, oldest first."""
    found = [(name, _BOUND.search(bound)) for name, bound in partition_bounds(CHUNKS)]
    parts = [Month(name, _moment(bound[1]), _expected(bound[2])) for name, bound in found if bound is not None]
    return sorted(parts, key=lambda part: part.high)


def extend_months(*, now: datetime | None = None) -> int:
    """Make what the next weeks need. Returns how many were made; one that cannot be made now is made the next time."""
    with alone(_LOCK) as mine:  # two checks may begin in one moment
        return _extend(now or datetime.now(UTC)) if mine else 0


def _extend(now: datetime) -> int:
    until = now + AHEAD
    low = max((part.high for part in months()), default=_month_of(now))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT max(at) FROM {CHUNKS}_rest")  # noqa: S608
        (strayed,) = cursor.fetchone()
    if strayed is not None and strayed >= low:
        low = _next_month(strayed)  # what found no partition stays in the default one
    made = 0
    while low < until:
        high = _next_month(low)
        bounds = f"FROM ('{low.isoformat()}') TO ('{high.isoformat()}')"
        if not attach_partition(CHUNKS, f"{CHUNKS}_p{low:%Y%m}", bounds):
            break
        low, made = high, made + 1
    return made


def purge_moment(until: datetime, *, days: int) -> datetime:
    """Up to when a purge goes that could go to `until`: not into a month that is soon due as a whole."""
    if days < LEAST_DAYS:
        return until
    return next((part.low for part in months() if part.low is not None and part.low <= until < part.high), until)


def empty_month(part: Month, *, stays: str, values: Sequence[Any]) -> bool:
    """Empty it but for chunks whose recording `r` `stays`, if those are few. Says whether it did."""
    kept = f"t.recording_id IN (SELECT r.id FROM audit_recording AS r WHERE {_WITHIN} AND {stays})"  # noqa: S608
    return empty_but_for(part.table, kept=kept, values=[part.low, part.low, part.high, *values])


def drop_empty_months(*, before: datetime) -> None:
    """Drop those of the past that hold nothing. One that is in use is dropped another time."""
    for part in months():
        if part.high <= before:
            drop_if_empty(part.table)


_WITHIN = "(%s::timestamptz IS NULL OR r.created_at >= %s) AND r.created_at < %s"


def _month_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(moment: datetime) -> datetime:
    return _month_of(_month_of(moment) + timedelta(days=32))


def _moment(text: str | None) -> datetime | None:
    return _expected(text) if text else None


def _expected(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
