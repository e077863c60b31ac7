"""`rungateway --workers`: who keeps the processes running, and ends with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from audit import cores
from gateway.management.commands import rungateway

LIVES_ON = [sys.executable, "-c", "import time; time.sleep(600)"]
ENDS = [sys.executable, "-c", "pass"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Children that stand for gateways: the first ends by itself, whatever comes after it lives on."""
    children: list[subprocess.Popen[bytes]] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield children
    for number, handler in before.items():
        signal.signal(number, handler)
    for child in children:
        child.kill()
        child.wait(10)


def test_child_that_is_started_while_the_signal_comes_ends_as_well(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal finds a child that runs already and that the supervisor does not know yet."""
    popen = subprocess.Popen

    def start(_command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        child = popen(ENDS if not started else LIVES_ON, **options)
        started.append(child)
        if len(started) == 3:  # in place of the first, which ended
            os.kill(os.getpid(), signal.SIGTERM)
        return child

    monkeypatch.setattr(rungateway.subprocess, "Popen", start)
    monkeypatch.setattr(rungateway, "RESTART_DELAY_S", 0.05)

    rungateway.supervise(2)

    assert [child.poll() is None for child in started] == [False, False, False]
    assert len(started) == 3


@pytest.mark.parametrize(
    ("workers", "pinned", "expected"),
    [
        (2, True, ["3", "5"]),
        (2, False, [None, None]),
        (3, True, [None, None, None]),  # one more than cores: the kernel knows better
    ],
)
def test_workers_are_dealt_a_core_each_where_there_are_as_many(
    monkeypatch: pytest.MonkeyPatch, workers: int, pinned: bool, expected: list[str | None]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 3})

    commands = started_by(monkeypatch, workers, pinned=pinned)

    assert [core_of(command) for command in commands[:workers]] == expected
    assert core_of(commands[workers]) == expected[0]  # the one that takes the place of the first


def started_by(monkeypatch: pytest.MonkeyPatch, workers: int, *, pinned: bool) -> list[list[str]]:
    """The commands of a supervisor whose first worker ends once, and that is told to stop then."""
    commands: list[list[str]] = []

    class Worker:
        pid = 0

        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command)
            self.ended = len(commands) == 1

        def poll(self) -> int | None:
            return 0 if self.ended or len(commands) > workers else None

        def send_signal(self, _number: int) -> None:
            raise AssertionError("nobody asked for it")

    monkeypatch.setattr(rungateway.subprocess, "Popen", Worker)
    monkeypatch.setattr(rungateway, "RESTART_DELAY_S", 0.0)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    rungateway.supervise(workers, pinned=pinned)
    for number, handler in before.items():
        signal.signal(number, handler)
    return commands


def core_of(command: list[str]) -> str | None:
    return command[command.index("--core") + 1] if "--core" in command else None


def test_the_only_worker_of_a_machine_with_one_core_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})

    assert cores.dealt(1) == [None]


def test_a_worker_stays_on_the_core_it_is_dealt_and_knows_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before, met = os.sched_getaffinity(0), list[object]()

    def run(serving: Any) -> None:
        serving.close()
        met.extend([os.sched_getaffinity(0), cores.usable()])

    monkeypatch.setattr(rungateway.uvloop, "run", run)
    try:
        rungateway.Command().handle(workers=1, core=max(before), unpinned=False)
        rungateway.Command().handle(workers=1, core=100_000, unpinned=False)  # one that was taken away: as it was
    finally:
        cores.use(before)

    assert met == [{max(before)}, before, {max(before)}, before]
