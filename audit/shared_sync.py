"""One `fdatasync` of a journal for all who wait: one is in flight in a thread while the next batch gathers."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable

from audit.domain.journal import Journal

logger = logging.getLogger(__name__)

Reached = Callable[[bool], None]  # told once, in the event loop: whether everything journaled before is on the disk


class SharedSync:
    """Used by one event loop. Whoever comes while a sync is under way shares the next, all told in one turn."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[Reached] = []
        self._in_flight: list[Reached] = []
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None

    def when_reached(self, told: Reached) -> None:
        """Have `told` called when everything journaled so far is on the disk, or is known not to be."""
        self._waiting.append(told)
        if not self._in_flight:
            self._begin()

    def close(self) -> None:
        """End the thread, after the sync it is in."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._orders.put(False)
            thread.join()

    def _begin(self) -> None:
        self._in_flight, self._waiting = self._waiting, []
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="audit-journal", daemon=True)
            self._thread.start()
        self._orders.put(True)

    def _work(self) -> None:
        while self._orders.get():
            try:
                self._journal.sync()
                reached = True
            except Exception as error:  # fail closed: what may not be on the disk is not acknowledged
                logger.error("journal not synced: error=%s", type(error).__name__)
                reached = False
            try:
                self._loop.call_soon_threadsafe(self._tell, reached)
            except RuntimeError:  # the loop has ended, and with it whoever waited
                return

    def _tell(self, reached: bool) -> None:
        told, self._in_flight = self._in_flight, []
        if self._waiting:  # the next one is under way while this one's waiters go on
            self._begin()
        for tell in told:
            try:
                tell(reached)
            except Exception as error:  # one session's trouble is not its neighbours'
                logger.error("waiter of a sync failed: error=%s", type(error).__name__)
