"""A remembered statement that comes over and over: authorised and ended again without spelling anything anew.

`Recurring` hangs on one `KnownStatement` and knows with one look whether it still holds: the same rules, the same
analysis, the same role and search path. Each `Occurrence` is one execution with entries of its own, durable before it
is sent as its durability says. Whatever is not the usual course of things makes an ordinary permit of it
(`Occurrence.permit`), and from there everything goes as ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from json import dumps
from time import monotonic
from typing import Any

from analysis.fingerprint import skeleton
from audit.domain.chain import encode_sensitive, encode_text
from audit.domain.entry import Entry, Receipt
from audit.domain.template import Filling, Template
from gateway.domain.snapshot import StaleSnapshot
from gateway.session import entries
from gateway.session.context import SessionContext, StatementRequest, new_id
from gateway.session.known import KnownStatement
from gateway.session.meter import now
from gateway.session.permit import ExecutionPermit, FieldCount, Outcome
from gateway.session.quotas import FREE, Admission
from gateway.session.services import Recollection, Services
from gateway.session.state import RecurringState, ViewState
from masking.domain.field import MaskingPlan

Mint = Callable[["Occurrence"], ExecutionPermit]
# How long a server may be spared parsing a text again, and how long a statement that was spared may have taken. Others'
# new names and overloads, which a parsed statement does not see, and plans made for any parameters bound it.
MOST_REUSED_S, MOST_REUSED_RUN_S = 1.0, 0.01
# Constants are evaluated as a text is parsed: 'now', 'today', and whatever depends on a setting.
_CONSTANTS = re.compile(r"'|\$(?![0-9])")
# Sets of counts a plan's masks may have had before they are spelled anew.
MAX_SPELLED = 256


class Recurring(RecurringState):
    """Of one session and one known statement. Only the pipeline makes one (`recurring`), because it can mint."""

    def __init__(
        self,
        services: Services,
        session: SessionContext,
        request: StatementRequest,
        known: KnownStatement,
        recollection: Recollection,
        *,
        mint: Mint,
        admit: Callable[[], Admission | None],
        completed: Template | None,
    ) -> None:
        """`completed` is None where the ends of executions say more than rows, bytes and masks."""
        self.known = known
        self.session, self.services = session, services
        self.text, self.types = request.text, request.parameter_types
        self.shape = recollection.shape
        self.mint = mint
        self.authorised = known.authorised = known.authorised or entries.authorised_template(session, known)
        self.completed = completed
        self.row_cap: int | None = getattr(known.assessment.decision, "row_cap", None)
        self._snapshot = known.assessment.snapshot
        self._recollection = recollection
        self._admit = admit if self._snapshot.quotas else None
        self.waits, self.keeps = known.waits, session.records_results
        self.template, self.tried = None, False
        self.reusable = not _CONSTANTS.search(request.text)
        # Nothing of an execution has to be counted, capped or said beyond rows, bytes and masks.
        self.plain = self._admit is None and self.row_cap is None and completed is not None
        self._whole = encode_sensitive({"statement": request.text})
        self._head = self._whole[:-1] + b',"parameters":['
        self._tails = {}

    def covers(self, request: StatementRequest, *, by_shape: bool) -> bool:
        """Whether it is about this text as well: the very one, or with `by_shape` one of the same shape."""
        if request.parameter_types != self.types:
            return False
        return request.text == self.text or (by_shape and self.shape != "" and skeleton(request.text) == self.shape)

    def holds(self) -> bool:
        """Whether assessing the statement now would end in the same plain Allow."""
        try:
            snapshot = self.services.snapshots.current()
        except StaleSnapshot:
            return False  # the ordinary way says so to the client
        if snapshot is not self._snapshot:
            connection = snapshot.connections.get(self.session.connection.name)
            if snapshot.version != self._snapshot.version or connection is None or not connection.enabled:
                return False
            self._snapshot = snapshot
        return monotonic() < self.known.until and self._recollection.holds()

    def occurs(
        self, *, parameters: tuple[bytes | None, ...] = (), formats: tuple[int, ...] = (), text: str = ""
    ) -> Occurrence | None:
        """One execution that is let in; not recorded yet. None: the ordinary way has to be gone.

        `text`: another one of the same shape, which has no parameters.
        """
        admission = FREE if self._admit is None else self._admit()
        return None if admission is None else Occurrence(self, parameters, formats, text, admission)

    def spelled(self, occurrence: Occurrence) -> bytes:
        """The sealed text of its entry, as `encode_sensitive` would spell it."""
        if occurrence.text:
            return f'{{"statement":{encode_text(occurrence.text)}}}'.encode()
        parameters = occurrence.parameters
        if not parameters:
            return self._whole
        tail = self._tails.get(occurrence.formats) or self.tail(occurrence.formats)
        values = ",".join(["null" if value is None else f'"{value.hex()}"' for value in parameters])
        return self._head + values.encode() + tail

    def tail(self, formats: tuple[int, ...]) -> bytes:
        """What is spelled behind the values of parameters that came in these formats."""
        types, codes = (dumps(listed, separators=(",", ":")) for listed in (self.types, formats))
        tail = f'],"parameter_types":{types},"parameter_formats":{codes}}}'.encode()
        if len(self._tails) < MAX_SPELLED:
            self._tails[formats] = tail
        return tail


class View(ViewState):
    """The result of a recurring statement as one description has it: its plan, and how counts of it are recorded."""

    __slots__ = ("_spelled", "fields", "plan")

    def __init__(self, fields: tuple[Any, ...], plan: MaskingPlan, head: bytes = b"") -> None:
        """`fields` are the wire's own words for the columns, and `head` how a recording has them."""
        self.fields, self.plan, self.width, self.head = fields, plan, len(fields), head
        self.masks = tuple(
            (index, entry.mask, entry.scans_text) for index, entry in enumerate(plan.fields) if entry.mask is not None
        )
        self._spelled: dict[tuple[int, ...], bytes] = {}

    def counts(self, counts: Sequence[int]) -> tuple[FieldCount, ...]:
        """What was masked, for the record."""
        return tuple(
            FieldCount(column=entry.column, rule=entry.rule, technique=entry.technique, count=count)
            for entry, count in zip(self.plan.fields, counts, strict=True)
            if entry.mask is not None
        )

    def spelled(self, counts: Sequence[int]) -> bytes:
        """The same in canonical form."""
        if not self.masks:
            return b"[]"
        key = tuple(counts)
        found = self._spelled.get(key)
        if found is None:
            if len(self._spelled) >= MAX_SPELLED:
                self._spelled.clear()
            found = self._spelled[key] = entries.masked_canonical(self.counts(counts))
        return found


NO_ROWS = View((), MaskingPlan())  # of what returns none


class Occurrence:
    """One execution. `permit` makes it an ordinary one; `complete` ends it as most end. One of the two, once."""

    __slots__ = (
        "_permit", "admission", "began", "formats", "parameters", "recurring", "statement_id", "text",
    )  # fmt: skip

    def __init__(
        self,
        recurring: Recurring,
        parameters: tuple[bytes | None, ...],
        formats: tuple[int, ...],
        text: str,
        admission: Admission,
    ) -> None:
        self.recurring = recurring
        self.parameters, self.formats, self.text = parameters, formats, text
        self.admission = admission
        self.began = now()
        self.statement_id = new_id()
        self._permit: ExecutionPermit | None = None

    # --- its beginning ------------------------------------------------------------------------------------------------

    def record(self) -> bool:
        """Make its authorised entry durable now. False: it is not, and the ordinary way has to be gone."""
        recurring, record = self.recurring, self.recurring.services.record
        filling = Filling(self.statement_id, spelled=recurring.spelled(self))
        try:
            receipt = record.append_like(recurring.authorised, filling, self._authorised)
            receipt = receipt or record.append_now(self._authorised())
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            receipt = None
        if receipt is None:
            self.admission.finish()
            return False
        recurring.services.meter.remembered += 1
        return True

    def record_soon(self, told: Callable[[Occurrence | None], None]) -> bool:
        """`record` where the entry has to be waited for: `told` is called with this one once it is durable.

        It is called in a later turn of the event loop, once, with None when the entry is not durable. False: it will
        not be called, and the ordinary way has to be gone.
        """
        recurring = self.recurring

        def answered(answer: Receipt | Exception) -> None:
            if isinstance(answer, Exception):
                self.admission.finish()
                told(None)
                return
            recurring.services.meter.remembered += 1
            told(self)

        filling = Filling(self.statement_id, spelled=recurring.spelled(self))
        try:
            recurring.services.record.append_soon(recurring.authorised, filling, self._authorised, answered)
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            self.admission.finish()
            return False
        return True

    def request(self) -> StatementRequest:
        recurring = self.recurring
        return StatementRequest(
            text=self.text or recurring.text,
            parameters=self.parameters,
            parameter_types=recurring.types,
            parameter_formats=self.formats,
            statement_id=self.statement_id,
        )

    def _authorised(self) -> Entry:
        return entries.authorised_again(self.recurring.session, self.request(), self.recurring.known)

    # --- its end ------------------------------------------------------------------------------------------------------

    @property
    def ends_plainly(self) -> bool:
        """Whether `complete` may be called: nobody else wants to know of its end."""
        recurring = self.recurring
        return recurring.completed is not None and self._permit is None and recurring.services.meter.trace is None

    def permit(self) -> ExecutionPermit:
        if self._permit is None:
            self._permit = self.recurring.mint(self)
        return self._permit

    def complete(
        self, view: View, *, rows: int, size: int, tag: str, counts: Sequence[int], recording: str = ""
    ) -> None:
        """It ended well, and `size` bytes of `rows` were masked as `counts` says and recorded as `recording`."""
        recurring = self.recurring
        services, template = recurring.services, recurring.completed
        assert template is not None
        if self.admission is not FREE:
            self.admission.finish(rows, size)
        services.meter.tally(recurring.session).ended(rows, size, now() - self.began)
        if view.masks:
            services.meter.masked_values(recurring.session, view.counts(counts))
        values = entries.completed_values(
            recurring.session, rows=rows, size=size, tag=tag, masked=view.spelled(counts), recording=recording
        )
        filling = Filling(self.statement_id, values)

        def whole() -> Entry:
            return self.ended(view, rows=rows, size=size, tag=tag, counts=counts, recording=recording)

        try:
            kept = services.record.append_like_later(template, filling, whole)
        except Exception:  # it happened: the ordinary way keeps it until it is written
            kept = False
        if not kept:
            services.record.append_later(whole())

    def ended(self, view: View, *, rows: int, size: int, tag: str, counts: Sequence[int], recording: str = "") -> Entry:
        """The entry of such an end, spelled the ordinary way."""
        outcome = Outcome(
            "completed", rows=rows, bytes=size, masked=view.counts(counts), recording=recording, command_tag=tag
        )
        return entries.completed(self.permit(), outcome)
