"""When a journal is passed over, and entries go to the log itself: its disk is full, or has failed.

A full disk may have room again, so that is tried every second and not with every entry: each try is a file of some
megabytes. A disk that could not write what it was given is not believed again by this process (`Journal.sync`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

RETRY_S = 1.0


class Avoidance:
    """Of one journal. `changed` is called when it begins and when it is over."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.on = False
        self._changed = changed
        self._for_good = False

    def for_a_while(self, error: OSError) -> None:
        if not self.on:
            logger.error("the journal takes no more, entries go to the log: error=%s", type(error).__name__)
            asyncio.get_running_loop().call_later(RETRY_S, self._over)
            self._begin()

    def for_good(self) -> None:
        if not self._for_good:
            logger.critical("the journal's disk failed, entries go to the log until this process is started again")
            self._for_good = True
            self._begin()

    def _begin(self) -> None:
        self.on = True
        self._changed()

    def _over(self) -> None:
        if not self._for_good:
            self.on = False
            self._changed()
