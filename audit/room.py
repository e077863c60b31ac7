"""Who waits for room in the journal: entries of what may happen only once they are in it, in the order they came.

The journal holds so much that the log has not taken in, and no more. Past that, what is about to happen waits here
until the log has gone on, so that statements go at the log's pace. What it holds is bounded: who finds no place here
is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from audit.answers import RecordUnavailable
from audit.domain.entry import Answer

MAX_WAITING = 20_000  # entries
MAX_WAITING_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Waiting:
    payload: bytes
    durability: str  # os | disk
    session_id: str
    answer: Answer


class Room:
    """Used by one event loop."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called whenever somebody came or went."""
        self._changed = changed
        self.waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._numbered = 0
        self._bytes = 0

    def wait(self, waiting: Waiting) -> int:
        """Take the last place; returns its number, for `leave`. Raises RecordUnavailable when there is none."""
        size = len(waiting.payload)
        if len(self.waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            raise RecordUnavailable("the audit log is behind, and too many wait for it")
        self._numbered += 1
        self.waiting[self._numbered] = waiting
        self._bytes += size
        self._changed()
        return self._numbered

    def next(self) -> Waiting:
        """Who has waited longest, who does no longer."""
        _, waiting = self.waiting.popitem(last=False)
        self._bytes -= len(waiting.payload)
        self._changed()
        return waiting

    def leave(self, number: int) -> None:
        """Nobody waits for it any more: it never happens. What has left already is left alone."""
        waiting = self.waiting.pop(number, None)
        if waiting is not None:
            self._bytes -= len(waiting.payload)
            self._changed()

    def leave_session(self, session_id: str) -> list[Waiting]:
        """What this session waits for, in its order, and does no longer."""
        numbers = [number for number, waiting in self.waiting.items() if waiting.session_id == session_id]
        found = [self.waiting[number] for number in numbers]
        for number in numbers:
            self.leave(number)
        return found

    def refuse(self, reason: str) -> None:
        """Tell everybody that nothing may run."""
        refused, self.waiting, self._bytes = self.waiting, OrderedDict(), 0
        self._changed()
        for waiting in refused.values():
            waiting.answer(RecordUnavailable(reason))
