"""Who wakes whom of the writer's two tasks: the one that commits and the one that has journals taken in."""

from __future__ import annotations

import asyncio
import contextlib


class Turns:
    """Used by one event loop."""

    def __init__(self) -> None:
        self.urgent, self.closed = asyncio.Event(), asyncio.Event()
        # Something to look at: for the commits, for the taking-in.
        self.for_commits, self.for_intake = asyncio.Event(), asyncio.Event()

    @property
    def closing(self) -> bool:
        return self.closed.is_set()

    def stir(self) -> None:
        """Have both look."""
        self.for_commits.set()
        self.for_intake.set()

    def close(self) -> None:
        """From now on nobody waits for more to come."""
        self.closed.set()
        self.stir()
        self.urgent.set()

    async def unless_urgent(self, seconds: float) -> None:
        """Wait so long, or until somebody waits for what is gathered."""
        self.urgent.clear()
        await set_within(self.urgent, seconds)


async def moved(something: asyncio.Event) -> None:
    """Wait until there is something new to look at."""
    something.clear()
    await something.wait()


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until it is set, for no longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # `wait_for` would make a task of its own
            await event.wait()
