"""What a data-plane process puts right of others that died: journals, and executions whose end nobody recorded."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Mapping
from datetime import timedelta
from itertools import islice

from django.conf import settings
from django.db.models import Max

from audit.domain.append import append_entries
from audit.domain.contents import SETTLING_S
from audit.domain.entry import Entry, Json
from audit.domain.exclusive import in_turn
from audit.domain.findings import RECORDING_LOST
from audit.domain.journaled import recover_journals
from audit.domain.liveness import is_alive
from audit.domain.lost_journals import report_lost_journals
from audit.models import Recording, SessionRecord, StatementRecord

logger = logging.getLogger(__name__)

_BATCH = 500
_SETTLING = 0x686F6F70_73657474


def take_in_journals() -> None:
    """Before a process serves: take in what dead ones on this machine journaled, and tell which journals are gone."""
    with in_turn(_SETTLING):
        recover_journals(settings.HOOPWEB_JOURNAL_DIR)
        report_lost_journals(settings.HOOPWEB_JOURNAL_DIR)


def seem_dead() -> set[str]:
    """Processes whose statements run or whose sessions are open, and who are not connected now.

    Not dead for sure: a database that was away has forgotten everybody for a second.
    """
    return {gateway for gateway in _suspects() if not is_alive(gateway)}


def finish_unfinished(among: Collection[str]) -> int:
    """Take in dead processes' journals, record as `unfinished` what they had authorised, and close their sessions.

    Dead are those of `among` that are not connected now.
    Whether such a statement ran, and what it returned, is not known: the record says exactly that. Statements held for
    a reviewer are left alone, since another process may go on with them. Returns how many statements were marked.

    Processes that start together take turns: each would mark the same statements and close the same sessions, and one
    would call unfinished what ended in a journal that another is still taking in.
    """
    with in_turn(_SETTLING):
        recover_journals(settings.HOOPWEB_JOURNAL_DIR)
        return _finish_unfinished([gateway for gateway in among if not is_alive(gateway)])


def _finish_unfinished(dead: list[str]) -> int:
    running = StatementRecord.objects.filter(status=StatementRecord.Status.RUNNING, gateway__in=dead).order_by("id")
    count = 0
    for statement in running.iterator(_BATCH):
        append_entries([_unfinished(statement)])
        count += 1
    for statement in _without_recording(dead):
        append_entries([_lost(statement)])
    for session in SessionRecord.objects.filter(closed_at=None, gateway__in=dead).iterator(_BATCH):
        append_entries([_abandoned(session)])
    if count:
        logger.warning("statements of ended processes marked unfinished: statements=%s", count)
    return count


def gateway_started(*, listeners: Mapping[str, str], journal: str = "") -> Entry:
    """`listeners`: protocol → address; `journal`: its own, missed when it is gone at the next start.

    Says how this process would treat a damaged log, so that a change shows.
    """
    body: dict[str, Json] = {
        "subject": "gateway",
        "host": socket.gethostname(),
        "listeners": dict(listeners),
        "journal": journal,
        "on_log_damage": settings.HOOPWEB_ON_LOG_DAMAGE,
    }
    return Entry(kind="gateway.started", body=body)


def gateway_stopped() -> Entry:
    """An orderly end. A process that has none ended otherwise: its successor marks what it left unfinished."""
    return Entry(kind="gateway.stopped", body={"subject": "gateway", "host": socket.gethostname()})


def _suspects() -> set[str]:
    running = StatementRecord.objects.filter(status=StatementRecord.Status.RUNNING).values_list("gateway", flat=True)
    opened = SessionRecord.objects.filter(closed_at=None).values_list("gateway", flat=True)
    return {*running.distinct(), *opened.distinct()}


def _without_recording(dead: list[str]) -> list[StatementRecord]:
    """Statements whose end the dead process recorded in its last moments, and whose result it could not store any more.

    Only in sessions it never closed and only its last two minutes: an older recording that is gone was removed.
    """
    found: list[StatementRecord] = []
    for gateway in dead:
        own = StatementRecord.objects.filter(gateway=gateway).exclude(recording="").exclude(finished_at=None)
        in_open = own.filter(session_id__in=SessionRecord.objects.filter(closed_at=None).values("id"))
        # Only what was recorded since the last of these is looked at for its very last, not all that it ever did.
        last = in_open.aggregate(last=Max("last_seq"))["last"]
        if last is None:
            continue
        newest = own.filter(last_seq__gte=last).aggregate(newest=Max("finished_at"))["newest"]
        late = in_open.filter(finished_at__gte=newest - timedelta(seconds=SETTLING_S))
        rows = late.order_by("at").iterator(_BATCH)
        while batch := list(islice(rows, _BATCH)):
            named = [statement.recording for statement in batch]
            stored = set(Recording.objects.filter(digest__in=named).values_list("digest", flat=True))
            found += [statement for statement in batch if statement.recording not in stored]
    return found


def _lost(statement: StatementRecord) -> Entry:
    return Entry(
        kind=RECORDING_LOST,
        session_id=statement.session_id,
        statement_id=statement.id,
        body={
            "subject": statement.subject,
            "connection": statement.connection,
            "recording": statement.recording,
            "ended_gateway": statement.gateway,
        },
    )


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
            # What it had shown before its process ended, nobody knows.
            "subjects": [{"name": name, "known": False, "why": "unfinished"} for name in statement.about],
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
