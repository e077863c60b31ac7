"""What a data-plane process puts right before it serves: executions whose end nobody recorded."""

from __future__ import annotations

import logging

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.liveness import is_alive
from audit.models import SessionRecord, StatementRecord

logger = logging.getLogger(__name__)

_BATCH = 500


def finish_unfinished() -> int:
    """Record as `unfinished` every statement that a dead process had authorised, and close its sessions.

    Whether such a statement ran, and what it returned, is not known: the record says exactly that. Statements held for
    a reviewer are left alone, since another process may go on with them. Returns how many statements were marked.
    """
    dead = [gateway for gateway in _suspects() if not is_alive(gateway)]
    running = StatementRecord.objects.filter(status=StatementRecord.Status.RUNNING, gateway__in=dead).order_by("id")
    count = 0
    for statement in running.iterator(_BATCH):
        append_entries([_unfinished(statement)])
        count += 1
    for session in SessionRecord.objects.filter(closed_at=None, gateway__in=dead).iterator(_BATCH):
        append_entries([_abandoned(session)])
    if count:
        logger.warning("statements of ended processes marked unfinished: statements=%s", count)
    return count


def _suspects() -> set[str]:
    running = StatementRecord.objects.filter(status=StatementRecord.Status.RUNNING).values_list("gateway", flat=True)
    opened = SessionRecord.objects.filter(closed_at=None).values_list("gateway", flat=True)
    return {*running.distinct(), *opened.distinct()}


def _unfinished(statement: StatementRecord) -> Entry:
    return Entry(
        kind="statement.completed",
        session_id=statement.session_id,
        statement_id=statement.id,
        body={
            "subject": statement.subject,
            "actor": statement.actor,
            "owner": statement.owner,
            "connection": statement.connection,
            "protocol": statement.protocol,
            "kind": statement.kind,
            "status": "unfinished",
            "rows": 0,
            "bytes": 0,
            "error": "gateway-ended",
            "ended_gateway": statement.gateway,
            "command_tag": "",
            "recording": "",
            "masked": [],
        },
    )


def _abandoned(session: SessionRecord) -> Entry:
    return Entry(
        kind="session.closed",
        session_id=session.id,
        body={
            "subject": session.subject,
            "actor": session.actor,
            "owner": session.owner,
            "connection": session.connection,
            "protocol": session.protocol,
            "reason": "gateway-ended",
            "ended_gateway": session.gateway,
        },
    )
