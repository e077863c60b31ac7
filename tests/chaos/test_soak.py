"""Everything essential is killed at random, under load: nothing ran unrecorded, nothing is lost or doubled.

`make soak` goes on for ten minutes, `make test` for some seconds. `HOOPWEB_CHAOS_SEED` repeats an order of kills.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from tests.bypass.wire import ConnectionLost, Target, Wire
from tests.chaos.conftest import answers
from tests.chaos.servers import Upstream, wait_until
from tests.chaos.test_chaos import control
from tests.stack import Stack

SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
DURATION_S = float(os.environ.get("HOOPWEB_CHAOS_S", "600" if SOAKING else "12"))
SEED = int(os.environ.get("HOOPWEB_CHAOS_SEED", str(random.randrange(1 << 32))))
BETWEEN_KILLS_S = (3.0, 12.0) if SOAKING else (2.0, 4.0)
WRITERS = 3
VICTIMS = ("gateway", "worker", "upstream", "redis", "postgres") if SOAKING else ("gateway", "redis", "upstream")


@dataclass
class Load:
    """What the clients sent and heard. `acknowledged` holds labels whose INSERT was answered with its tag."""

    target: Target
    over: threading.Event = field(default_factory=threading.Event)
    sent: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    sessions: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # why a client gave up: what it heard was no PostgreSQL

    def write(self) -> None:
        """Connect, insert and read until something breaks; again and again."""
        try:
            self._write()
        except Exception as error:
            self.broken.append(repr(error))
            raise

    def _write(self) -> None:
        while not self.over.is_set():
            name = uuid.uuid4().hex[:12]
            self.sessions.append(name)
            with (
                suppress(ConnectionLost, OSError),
                Wire(replace(self.target, options=(("application_name", name),))) as wire,
            ):
                self._work(wire, name)
            time.sleep(0.05)

    def _work(self, wire: Wire, name: str) -> None:
        for number in range(10_000):
            if self.over.is_set():
                return
            label = f"{name}-{number}"
            self.sent.append(label)
            answer = wire.simple(f"INSERT INTO marks VALUES ('{label}')")
            if answer.tags == ["INSERT 0 1"]:
                self.acknowledged.append(label)
            if answer.lost:
                return
            read = wire.simple("SELECT id, ssn FROM patients WHERE id < 4")
            self.heard += read.received
            if read.lost:
                return


@pytest.mark.e2e
@pytest.mark.timeout(DURATION_S + 600)
def test_kills_at_random_lose_double_and_hide_nothing(fragile: Stack, upstream: Upstream, far: Target) -> None:
    load, killed = Load(far), Counter[str]()
    threads = [threading.Thread(target=load.write, daemon=True) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    random_ = random.Random(SEED)
    until = time.monotonic() + DURATION_S
    while time.monotonic() < until:
        time.sleep(random_.uniform(*BETWEEN_KILLS_S))
        if not SOAKING:  # a gateway takes its time to start on a busy machine: few kills shall all hit something
            done = len(load.acknowledged)
            wait_until(
                lambda done=done: bool(load.broken) or len(load.acknowledged) > done + 5,
                within_s=120,
                what="the clients to do something between the kills",
            )
        victim = random_.choice(VICTIMS)
        killed[victim] += kill(victim, fragile, upstream)
    fragile.wait_healthy(within_s=180)
    before = len(load.acknowledged)
    wait_until(
        lambda: bool(load.broken) or len(load.acknowledged) > before + 5, within_s=120, what="the clients to go on"
    )
    load.over.set()
    for thread in threads:
        thread.join(120)
    fresh = replace(far, password=fragile.agent_token("far-agent"))
    wait_until(lambda: answers(fresh), within_s=120, what="service after the last kill")

    said = f"seed {SEED}: {dict(killed)} killed, {len(load.sent)} sent, {len(load.acknowledged)} acknowledged"
    print(said)
    assert load.broken == [], said
    assert len(load.acknowledged) > 10 + 2 * killed.total(), f"clients did little between the kills; {said}"
    stored = Counter(str(row[0]) for row in upstream.query("SELECT label FROM marks"))
    ours = {label: number for label, number in stored.items() if label.partition("-")[0] in set(load.sessions)}
    assert [label for label, number in ours.items() if number > 1] == [], f"doubled; {said}"
    assert set(load.acknowledged) - set(ours) == set(), f"acknowledged and lost; {said}"
    assert set(ours) - set(load.sent) == set(), f"never sent; {said}"
    assert unrecorded(fragile, load, ours) == {}, f"ran unrecorded; {said}"
    assert b"900-11-" not in load.heard, f"unmasked; {said}"
    assert b"ssn" in load.heard
    wait_until(lambda: unended(fragile, load) == [], within_s=90, what=f"every execution to have an end; {said}")


def kill(victim: str, fragile: Stack, upstream: Upstream) -> int:
    """kill -9, and for the upstream, which nobody supervises, a new start."""
    if victim == "upstream":
        upstream.kill()
        upstream.start()
        return 1
    with suppress(KeyError, ProcessLookupError, OSError, ValueError):  # it is being started again already
        os.kill(fragile.pids()[victim], signal.SIGKILL)
        return 1
    return 0


def unrecorded(fragile: Stack, load: Load, stored: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Sessions that wrote more rows than the log says were authorised: (stored, authorised)."""
    wait_until(lambda: integrated(fragile), within_s=60, what="the log to take in what the journals hold")
    rows = control(
        fragile,
        "SELECT convert_from(o.canonical, 'UTF8')::jsonb #>> '{body,application}', count(*) "
        "FROM audit_logentry o JOIN audit_logentry a ON a.session_id = o.session_id "
        "WHERE o.kind = 'session.opened' AND a.kind = 'statement.authorised' "
        "AND convert_from(a.canonical, 'UTF8')::jsonb #>> '{body,kind}' = 'INSERT' GROUP BY 1",
    )
    authorised = {str(name): int(str(count)) for name, count in rows}
    written = Counter(label.partition("-")[0] for label in stored)
    return {
        name: (number, authorised.get(name, 0)) for name, number in written.items() if number > authorised.get(name, 0)
    }


def integrated(fragile: Stack) -> bool:
    """Whether the log stood still for a moment: nothing more is on its way."""
    before = control(fragile, "SELECT max(seq) FROM audit_logentry")
    time.sleep(2)
    return before == control(fragile, "SELECT max(seq) FROM audit_logentry")


def unended(fragile: Stack, load: Load) -> list[str]:
    """Statements authorised in these sessions whose end nobody recorded, as done or as unfinished."""
    rows = control(
        fragile,
        "SELECT a.statement_id FROM audit_logentry a JOIN audit_logentry o ON o.session_id = a.session_id "
        "WHERE o.kind = 'session.opened' AND a.kind = 'statement.authorised' "
        "AND convert_from(o.canonical, 'UTF8')::jsonb #>> '{body,application}' = ANY(%s) AND NOT EXISTS "
        "(SELECT 1 FROM audit_logentry c WHERE c.kind = 'statement.completed' AND c.statement_id = a.statement_id)",
        load.sessions,
    )
    return [str(row[0]) for row in rows]
