"""Journals that are gone: of a process that ended on this machine without a stop, and whose journal nobody took in.

A process that is killed leaves its journal to the next start on the same machine. Who removes it meanwhile removes
entries the log did not have yet; that there was one, the log knows from the process's own start.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from audit.domain.journaled import DAMAGED, integrated
from audit.domain.liveness import is_alive
from audit.models import LogEntry

logger = logging.getLogger(__name__)

MISSING = "journal.missing"
_ACCOUNTED = ("journal.recovered", "journal.damaged", MISSING)
_NEWEST = 500  # starts that are looked at


@dataclass(frozen=True, slots=True)
class _Started:
    gateway: str
    host: str
    journal: str


def report_lost_journals(root: Path) -> int:
    """Record which journals are gone. After `recover_journals`; returns how many. Says each once."""
    stopped = {str(content["gateway"]) for content in _newest("gateway.stopped")}
    accounted = {str(content["body"].get("journal")) for kind in _ACCOUNTED for content in _newest(kind)}
    lost = [
        started
        for started in map(_started, _newest("gateway.started"))
        if started.journal
        and started.host == socket.gethostname()
        and started.gateway not in stopped
        and started.journal not in accounted
        and not (root / started.journal).exists()
        and not (root / f"{DAMAGED}{started.journal}").exists()
        and not is_alive(started.gateway)
    ]
    for each in lost:
        body: dict[str, Json] = {
            "journal": each.journal,
            "ended_gateway": each.gateway,
            "taken_in": integrated(each.journal),
        }
        append_entries([Entry(kind=MISSING, body=body)])
        logger.critical("%s: journal=%s gateway=%s", MISSING, each.journal, each.gateway)
    return len(lost)


def _newest(kind: str) -> Iterator[dict[str, Any]]:
    rows = LogEntry.objects.filter(kind=kind).order_by("-seq").values_list("canonical", flat=True)[:_NEWEST]
    return (json.loads(bytes(canonical)) for canonical in rows)


def _started(content: dict[str, Any]) -> _Started:
    body = content["body"]
    return _Started(str(content["gateway"]), str(body.get("host") or ""), str(body.get("journal") or ""))
