# cython: language_level=3, annotation_typing=False
"""What is looked at of a remembered statement every time it comes: see `gateway.protocols.postgres.state`."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from gateway.session.services import StaleSnapshot

if TYPE_CHECKING:
    from audit.domain.template import Template
    from gateway.domain.snapshot import Snapshot
    from gateway.session.known import KnownStatement
    from gateway.session.services import Recollection


class RecurringState:
    """Of `recurring.Recurring`."""

    known: KnownStatement
    text: str
    types: tuple[int, ...]
    shape: str
    authorised: Template
    completed: Template | None  # None where the ends of executions say more than rows, bytes and masks
    plain: bool  # nothing of an execution has to be counted, capped or said beyond rows, bytes and masks
    waits: bool
    _snapshot: Snapshot
    _recollection: Recollection
    _head: str
    _tails: dict[tuple[int, ...], str]


class ViewState:
    """Of `recurring.View`."""

    masks: tuple[Any, ...]
    width: int


class SnapshotState:
    """Of `gateway.store.SnapshotStore`."""

    _snapshot: Snapshot | None
    _max_age_s: float

    def current(self) -> Snapshot:
        """The rules; nothing is read. Raises StaleSnapshot when they are older than the permitted age."""
        snapshot = self._snapshot
        if snapshot is None or monotonic() - snapshot.loaded_at > self._max_age_s:
            raise StaleSnapshot("the rules are older than the permitted age")
        return snapshot
