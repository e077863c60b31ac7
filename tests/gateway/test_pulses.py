"""Loops that hang are told; without some of them the process does not serve."""

from __future__ import annotations

import asyncio

import pytest

from gateway import pulses as module
from gateway.pulses import LoopHangs, Pulses, watch


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.05)


async def test_vital_loop_that_hangs_ends_the_watch() -> None:
    now = [0.0]
    pulses = Pulses(clock=lambda: now[0])
    pulses.of("sweep", within_s=30)
    now[0] = 31.0

    with pytest.raises(LoopHangs, match=r"^sweep$"):
        await asyncio.wait_for(watch(pulses, vital={"sweep"}), timeout=10)


async def test_other_loops_and_one_late_round_are_told_alone(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    pulses = Pulses(clock=lambda: now[0])
    sweep, _ = pulses.of("sweep", within_s=30), pulses.of("settling", within_s=300)
    watching = asyncio.create_task(watch(pulses, vital={"sweep"}))
    now[0] = 400.0  # the process stood still: every loop is late
    while len(caplog.messages) < 2:
        await asyncio.sleep(0.01)
    sweep()
    await asyncio.sleep(0.3)
    watches_on = not watching.done()
    watching.cancel()

    assert watches_on
    assert caplog.messages == [f"loop does not come round: loop={name}" for name in ("settling", "sweep")]
