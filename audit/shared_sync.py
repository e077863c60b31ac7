"""One `fdatasync` of a journal for all who wait: one is in flight in a thread while the next batch gathers.

Where more may come soon it waits for them first (`gathering`). The usual sync is one call of a thread that needs
nothing of the interpreter (`domain.sync_thread`), ordered at the end of a turn of the event loop, so that whoever came
in that turn shares it. What comes seldom (a new segment, whose name and predecessor have to be on the disk as well, or
a sync that failed before) is `Journal.sync` in an ordinary thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable

from audit.domain.journal import Journal
from audit.domain.state import SyncState
from audit.domain.sync_thread import SyncThread
from audit.gathering import Gathering

logger = logging.getLogger(__name__)

Reached = Callable[[bool], None]  # told once, in the event loop: whether everything journaled before is on the disk


class SharedSync(SyncState):
    """Used by one event loop. Whoever comes while a sync is under way shares the next, all told in one turn.

    `broke` is called where one has failed: none after it will be believed.
    """

    def __init__(self, journal: Journal, *, broke: Callable[[], None] = lambda: None) -> None:
        self._journal, self._broke = journal, broke
        self._waiting = []
        self._begun = False
        self._enough = 0
        self._gathering = Gathering(self._gathered)
        self._ordered_s = 0.0  # the moment
        self._in_flight: list[Reached] = []
        self._loop = asyncio.get_running_loop()
        self._thread: SyncThread | None = None

    def when_reached(self, told: Reached) -> None:
        """Have `told` called when everything journaled so far is on the disk, or is known not to be."""
        self._waiting.append(told)
        if not self._begun or len(self._waiting) == self._enough:
            self.begin_soon()

    def begin_soon(self) -> None:
        """Begin with all who come in this turn, or more.

        For who has added itself to those who wait, and found none begun or that they are enough now.
        """
        if self._enough:
            self._enough = 0
            self._gathering.stop()
            self._loop.call_soon(self._begin)
        elif not self._begun:
            self._begun = True
            self._loop.call_soon(self._gather)

    async def close(self) -> None:
        """Return when nobody waits any more and the thread has ended."""
        while self._begun:
            ended = asyncio.Event()
            self.when_reached(lambda _, ended=ended: ended.set())  # type: ignore[misc]
            await ended.wait()
        self._gathering.close()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.remove_reader(thread.answers)
            thread.close()

    def _gather(self) -> None:
        try:
            self._enough = self._gathering.begin(len(self._waiting))
        except Exception as error:  # whoever waits is served all the same
            self._enough = 0
            logger.error("a sync does not wait for others: error=%s", type(error).__name__)
        if not self._enough:
            self._begin()

    def _gathered(self) -> None:
        """Those who are there have waited long enough."""
        if self._enough:
            self._enough = 0
            self._begin()

    def _begin(self) -> None:
        self._in_flight, self._waiting = self._waiting, []
        self._ordered_s = time.monotonic()
        try:
            file = self._journal.begin_sync()
            if file is None:
                self._loop.run_in_executor(None, self._journal.sync).add_done_callback(self._synced)
            else:
                self._order(file)
        except Exception as error:  # fail closed: nobody is told what was not tried
            self._ended(type(error).__name__)

    def _order(self, file: int) -> None:
        try:
            if self._thread is None:
                self._thread = SyncThread()
                self._loop.add_reader(self._thread.answers, self._answered)
            self._thread.order(file)
        except BaseException:
            self._journal.end_sync(failed=True)
            raise

    def _answered(self) -> None:
        assert self._thread is not None
        try:
            failed = self._thread.outcome()
        except BlockingIOError:  # woken for nothing
            return
        self._journal.end_sync(failed=failed != 0)
        self._ended(errno.errorcode.get(failed, str(failed)) if failed else "")

    def _synced(self, done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._ended("" if error is None else type(error).__name__)

    def _ended(self, problem: str) -> None:
        if problem:
            logger.error("journal not synced: error=%s", problem)
            if self._journal.is_broken:
                self._broke()
        told, self._in_flight = self._in_flight, []
        self._begun = bool(self._waiting)
        self._gathering.learn(told=len(told), waiting=len(self._waiting), took_s=time.monotonic() - self._ordered_s)
        if self._begun:  # the next one gathers, or is under way, while this one's waiters go on
            self._gather()
        for tell in told:
            try:
                tell(not problem)
            except Exception as error:  # one session's trouble is not its neighbours'
                logger.error("waiter of a sync failed: error=%s", type(error).__name__)
