"""The entries about statements, found without reading the sessions they were asked in: one may hold millions."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import QuerySet

from audit.domain.kinds import KINDS
from audit.domain.statement_rows import CHANGES
from audit.models import LogEntry, StatementRecord

# What can be said of a statement after it ended. Few: an index has these kinds (audit.models).
LATER = tuple(kind for kind in KINDS if kind not in CHANGES and not kind.startswith("session."))


def entries_about(statements: Collection[StatementRecord]) -> tuple[QuerySet[LogEntry], QuerySet[LogEntry]]:
    """Of statements of one session: what they went through, and what was said of them then or later. Each by place."""
    if not statements:
        return LogEntry.objects.none(), LogEntry.objects.none()
    names = [statement.pk for statement in statements]
    low, high = min(s.first_seq for s in statements), max(s.last_seq for s in statements)
    session = next(iter(statements)).session_id
    entries = LogEntry.objects.filter(session_id=session, statement_id__in=names).order_by("seq")
    # Told a place to look from, the planner would take the session's entries from there on, all of them.
    return entries.filter(seq__range=(low, high)).exclude(kind__in=LATER), entries.filter(kind__in=LATER)
