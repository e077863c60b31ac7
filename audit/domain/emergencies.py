"""Which sessions hold statements that ran under an emergency access (45 CFR 164.312(a)(2)(ii))."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, QuerySet

from audit.models import SessionRecord, StatementRecord


def with_emergencies(sessions: QuerySet[SessionRecord]) -> QuerySet[SessionRecord]:
    """Each session with `emergency`: whether any of its statements ran under one. Answered by a partial index."""
    ran = StatementRecord.objects.filter(session_id=OuterRef("pk"), emergency__gt="")
    return sessions.annotate(emergency=Exists(ran))
