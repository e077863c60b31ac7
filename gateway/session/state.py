# cython: language_level=3, annotation_typing=False
"""What is looked at of a remembered statement every time it comes: see `gateway.protocols.postgres.state`.

A dataclass that inherits from one of these gives such a field its first value by a factory: a plain default would
stand on the class, in front of the structure's own field.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from gateway.domain.snapshot import StaleSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from audit.domain.template import Template
    from gateway.domain.snapshot import Snapshot
    from gateway.session.context import SessionContext
    from gateway.session.cursors import ApprovedCursor
    from gateway.session.known import KnownStatement
    from gateway.session.recurring import View
    from gateway.session.services import Recollection


class ContextState:
    """Of `context.SessionContext`."""

    session_id: str
    role: str
    search_path: str
    temp_relations: bool
    uncommitted_definitions: bool
    approved_cursors: dict[str, ApprovedCursor]


class TallyState:
    """Of `meter.Tally`."""

    statements: int
    rows: int
    bytes: int
    seconds: float
    counts: list[int]  # by bucket of `meter.BUCKETS`


class MeterState:
    """Of `meter.Meter`."""

    remembered: int
    trace: Callable[[SessionContext, str, Sequence[tuple[str, float, float]], str], None] | None


class ViewState:
    """Of `recurring.View`."""

    masks: tuple[Any, ...]
    width: int
    head: bytes  # what a recording of the result begins with


class KnownState:
    """Of `known.KnownStatement`."""

    until: float
    quiet: bool | None
    control: bool
    views: dict[bytes, View]
    # The description that came last and its view, so that the same bytes are compared, not looked up.
    _described: bytes | None
    _view: View | None


class RecurringState:
    """Of `recurring.Recurring`."""

    known: KnownStatement
    text: str
    types: tuple[int, ...]
    shape: str
    authorised: Template
    completed: Template | None  # None where the ends of executions say more than rows, bytes and masks
    plain: bool  # nothing of an execution has to be counted, capped or said beyond rows, bytes and masks
    template: bytes | None  # Parse of what stands in for simple queries of its shape (`templates.template_of`), once
    tried: bool  # to make one
    reusable: bool  # its text means the same each time it is parsed, as long as nothing is set or defined anew
    waits: bool
    keeps: bool  # what it returns is recorded, as it was shown
    _snapshot: Snapshot
    _recollection: Recollection
    # Its sealed text: without parameters, and as far as before their values; what follows those is by their formats.
    _whole: bytes
    _head: bytes
    _tails: dict[tuple[int, ...], bytes]


class SnapshotState:
    """Of `gateway.store.SnapshotStore`."""

    _snapshot: Snapshot | None
    _loaded_at: float
    _max_age_s: float

    def current(self) -> Snapshot:
        """The rules; nothing is read. Raises StaleSnapshot when they are older than the permitted age."""
        return self.current_at(monotonic())

    def current_at(self, now: float) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None or now - self._loaded_at > self._max_age_s:
            raise StaleSnapshot("the rules are older than the permitted age")
        return snapshot
