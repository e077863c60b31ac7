"""Where in the log a moment is.

Entries stand in the order they were taken in, which is nearly that of their moments: clocks differ, and what a process
journaled comes later. Asked for the first entry since some moment, or for the last before it, the planner reads the
log from one of its ends; a few looks at single entries say about where it is.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection

from audit.models import LogEntry

# How far clocks differ at most, and how long entries are on their way while gateway and control database answer.
ASTRAY = timedelta(hours=1)
# After these come entries of any age: what processes left that had died.
_RECOVERED = ("journal.recovered", "journal.damaged")


def place_about(moment: datetime) -> int:
    """How many of the log's first entries are older, as if clocks never went back."""
    with connection.cursor() as cursor:
        cursor.execute(_HALVING, [moment])
        return int(cursor.fetchone()[0])


# Between a place that is older and one that is not, half as far apart with every look at the entry in their middle.
_HALVING = (
    "WITH RECURSIVE looks(older, newer) AS ("
    " SELECT 0::bigint, 1 + coalesce((SELECT size FROM audit_loghead ORDER BY after DESC LIMIT 1), 0) UNION ALL"
    " SELECT CASE WHEN is_older THEN middle ELSE older END, CASE WHEN is_older THEN newer ELSE middle END FROM ("
    "  SELECT older, newer, middle, coalesce((SELECT at FROM audit_logentry WHERE seq = middle) < %s, false)"
    "  AS is_older FROM (SELECT older, newer, (older + newer) / 2 AS middle FROM looks WHERE newer - older > 1) AS pair"
    " ) AS look) SELECT max(older) FROM looks"
)


def not_before(moment: datetime) -> int:
    """A place all entries since `moment` stand behind."""
    return place_about(moment - ASTRAY)


def not_behind(moment: datetime) -> int:
    """A place no entry from before `moment` stands behind, what was recovered since included."""
    place = place_about(moment + ASTRAY) + 1
    recovered = LogEntry.objects.filter(kind__in=_RECOVERED, seq__gt=place).order_by("-seq")
    return max([place, *recovered.values_list("seq", flat=True)[:1]])
