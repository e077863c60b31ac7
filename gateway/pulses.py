"""Whether what goes on beside the sessions still comes round.

A loop that fails ends its process, which is begun anew. One that hangs raises nothing: it is told by its silence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection

logger = logging.getLogger(__name__)

WATCH_S = 5.0

Beat = Callable[[], None]


class LoopHangs(RuntimeError):
    """A loop without which this process must not serve does not come round."""


def unheard() -> None:
    """The `Beat` of a loop nobody watches."""


class Pulses:
    """When each loop of one process last came round."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._within_s: dict[str, float] = {}
        self._at: dict[str, float] = {}

    def of(self, name: str, *, within_s: float) -> Beat:
        """What the loop of this name calls with every round, the first of which is expected `within_s` from now."""

        def beat() -> None:
            self._at[name] = self._clock()

        self._within_s[name] = within_s
        beat()
        return beat

    def silent(self) -> list[str]:
        """Names of the loops that have not come round for longer than they may take."""
        now = self._clock()
        return [name for name, at in self._at.items() if now - at > self._within_s[name]]


async def watch(pulses: Pulses, *, vital: Collection[str]) -> None:
    """Log once what falls silent. Raises LoopHangs when a vital loop is silent at two looks on end.

    After one alone this process may have stood still itself: every loop is late then, and comes round by the next.
    """
    before: set[str] = set()
    while True:
        await asyncio.sleep(WATCH_S)
        silent = set(pulses.silent())
        for name in sorted(silent - before):
            logger.error("loop does not come round: loop=%s", name)
        if hanging := sorted(silent & before & set(vital)):
            raise LoopHangs(", ".join(hanging))
        before = silent
