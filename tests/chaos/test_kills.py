"""kill -9 of any process at any moment, under load: nothing ran without its entry, no gap, no duplicate, no loose end.

Every statement of the load is one of its own (a label of its own), so that what the database holds can be compared with
what the log says, statement by statement. `make soak` does a hundred rounds, over both ways an entry becomes durable.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.bypass.wire import ConnectionLost, Target, Wire
from tests.chaos.conftest import answers
from tests.chaos.servers import APP_PASSWORD, Upstream, wait_until
from tests.stack import Stack

SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
ROUNDS = 100 if SOAKING else 1
SEED = int(os.environ.get("HOOPWEB_CHAOS_SEED", "4711"))
LOADERS = 3
# Most rounds hit the processes that write evidence; the others must not matter to it.
VICTIMS = ("gateway", "gateway", "gateway", "postgres", "redis", "web", "worker", "evidence", "scheduler")

_QUICK = """
apiVersion: hoopweb/v1
connections:
  - {{name: far-quick, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true, durability: os}}
access:
  - {{groups: [far-agents], connections: [far-quick], operations: [read, write]}}
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200 if SOAKING else 600)]


@dataclass
class Load:
    """Threads that insert one label after the other and reconnect as often as they are thrown out."""

    targets: list[Target]
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    sent: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def loop(self, number: int) -> None:
        count = 0
        while not self.over.is_set():
            target = self.targets[number % len(self.targets)]  # its token is renewed meanwhile
            with suppress(ConnectionLost, OSError, EOFError), Wire(target, timeout_s=20) as wire:
                while not self.over.is_set():
                    count += 1
                    label = f"{self.run}-{number}-{count}"
                    self.sent.append(label)
                    answer = wire.simple(f"INSERT INTO marks VALUES ('{label}')")
                    if answer.tags == ["INSERT 0 1"]:
                        self.acknowledged.append(label)
                    if answer.lost or not answer.tags:
                        break
            self.over.wait(0.2)


@contextmanager
def under_load(load: Load) -> Iterator[None]:
    threads = [threading.Thread(target=load.loop, args=(number,), daemon=True) for number in range(LOADERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.over.set()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


@pytest.fixture
def quick(fragile: Stack, upstream: Upstream, far: Target) -> Target:
    """The same database through a connection whose entries become durable in the process's journal."""
    document = fragile.home / "far-quick.yaml"
    document.write_text(_QUICK.format(port=upstream.server.port, password=APP_PASSWORD), encoding="utf-8")
    done = fragile.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr
    target = replace(far, database="far-quick")
    wait_until(lambda: answers(target), within_s=60, what="the connection with a journal")
    return target


def test_whatever_is_killed_the_log_says_what_ran(
    fragile: Stack, upstream: Upstream, far: Target, quick: Target, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    load = Load([far, quick])
    killed: Counter[str] = Counter()
    with under_load(load):
        for number in range(ROUNDS):
            # The first rounds are the same everywhere; afterwards anything, at any moment.
            victim = "gateway" if number == 0 else chance.choice(VICTIMS)
            _wait_for_progress(load)
            time.sleep(chance.random())
            os.kill(fragile.pids()[victim], signal.SIGKILL)
            killed[victim] += 1
            fragile.wait_healthy(within_s=120)
            renewed = fragile.new_agent_token("far-agent")
            load.targets[:] = [replace(target, password=renewed) for target in load.targets]
        _wait_for_progress(load)
    wait_until(lambda: not _unsettled(fragile), within_s=120, what=f"every statement to be settled after {killed}")

    stored = {str(row[0]) for row in upstream.query(f"SELECT label FROM marks WHERE label LIKE '{load.run}-%'")}
    told = _told(fragile, tmp_path / "kills.bundle", load.run)

    assert set(load.acknowledged) <= stored, "a client was told of a row that is not there"
    assert stored <= set(told), f"{len(stored - set(told))} statements ran without an entry after {killed}"
    assert [label for label, found in told.items() if found.authorised != 1] == [], "authorised twice, or never"
    assert [label for label, found in told.items() if found.ends != 1] == [], "ended twice, or never"
    assert set(told) <= set(load.sent)
    assert killed["gateway"] >= 1


@dataclass
class Told:
    """What the log says of one label."""

    authorised: int = 0
    ends: int = 0


def _told(fragile: Stack, bundle: Path, run: str) -> dict[str, Told]:
    """Every label the log names, out of a bundle that verifies: no gap, no duplicate, nothing altered."""
    exported = fragile.manage("audit_bundle", "-o", str(bundle), "--with-text")
    assert exported.returncode == 0, exported.stderr
    verified = fragile.manage("audit_verify", str(bundle), "--key", str(fragile.demo["audit_vkey"]))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    labels: dict[str, str] = {}
    told: dict[str, Told] = {}
    for record in _records(bundle):
        entry = json.loads(record["entry"])
        if entry["kind"] == "statement.authorised":
            text = json.loads(record["text"])["statement"]
            if run in text:
                label = labels[entry["statement"]] = text.split("'")[1]
                told.setdefault(label, Told()).authorised += 1
        elif entry["kind"] == "statement.completed" and entry["statement"] in labels:
            told[labels[entry["statement"]]].ends += 1
    return told


def _records(bundle: Path) -> Iterator[dict[str, Any]]:
    with bundle.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record["type"] == "entry":
                yield record


def _unsettled(fragile: Stack) -> int:
    """Statements the records still show as running, while nothing runs."""
    with psycopg.connect(fragile.superuser_dsn("hoopweb"), autocommit=True) as control:
        row = control.execute("SELECT count(*) FROM audit_statementrecord WHERE status = 'running'").fetchone()
    assert row is not None
    return int(row[0])


def _wait_for_progress(load: Load) -> None:
    """The load is really running: a kill that hits nothing proves nothing."""
    before = len(load.acknowledged)
    wait_until(lambda: len(load.acknowledged) > before + 5, within_s=120, what="statements to run")
