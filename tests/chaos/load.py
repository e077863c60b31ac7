"""A load whose every statement can be told apart, and what the log says of each."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.bypass.wire import Answer, ConnectionLost, Target, Wire
from tests.chaos.servers import wait_until
from tests.stack import Stack

LOADERS = 3
PACE_S = 0.02  # between a loader's statements: a hundred rounds shall leave a log that is read in minutes, not in hours

_READ_WITHIN_S = 1800


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
                    self.over.wait(PACE_S)
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


@dataclass
class Told:
    """What the log says of one label: what became of each statement that was authorised."""

    ends_of: dict[str, list[str]] = field(default_factory=dict)

    @property
    def _lasting(self) -> list[list[str]]:
        """Without those that were given up, unsent, while they waited, and authorised anew (`Deferred`)."""
        every = list(self.ends_of.values())
        return [ends for ends in every if ends != ["skipped"]] or every[:1]

    @property
    def authorised(self) -> int:
        return len(self._lasting)

    @property
    def ends(self) -> int:
        return sum(map(len, self._lasting))


def told(fragile: Stack, bundle: Path, run: str) -> dict[str, Told]:
    """Every label the log names, out of a bundle that verifies: no gap, no duplicate, nothing altered."""
    exported = fragile.manage("audit_bundle", "-o", str(bundle), "--with-text", timeout_s=_READ_WITHIN_S)
    assert exported.returncode == 0, exported.stderr
    key = str(fragile.demo["audit_vkey"])
    verified = fragile.manage("audit_verify", str(bundle), "--key", key, timeout_s=_READ_WITHIN_S)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    labels: dict[str, str] = {}
    found: dict[str, Told] = {}
    for record in records(bundle):
        entry = json.loads(record["entry"])
        if entry["kind"] == "statement.authorised":
            text = json.loads(record["text"])["statement"]
            if run in text:
                label = labels[entry["statement"]] = text.split("'")[1]
                found.setdefault(label, Told()).ends_of[entry["statement"]] = []
        elif entry["kind"] == "statement.completed" and entry["statement"] in labels:
            found[labels[entry["statement"]]].ends_of[entry["statement"]].append(entry["body"]["status"])
    return found


def records(bundle: Path) -> Iterator[dict[str, Any]]:
    with bundle.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record["type"] == "entry":
                yield record


def unsettled(fragile: Stack) -> int:
    """Statements the records still show as running, while nothing runs."""
    with psycopg.connect(fragile.superuser_dsn("hoopweb"), autocommit=True) as control:
        row = control.execute("SELECT count(*) FROM audit_statementrecord WHERE status = 'running'").fetchone()
    assert row is not None
    return int(row[0])


def wait_for_progress(load: Load) -> None:
    """The load is really running: a kill that hits nothing proves nothing."""
    before = len(load.acknowledged)
    wait_until(lambda: len(load.acknowledged) > before + 5, within_s=120, what="statements to run")


def rest_of(wire: Wire) -> Answer:
    """Everything until ReadyForQuery or the end of the connection."""
    answer = Answer()
    try:
        wire.read_until_ready(answer)
    except (ConnectionLost, ConnectionError):
        answer.lost = True
    return answer
