"""The end of a process without loss: what was begun finishes, nothing begins, and it does not take for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.session.registry import SessionRegistry

STEP_S = 0.1


async def drained(
    registry: SessionRegistry, *, answering: Callable[[], int], within_s: float, hurry: asyncio.Event
) -> bool:
    """Return when nothing worth waiting for is left (True), or when time is over or `hurry` is set (False)."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while registry.retire() or answering():
        left = deadline - loop.time()
        if left <= 0 or hurry.is_set():
            return False
        try:
            await asyncio.wait_for(hurry.wait(), min(STEP_S, left))
        except TimeoutError:
            continue
    return True
