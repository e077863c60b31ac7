"""The journal's way into the log: run after run, by the sequencer, at a pace that leaves the machine to sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from audit.answers import WITHIN_S
from audit.backlog import MAX_RUN, Backlog
from audit.domain.state import Run
from audit.log_commits import LogCommits
from audit.pace import SMOOTH_BEHIND, Pace
from audit.room import Room
from audit.sequencer import Sequencer, Taken
from audit.turns import Turns, moved, set_within

# Entries the sequencer takes in with one transaction, which holds the log's lock; fewer while others commit as well, or
# wait for the room it makes.
RUN_TRANSACTION, SHORT_TRANSACTION = 2_000, 500
# A run nobody waits for may grow this long: entries in the journal are safe, and transactions are not cheap.
GATHER_S = 0.1
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
HANGS_S = 0.9 * WITHIN_S  # before whoever waits gives up and asks again
HUNG_S = 1.0  # an attempt that failed after so long says more than a connection or a process that ended
LOOK_S = 0.25  # so often a pause is looked at again


class Intake:
    """Of one writer, by one task."""

    def __init__(
        self,
        sequencer: Sequencer,
        *,
        backlog: Backlog,
        room: Room,
        commits: LogCommits,
        turns: Turns,
        scarce: Callable[[], bool],
        took: Callable[[Run, Taken], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """`scarce`: whether somebody waits for room in the journal, or soon will. `took`, `failed`: what came of it."""
        self.failing = self._hung = False
        self._asked_at: float | None = None  # the sequencer, or when it last said that it took something in
        self._sequencer = sequencer
        self._backlog, self._room, self._commits, self._turns = backlog, room, commits, turns
        self._scarce, self._took, self._failed = scarce, took, failed
        self._pace = Pace()

    @property
    def hung(self) -> bool:
        """Whether the log takes nothing in for so long that nobody waits for it any more, or did when last tried."""
        return self._hung or (self._asked_at is not None and time.monotonic() - self._asked_at > HANGS_S)

    async def run(self) -> None:
        """Take in what there is, until the writer closes and nothing is left."""
        delay = RETRY_FIRST_S
        while self._backlog.runs or not self._turns.closing:
            if not self._backlog.has_run:
                await moved(self._turns.for_intake)
                continue
            await self._gather(self._backlog.runs[0])
            run = self._backlog.runs.popleft()
            began = time.monotonic()
            try:
                await self._take_in(run)
                delay = RETRY_FIRST_S
                self.failing = self._hung = False
            except Exception as error:  # fail closed: whoever waits for what stands behind it hears it
                self._backlog.runs.appendleft(run)
                self._hung = self._hung or time.monotonic() - began > HUNG_S
                if self.failing or self._hung:  # once may be a process that ended: another takes over, unheard of
                    self._room.refuse("the audit log could not be written")
                self.failing = True
                self._failed(error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST_S)
            finally:
                self._turns.stir()

    async def _gather(self, run: Run) -> None:
        waited_for = self._backlog.queue or self._room.waiting
        if run.entries < MAX_RUN and not waited_for and not self._turns.closing:
            await self._turns.unless_urgent(GATHER_S)

    async def _take_in(self, run: Run) -> None:
        """Have the sequencer take a run of the journal into the log."""
        began = time.monotonic()
        short = self._scarce() or self._backlog.commits_lately
        try:
            self._asked_at = began
            await self._sequencer.take_in(
                run.end,
                at_least=self._commits.written,
                transaction=SHORT_TRANSACTION if short else RUN_TRANSACTION,
                taken=lambda taken: self._taken(run, taken),
            )
        finally:
            self._asked_at = None
        now = time.monotonic()
        self._pace.look(self._backlog.grown, now)
        await self._pause(self._pace.pause(self._backlog.behind) * (now - began))

    def _taken(self, run: Run, taken: Taken) -> None:
        self._asked_at = time.monotonic()
        self._took(run, taken)

    async def _pause(self, seconds: float) -> None:
        """Leave the machine to the sessions for a while, unless somebody waits for this or the log is far behind."""
        while seconds > 0 and not self._turns.closing and not self._scarce() and self._backlog.behind < SMOOTH_BEHIND:
            await self._pause_once(min(seconds, LOOK_S))
            if not self._backlog.is_behind or not self._pace.look(self._backlog.grown, time.monotonic()):
                return  # nobody is kept from anything any more
            seconds -= LOOK_S

    async def _pause_once(self, seconds: float) -> None:
        if self._backlog.is_behind:  # nobody waits for it: commits go beside it, and do not share the machine with it
            await set_within(self._turns.closed, seconds)
        elif not self._backlog.owed:
            await self._turns.unless_urgent(seconds)
