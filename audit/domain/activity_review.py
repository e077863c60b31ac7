"""Which weeks of activity nobody has signed off yet: the queue of the regular review, 45 CFR 164.308(a)(1)(ii)(D).

A week runs from Monday to Monday, UTC. It is due once it is over, something was asked in it, and the sign-offs of the
log do not cover all of it; a week later it is overdue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection

from audit.domain.reports import sign_offs

WEEK = timedelta(days=7)
LOOK_BACK = 26  # weeks: what is older is for an audit, not for a queue
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
_MOST_SIGNED = 1_000

Counts = tuple[int, int, int, int]  # statements, denied, after approval, in an emergency


@dataclass(frozen=True, slots=True)
class DueWeek:
    """A week that waits: what happened in it, and whether somebody signed off a part."""

    since: datetime
    until: datetime
    statements: int
    denied: int
    reviewed: int  # ran after a reviewer's approval
    emergency: int
    partly: bool
    overdue: bool


def due_weeks(*, now: datetime) -> list[DueWeek]:
    """The weeks that wait for a review, oldest first, with what happened in them."""
    waiting = waiting_weeks(now=now)
    if not waiting:
        return []
    counts = _counts(waiting[0], waiting[-1] + WEEK)
    signed = _signed()
    return [_due(week, counts.get(week, (0, 0, 0, 0)), signed, now=now) for week in waiting]


def _due(week: datetime, counts: Counts, signed: list[tuple[datetime, datetime]], *, now: datetime) -> DueWeek:
    statements, denied, reviewed, emergency = counts
    partly = any(since < week + WEEK and until > week for since, until in signed)
    return DueWeek(
        week, week + WEEK, statements, denied, reviewed, emergency, partly, overdue=is_overdue(week, now=now)
    )


def waiting_weeks(*, now: datetime) -> list[datetime]:
    """The Mondays of the weeks that wait, oldest first. Cheap: two queries, whatever the log holds."""
    signed, last = _signed(), _monday(now)
    weeks = [last - WEEK * back for back in range(LOOK_BACK, 0, -1)]
    unsigned = [week for week in weeks if not _covered(week, week + WEEK, signed)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT week FROM unnest(%s::timestamptz[]) AS week WHERE EXISTS (SELECT FROM audit_statementrecord"
            " WHERE at >= week AND at < week + interval '7 days') ORDER BY week",
            [unsigned],
        )
        return [week for (week,) in cursor.fetchall()]


def is_overdue(week: datetime, *, now: datetime) -> bool:
    return now - (week + WEEK) >= WEEK


def _monday(moment: datetime) -> datetime:
    """The beginning of the week that holds `moment`."""
    return _MONDAY + (moment - _MONDAY) // WEEK * WEEK


def _signed() -> list[tuple[datetime, datetime]]:
    """The periods that were signed off, by their beginning."""
    found = []
    for row in sign_offs(_MOST_SIGNED):
        found.append((datetime.fromisoformat(row["since"]), datetime.fromisoformat(row["until"])))
    return sorted(found)


def _covered(since: datetime, until: datetime, signed: list[tuple[datetime, datetime]]) -> bool:
    """Whether the periods cover everything from `since` up to `until`, one taking over from the other."""
    for first, last in signed:
        if first <= since:
            since = max(since, last)
    return since >= until


def _counts(since: datetime, until: datetime) -> dict[datetime, Counts]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT date_bin('7 days', at, %s), count(*), count(*) FILTER (WHERE status = 'denied'),"
            " count(*) FILTER (WHERE review > ''), count(*) FILTER (WHERE emergency > '')"
            " FROM audit_statementrecord WHERE at >= %s AND at < %s GROUP BY 1",
            [_MONDAY, since, until],
        )
        return {row[0]: row[1:] for row in cursor.fetchall()}
