"""Who waits for room in the journal: entries of what may happen only once they are in it.

The journal holds so much that the log has not taken in, and no more. Past that, what is about to happen waits here
until the log has gone on, so that statements go at the log's pace. What it holds is bounded: who finds no place here
is refused.

Places are shared by principals. Each may have as many as are free, and no more: alone it gets half of them, beside
another one a third, and however much some take, there is always a place for somebody who has none (the dynamic
thresholds of shared switch buffers; Choudhury and Hahne, 1998). They are let in by turns, each in the order it came.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from audit.answers import RecordUnavailable
from audit.domain.entry import Answer, Entry

MAX_WAITING = 20_000  # entries
MAX_WAITING_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Waiting:
    payload: bytes
    durability: str  # os | disk
    session_id: str
    answer: Answer
    principal: str = ""


def principal_of(entry: Entry) -> str:
    """Whoever an entry is about, as far as sharing goes: a person, an agent, or an agent in a person's name."""
    return f"{entry.body.get('subject')}\0{entry.body.get('actor')}"


@dataclass(slots=True)
class _Queue:
    """What one principal waits for, by number, in its order."""

    waiting: OrderedDict[int, Waiting] = field(default_factory=OrderedDict)
    bytes: int = 0


class Room:
    """Used by one event loop. Nothing here takes longer the more wait."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called whenever somebody came or went."""
        self._changed = changed
        self.waiting: dict[int, Waiting] = {}
        self._queues: OrderedDict[str, _Queue] = OrderedDict()  # in the order of their turns; none is empty
        self._sessions: dict[str, dict[int, None]] = {}
        self._numbered = 0
        self._bytes = 0

    def wait(self, waiting: Waiting) -> int:
        """Take a place; returns its number, for `leave`. Raises RecordUnavailable when there is none for it."""
        queue, size = self._queues.get(waiting.principal) or _Queue(), len(waiting.payload)
        places, room = MAX_WAITING - len(self.waiting), MAX_WAITING_BYTES - self._bytes
        if len(queue.waiting) >= places or queue.bytes + size > room:
            raise RecordUnavailable("the audit log is behind, and too many wait for it")
        self._numbered += 1
        self._queues[waiting.principal] = queue
        self.waiting[self._numbered] = queue.waiting[self._numbered] = waiting
        self._sessions.setdefault(waiting.session_id, {})[self._numbered] = None
        queue.bytes += size
        self._bytes += size
        self._changed()
        return self._numbered

    def next(self) -> Waiting:
        """Whose turn it is, who waits no longer: of the principal that had the last turn first, its oldest."""
        principal, queue = next(iter(self._queues.items()))
        number, waiting = next(iter(queue.waiting.items()))
        self._queues.move_to_end(principal)
        self._remove(number)
        self._changed()
        return waiting

    def leave(self, number: int) -> None:
        """Nobody waits for it any more: it never happens. What has left already is left alone."""
        if number in self.waiting:
            self._remove(number)
            self._changed()

    def leave_session(self, session_id: str) -> list[Waiting]:
        """What this session waits for, in its order, and does no longer."""
        numbers = list(self._sessions.get(session_id, ()))
        found = [self._remove(number) for number in numbers]
        if found:
            self._changed()
        return found

    def refuse(self, reason: str) -> None:
        """Tell everybody that nothing may run."""
        refused = list(self.waiting.values())
        self.waiting.clear()
        self._queues.clear()
        self._sessions.clear()
        self._bytes = 0
        self._changed()
        for waiting in refused:
            waiting.answer(RecordUnavailable(reason))

    def _remove(self, number: int) -> Waiting:
        waiting = self.waiting.pop(number)
        size, queue, session = len(waiting.payload), self._queues[waiting.principal], self._sessions[waiting.session_id]
        del queue.waiting[number], session[number]
        queue.bytes -= size
        self._bytes -= size
        if not queue.waiting:
            del self._queues[waiting.principal]
        if not session:
            del self._sessions[waiting.session_id]
        return waiting
