"""`rungateway --workers`: who keeps the processes running, and ends with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

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
