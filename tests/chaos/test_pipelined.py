"""Pipelines with transactions of their own, under kills: whatever reached the server has one authorised entry, one end.

The server's own log says what reached it. `make soak` (HOOPWEB_SOAK) goes on for two minutes, `make test` for some
seconds; `HOOPWEB_CHAOS_SEED` repeats an order of kills.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.bypass.wire import SYNC, ConnectionLost, Target, Wire, bind, execute, parse
from tests.chaos.load import told, unsettled
from tests.chaos.servers import APP_PASSWORD, Upstream, own_upstream, wait_until
from tests.stack import Stack

SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
DURATION_S = float(os.environ.get("HOOPWEB_CHAOS_S", "120" if SOAKING else "8"))
SEED = int(os.environ.get("HOOPWEB_CHAOS_SEED", str(random.randrange(1 << 32))))
BETWEEN_KILLS_S = (1.0, 6.0) if SOAKING else (1.0, 2.5)
VICTIMS = ("gateway", "gateway", "upstream", "redis", "postgres") if SOAKING else ("gateway", "upstream")
ENOUGH = 50  # statements that reached the server: fewer prove nothing
DURABILITIES = ("database", "disk", "os")
_CONNECTION = """
  - {{name: storm-{durability}, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true, durability: {durability}, recording: metadata}}"""
_DOCUMENT = """
apiVersion: hoopweb/v1
connections: {connections}
access:
  - {{name: storms, groups: [far-agents], connections: [storm-*], operations: [read, write]}}
agents:
  - {{name: far-agent, groups: [far-agents], owner: admin}}
"""
# Statements of one request; `{}` is a label of each one's own, in a literal or in a comment that is a literal's like.
PIPELINES = (
    ("BEGIN /*'{}'*/", "INSERT INTO marks VALUES ('{}')", "INSERT INTO marks VALUES ('{}')", "COMMIT /*'{}'*/"),
    ("INSERT INTO marks VALUES ('{}')", "BEGIN /*'{}'*/", "INSERT INTO marks VALUES ('{}')", "ROLLBACK /*'{}'*/",
     "INSERT INTO marks VALUES ('{}')"),
    ("BEGIN /*'{}'*/", "INSERT INTO marks VALUES ('{}')", "SELECT 1/0 /*'{}'*/", "INSERT INTO marks VALUES ('{}')"),
    ("ROLLBACK /*'{}'*/", "BEGIN /*'{}'*/", "SAVEPOINT s /*'{}'*/", "INSERT INTO marks VALUES ('{}')",
     "ROLLBACK TO s /*'{}'*/", "INSERT INTO marks VALUES ('{}')", "COMMIT /*'{}'*/"),
    ("SELECT ssn FROM patients WHERE id = 7 /*'{}'*/", "INSERT INTO marks VALUES ('{}')"),
)  # fmt: skip


@pytest.fixture(scope="module")
def logged() -> Iterator[tuple[Upstream, Path]]:
    """A server that writes down every statement it gets; and where."""
    home = Path(tempfile.mkdtemp(prefix="hoopweb-storm-"))
    home.chmod(0o755)
    folder = home / "statements"
    folder.mkdir()
    folder.chmod(0o777)  # the server's account writes here
    settings = {
        "log_statement": "all",
        "logging_collector": "on",
        "log_directory": str(folder),
        "log_filename": "statements.log",
        "log_file_mode": "0644",
        "log_rotation_size": "0",
        "log_rotation_age": "0",
    }
    with own_upstream(home / "far", **settings) as running:
        yield running, folder / "statements.log"
    shutil.rmtree(home, ignore_errors=True)


@dataclass
class Storm:
    """Clients that send pipelines and reconnect as often as they are thrown out."""

    targets: list[Target]
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    sent: set[str] = field(default_factory=set)
    committed: set[str] = field(default_factory=set)  # labels of INSERTs whose request was answered to its end
    over: threading.Event = field(default_factory=threading.Event)

    def loop(self, number: int) -> None:
        chance, count = random.Random(SEED + number), 0
        while not self.over.is_set():
            with suppress(ConnectionLost, OSError), Wire(self.targets[number % len(self.targets)]) as wire:
                while not self.over.is_set():
                    count += 1
                    answered, last = self.request(wire, f"{self.run}-{number}-{count}", chance)
                    self.committed |= last
                    if not answered:
                        break
            self.over.wait(0.2)

    def request(self, wire: Wire, name: str, chance: random.Random) -> tuple[bool, set[str]]:
        """Send one pipeline; whether it was answered, and the label of a last INSERT that is committed then."""
        labels = [f"{name}-{at}" for at in range(10)]
        texts = [text.format(label) for text, label in zip(chance.choice(PIPELINES), labels, strict=False)]
        self.sent |= set(labels[: len(texts)])
        answer = wire.request(b"".join(parse(text) + bind() + execute() for text in texts) + SYNC)
        done = not answer.lost and answer.status == "I" and not answer.errors and texts[-1].startswith("INSERT")
        if answer.status in "TE" and not answer.lost:
            label = f"{name}-end"
            self.sent.add(label)
            wire.simple(f"ROLLBACK /*'{label}'*/")
        return not answer.lost, {labels[len(texts) - 1]} if done else set()


# Of two that kill under load for most of a minute a run plays one (tests/turn.py).
@pytest.mark.turn(0, of=2)
@pytest.mark.e2e
@pytest.mark.timeout(DURATION_S + 600)
def test_every_statement_of_a_storm_is_authorised_once_and_ends_once(
    fragile: Stack, far: Target, logged: tuple[Upstream, Path], tmp_path: Path
) -> None:
    upstream, statements = logged
    words = {"port": upstream.server.port, "password": APP_PASSWORD}
    connections = "".join(_CONNECTION.format(durability=each, **words) for each in DURABILITIES)
    done = fragile.manage("apply", "-f", "-", stdin=_DOCUMENT.format(connections=connections))
    assert done.returncode == 0, done.stderr
    storm = Storm([replace(far, database=f"storm-{each}") for each in DURABILITIES])
    threads = [threading.Thread(target=storm.loop, args=(each,), daemon=True) for each in range(6)]
    for thread in threads:
        thread.start()
    killed = kills(fragile, upstream, storm)
    # A gateway takes its time to start on a busy machine: the storm goes on until there was something to lose.
    wait_until(
        lambda: len(executed(statements, storm.run)) > ENOUGH, within_s=120, what="statements to reach the server"
    )
    storm.over.set()
    for thread in threads:
        thread.join(120)
    fragile.wait_healthy(within_s=180)
    wait_until(lambda: not unsettled(fragile), within_s=120, what=f"every statement to be settled after {killed}")

    stored = {str(row[0]) for row in upstream.query(f"SELECT label FROM marks WHERE label LIKE '{storm.run}-%'")}
    reached = executed(statements, storm.run)
    found = told(fragile, tmp_path / "storm.bundle", storm.run)
    said = f"seed {SEED}: {dict(killed)}, {len(storm.sent)} sent, {len(reached)} reached the server, {len(found)} told"
    print(said)

    assert len(reached) > ENOUGH, said
    assert {label: times for label, times in reached.items() if times > 1} == {}, f"sent twice; {said}"
    assert reached.keys() - found.keys() == set(), f"ran unrecorded; {said}"
    assert stored - found.keys() == set(), f"stored unrecorded; {said}"
    assert {label: one for label, one in found.items() if (one.authorised, one.ends) != (1, 1)} == {}, said
    assert found.keys() - storm.sent == set(), said
    assert storm.committed - stored == set(), f"acknowledged and lost; {said}"


# What the server was given to execute; its errors repeat a text, and so do questions about one (CREATE FUNCTION).
_EXECUTED = (
    r"LOG:  (?:execute [^:]+|statement): (?:BEGIN|INSERT|SELECT|COMMIT|ROLLBACK|SAVEPOINT)[^\n]*?'({run}-[0-9a-z-]+)'"
)


def executed(statements: Path, run: str) -> Counter[str]:
    """How often each label reached the server."""
    text = statements.read_text(encoding="utf-8", errors="replace")
    return Counter(re.findall(_EXECUTED.format(run=run), text))


def kills(fragile: Stack, upstream: Upstream, storm: Storm) -> Counter[str]:
    """kill -9 at random for as long as it takes."""
    chance, killed = random.Random(SEED), Counter[str]()
    until = time.monotonic() + DURATION_S
    while time.monotonic() < until:
        time.sleep(chance.uniform(*BETWEEN_KILLS_S))
        victim = chance.choice(VICTIMS)
        if victim == "upstream":
            upstream.kill()
            upstream.start()
            killed[victim] += 1
            continue
        with suppress(KeyError, ProcessLookupError, OSError, ValueError):  # it is being started again already
            os.kill(fragile.pids()[victim], signal.SIGKILL)
            killed[victim] += 1
    return killed
