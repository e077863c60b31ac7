"""Recorded results under kill -9 of the gateway: what was shown is recorded so, or told as lost; nothing else is.

Clients come, have a pipeline of remembered reads answered and leave, so that kills hit sessions whose last results are
not stored yet. `HOOPWEB_CHAOS_SEED` repeats an order of kills.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
import pytest

from tests.chaos.load import unsettled
from tests.chaos.servers import APP_PASSWORD, Upstream, wait_until
from tests.stack import Stack

SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
ROUNDS = 20 if SOAKING else 2
SEED = int(os.environ.get("HOOPWEB_CHAOS_SEED", "4711"))
VICTIMS = ("gateway", "gateway", "gateway", "postgres", "evidence", "redis")
DURABILITIES = ("os", "disk", "database")
READ = "SELECT %s::text AS label, id FROM patients WHERE id = %s"
AT_ONCE = 8
_CONNECTION = """
  - {{name: kept-{durability}, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true, durability: {durability}}}"""
_DOCUMENT = """
apiVersion: hoopweb/v1
connections: {connections}
access:
  - {{name: kept, groups: [far-agents], connections: [kept-*], operations: [read]}}
agents:
  - {{name: far-agent, groups: [far-agents], owner: admin}}
"""
_LABELS = """
import re
from audit.domain.recordings import check_recording, read_recording
from audit.models import Recording
for recording in Recording.objects.order_by("id"):
    check_recording(recording)
    for label in re.findall(rb"%s-[0-9]+-[0-9]+-[0-9]+", b"".join(read_recording(recording))):
        print(label.decode())
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600 if SOAKING else 600)]


@dataclass
class Readers:
    dsn: Callable[[str], str]
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    asked: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def loop(self, number: int) -> None:
        chance, visit = random.Random(SEED + number), 0
        while not self.over.is_set():
            visit += 1
            with suppress(psycopg.Error):
                self.visit(f"{self.run}-{number}-{visit}", chance.randrange(1, 4), DURABILITIES[number])

    def visit(self, name: str, pipelines: int, durability: str) -> None:
        with psycopg.connect(self.dsn(durability), autocommit=True, prepare_threshold=0) as client:
            for at in range(pipelines):
                labels = [f"{name}-{at * AT_ONCE + each}" for each in range(AT_ONCE)]
                self.asked |= set(labels)
                with client.pipeline():
                    cursors = [client.execute(READ, [label, 7]) for label in labels]
                for cursor in cursors:
                    self.shown |= {label for label, _ in cursor.fetchall()}


def test_what_was_shown_is_recorded_or_told_as_lost(fragile: Stack, upstream: Upstream) -> None:
    connections = "".join(
        _CONNECTION.format(durability=durability, port=upstream.server.port, password=APP_PASSWORD)
        for durability in DURABILITIES
    )
    document = fragile.home / "kept.yaml"
    document.write_text(_DOCUMENT.format(connections=connections), encoding="utf-8")
    done = fragile.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr
    token = [fragile.new_agent_token("far-agent")]
    readers = Readers(lambda name: fragile.gateway_dsn(token=token[0], user="far-agent", connection=f"kept-{name}"))
    threads = [threading.Thread(target=readers.loop, args=(number,), daemon=True) for number in range(3)]
    chance, killed = random.Random(SEED), []
    for thread in threads:
        thread.start()
    try:
        for number in range(ROUNDS):
            before = len(readers.shown)
            wait_until(lambda before=before: len(readers.shown) > before + 100, within_s=120, what="results")
            time.sleep(chance.random())
            killed.append("gateway" if number == 0 else chance.choice(VICTIMS))
            with suppress(ProcessLookupError):  # it was killed a moment ago, and begins anew
                os.kill(fragile.pids()[killed[-1]], signal.SIGKILL)
            fragile.wait_healthy(within_s=120)
            token[0] = fragile.new_agent_token("far-agent")
        wait_until(lambda: len(readers.shown) > before + 100, within_s=120, what="results at the end")
    finally:
        readers.over.set()
        for thread in threads:
            thread.join(60)
    wait_until(lambda: not unsettled(fragile), within_s=120, what=f"every statement to be settled after {killed}")
    wait_until(lambda: not unaccounted(fragile), within_s=30, what=f"every result to be stored or told after {killed}")

    found = fragile.manage("shell", "-c", _LABELS % readers.run, timeout_s=600)
    assert found.returncode == 0, found.stderr
    recorded = [line for line in found.stdout.splitlines() if line.startswith(readers.run)]
    assert len(recorded) == len(set(recorded))
    assert set(recorded) <= readers.asked
    missing = readers.shown - set(recorded)
    print(f"killed={killed} shown={len(readers.shown)} recorded={len(recorded)} missing={len(missing)}")
    assert len(missing) <= lost(fragile), f"{len(missing)} results were shown and not recorded after {killed}"
    assert len(readers.shown) > 100 * ROUNDS


def unaccounted(fragile: Stack) -> int:
    """Results the log names that are neither stored nor told as lost."""
    return count(
        fragile,
        "SELECT count(*) FROM audit_statementrecord s WHERE recording <> '' AND status = 'completed'"
        " AND NOT EXISTS (SELECT FROM audit_recording r WHERE r.digest = s.recording)"
        " AND NOT EXISTS (SELECT FROM audit_logentry l WHERE l.kind = 'recording.lost' AND l.statement_id = s.id)",
    )


def lost(fragile: Stack) -> int:
    """Results that are told to be, and statements whose end is not known."""
    return count(fragile, "SELECT count(*) FROM audit_logentry WHERE kind = 'recording.lost'") + count(
        fragile, "SELECT count(*) FROM audit_statementrecord WHERE status = 'unfinished'"
    )


def count(fragile: Stack, query: str) -> int:
    with psycopg.connect(fragile.superuser_dsn("hoopweb"), autocommit=True) as control:
        row = control.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])
