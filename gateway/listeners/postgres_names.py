"""Which text stands behind the name of a prepared statement or portal, as the server sees it.

A name changes only when the server says so (ParseComplete, BindComplete, CloseComplete): a Parse of a taken name fails
and the old statement stays, and believing otherwise would mask one statement's rows with another one's plan. Clients
pipeline, though, and name what they have just sent; so every change is first *proposed* and seen by later messages of
the pipeline, which the server skips anyway when the change fails, then committed or withdrawn. It skips to the next
Sync and no further: behind one, what was proposed before it is `doubtful` until the server has answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from analysis.statement import Analysis
from gateway.protocols.postgres.client import Bind
from gateway.protocols.postgres.state import NamesState, PreparedState
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.recurring import Recurring
from gateway.upstreams.postgres_execution import BoundShape, Shape

# Drivers cache at most a few hundred; a client that keeps more is leaking or attacking.
MAX_NAMES = 10_000
# What may be kept under names, in bytes of texts and parameters: a message may have 64 MiB, and so might each name.
MAX_NAMED_BYTES = 64 << 20


@dataclass
class Prepared(PreparedState):
    """`analysis` is None for an empty text."""

    name: str
    text: str
    types: tuple[int, ...]
    analysis: Analysis | None
    fixed: bool
    shape: Shape = field(default_factory=Shape)
    recurring: Recurring | None = field(default_factory=lambda: None)
    settings: str = ""  # of the session when it was parsed

    @property
    def size(self) -> int:
        return len(self.text)


@dataclass(slots=True)
class Portal:
    """`permit` was given at Bind, for the first Execute, when the statement had to be approved before planning."""

    name: str
    statement: Prepared
    bind: Bind
    shape: BoundShape
    permit: ExecutionPermit | None = None
    names: tuple[int, str] | None = None  # what names meant when it was bound (see `postgres_plans`), and
    meant: Analysis | None = None  # what it was bound to
    settings: str = ""  # of the session when it was bound

    @property
    def size(self) -> int:
        return sum([len(value) for value in self.bind.parameters if value is not None])

    def retire(self) -> None:
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.complete(Outcome(status="skipped"))


Entry = TypeVar("Entry", Prepared, Portal)


class Names(NamesState, Generic[Entry]):
    """Names of one kind. `changed(name, entry or None)` is told what the server has confirmed."""

    def __init__(self, changed: Callable[[str, Entry | None], None]) -> None:
        self._confirmed = {}
        self._proposed = {}
        self.doubtful = set()
        self._kept_bytes = 0  # of what is confirmed under names; the unnamed one is replaced by the next
        self.proposed_bytes = 0
        self._changed: Callable[[str, Entry | None], None] = changed

    def get(self, name: str) -> Entry | None:
        """What a message sent now would find, if everything before it succeeds."""
        proposals = self._proposed.get(name)
        return proposals[-1] if proposals else self._confirmed.get(name)

    def certain(self, name: str) -> Entry | None:
        """`get`; None as well where only the server's answer can tell."""
        return None if name in self.doubtful else self.get(name)

    def standing(self, name: str) -> Entry | None:
        """What the server has confirmed and not dropped."""
        return self._confirmed.get(name)

    def confirmed(self) -> list[Entry]:
        return list(self._confirmed.values())

    @property
    def any(self) -> bool:
        return bool(self._confirmed or self._proposed)

    @property
    def full(self) -> bool:
        return len(self._confirmed) + len(self._proposed) >= MAX_NAMES or self._kept_bytes > MAX_NAMED_BYTES

    def request_ends(self) -> None:
        """A Sync is about to be sent. A failure in front of it undoes what was proposed, and skips nothing behind."""
        self.doubtful.update(self._proposed)

    def propose(self, name: str, entry: Entry | None) -> None:
        self.doubtful.discard(name)
        self._proposed.setdefault(name, []).append(entry)
        self.proposed_bytes += _size(entry)

    def commit(self, name: str, entry: Entry | None) -> None:
        if self._proposed:
            self.withdraw(name, entry)
        replaced = self._confirmed.pop(name, None)
        if entry is not None:
            self._confirmed[name] = entry
        if name:
            self._kept_bytes += _size(entry) - _size(replaced)
        self._changed(name, entry)

    def withdraw(self, name: str, entry: Entry | None) -> None:
        proposals = self._proposed.get(name, [])
        for index, proposed in enumerate(proposals):
            if proposed is entry:
                del proposals[index]
                self.proposed_bytes -= _size(entry)
                break
        if not proposals:
            self._proposed.pop(name, None)
            self.doubtful.discard(name)

    def forget(self, name: str) -> None:
        """The server dropped it without being asked by name."""
        dropped = self._confirmed.pop(name, None)
        if dropped is not None:
            self._kept_bytes -= _size(dropped) if name else 0
            self._changed(name, None)

    def clear(self) -> list[Entry]:
        """Forget every confirmed name; returns what they stood for."""
        if not self._confirmed:
            return []
        entries = list(self._confirmed.values())
        for name in list(self._confirmed):
            self.forget(name)
        return entries


def _size(entry: Prepared | Portal | None) -> int:
    return 0 if entry is None else entry.size
