"""One execution under way: what its permit says must happen to the rows, and what will be recorded about them.

An Execution masks runs of DataRows (or CopyData), counts, feeds the recording, and completes its permit exactly once,
whatever ends it. It never writes to a client itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from analysis.making import quickly_made
from analysis.statement import Output
from gateway.protocols.postgres.copyrows import (
    BinaryCopyMasker,
    CopyMasker,
    CsvCopyMasker,
    Run,
    TextCopyMasker,
    count_copied,
    runs_of,
)
from gateway.protocols.postgres.datarow import ColumnMask, count_rows, mask_rows
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.protocols.postgres.server import CopyResponse, Field, encode_row_description
from gateway.session.permit import ExecutionPermit, FieldCount, Outcome
from gateway.session.subjects import SubjectCollector
from gateway.upstreams.postgres_copied import asks_by_null
from gateway.upstreams.recording import Recording, RecordingSink
from masking.domain.field import MaskingPlan, ResultColumn

logger = logging.getLogger(__name__)

# How much of a result is masked in one turn of the event loop: about a millisecond either way.
MASKED_TURN_BYTES = 64 * 1024
SCANNED_TURN_BYTES = 8 * 1024  # value detectors read a few megabytes a second

RECORDING_FORMAT = "pgwire"
KEPT_BYTES = 16_384  # the express lane records rows of so many bytes as a whole, longer ones go piece by piece


class PlanRefused(Exception):
    """No masking plan fits the result: it is never shown raw."""


@quickly_made
@dataclass(slots=True)
class Shape:
    """The columns of a statement or portal. `requested`: a Describe is on its way; `fields` () means no rows."""

    requested: bool = False
    fields: tuple[Field, ...] | None = None
    request: int = 0  # of the session's (`ClientSession.requests`): the one in which it was asked for


class BoundShape:
    """A portal's columns: described itself, or its statement's columns in the formats of the Bind."""

    def __init__(self, statement: Shape, formats: tuple[int, ...]) -> None:
        self.own = Shape()
        self._statement = statement
        self._formats = formats

    @property
    def requested(self) -> bool:
        return self.own.requested or self._statement.requested

    def fields(self) -> tuple[Field, ...] | None:
        if self.own.fields is not None:
            return self.own.fields
        if self._statement.fields is None:
            return None
        formats = self._formats or (0,)
        if len(formats) == 1:
            formats *= len(self._statement.fields)
        if len(formats) != len(self._statement.fields):
            return None
        return tuple(replace(f, format=code) for f, code in zip(self._statement.fields, formats, strict=True))


def _column(field: Field) -> ResultColumn:
    return ResultColumn(
        name=field.name,
        type_oid=field.type_oid,
        format=field.format,
        table_oid=field.table_oid,
        attribute=field.attribute,
    )


class Execution:
    """`permit.consume` must have been called by whoever sends the statement upstream."""

    def __init__(
        self,
        permit: ExecutionPermit,
        *,
        shape: BoundShape | None = None,
        recordings: RecordingSink | None = None,
        ended: Callable[[Execution], None] | None = None,
        copy_columns: tuple[Field, ...] = (),
    ) -> None:
        self.permit = permit
        self.rows = 0
        self.bytes = 0
        self.finished = False
        self.succeeded = False
        self.error = ""  # its SQLSTATE, where the server refused it
        self.copying_in = False
        self._begun = False  # rows came since the rules were last asked
        self.plan: MaskingPlan | None = None  # of the result described as `fields`
        self.fields: tuple[Field, ...] = ()
        self.recording: Recording | None = None
        self.sealing: asyncio.Task[None] | None = None
        self.shape = shape
        self._recordings = recordings
        self._ended = ended
        self._masks: tuple[ColumnMask, ...] = ()
        self._subjects: SubjectCollector | None = None
        self._counts: list[int] = []
        self._copy_columns = copy_columns
        self._copy: Run | None = None

    @property
    def text(self) -> str:
        """What was asked; for EXECUTE and FETCH the text they stand for as well (both are the client's own words)."""
        inner = self.permit.analysis.inner
        return self.permit.statement + (f" {inner.statement.text}" if inner else "")

    # --- Results ------------------------------------------------------------------------------------------------------

    def prepare(self, fields: tuple[Field, ...]) -> None:
        """Build the plan for a described result; raises PlanRefused when there is none."""
        self.adopt(fields, self._plan(fields))

    def adopt(self, fields: tuple[Field, ...], plan: MaskingPlan) -> None:
        """Take the plan that was made for exactly these fields."""
        self.fields = fields
        self._adopt(plan)
        if fields and self._records:
            self._record(encode_row_description(fields))

    def take_rows(self, data: bytes, at: int, end: int) -> tuple[int, bytes]:
        """Mask the run of DataRows at `at`; returns (where it ends, the frames for the client).

        Rows of a result that was described as having no columns are walked too: they must have none.
        """
        if self.plan is None:
            self._prepare_from_shape()
        self._begin_rows()
        if not self._masks and self.fields:
            stop, rows = count_rows(data, at, end)
            frames = data if at == 0 and stop == len(data) else data[at:stop]
        else:
            stop, rows, frames = mask_rows(
                data, at, end, width=len(self.fields), masks=self._masks, counts=self._counts
            )
        self._count_rows(rows, frames)
        return stop, frames

    def begin_copy_out(self, response: CopyResponse) -> None:
        """Columns of a COPY are not described by the server: the analysis names them, `copy_columns` types them."""
        outputs = self._analysed_outputs(response)
        fields = self._copy_columns or tuple(Field(output.name, 0, 0, 25, response.format) for output in outputs)
        if len(fields) != len(response.columns) or (outputs and len(outputs) != len(fields)):
            raise PlanRefused("the copied columns are not the analysed ones")
        self.fields = tuple(replace(f, format=response.format) for f in fields)
        self._adopt(self._plan(self.fields))
        if self.plan is None or asks_by_null(self.plan, self.permit.analysis.copy):
            raise PlanRefused("its NULL could be a value of a masked column")
        if self._masks:
            self._copy = runs_of(self._copy_masker(response))
        self._record(encode_row_description(self.fields))

    def _analysed_outputs(self, response: CopyResponse) -> tuple[Output, ...]:
        """An incomplete analysis knows no columns: they are all unresolved, and masked whole where anything is."""
        analysis = self.permit.analysis
        if analysis.complete:
            return analysis.outputs or ()
        return tuple(Output(f"column{n}", resolved=False) for n in range(1, len(response.columns) + 1))

    def take_copied(self, data: bytes, at: int, end: int) -> tuple[int, bytes]:
        """Mask the run of CopyData at `at`; returns (where it ends, the frames for the client)."""
        self._begin_rows()
        if self._copy is not None:
            stop, rows, frames = self._copy(data, at, end)
        elif self.plan is None:
            raise PlanRefused("copied rows before their description")
        else:
            stop, rows = count_copied(data, at, end)
            frames = data if at == 0 and stop == len(data) else data[at:stop]
        self._count_rows(rows, frames)
        return stop, frames

    def _count_rows(self, rows: int, frames: bytes) -> None:
        cap = self.permit.row_cap
        if cap is not None and self.rows + rows > cap:
            # The planner expected fewer, and on that alone nobody was asked.
            raise PlanRefused(f"it has more than the {cap} rows that need no reviewer; add a LIMIT or ask for a review")
        self.rows += rows
        self.bytes += len(frames)
        if self._subjects is not None:
            self._subjects.rows_taken()
        self._record(frames)

    def _begin_rows(self) -> None:
        """Before the first row is shown: the rules may have moved while the statement waited for a lock.

        And before the next one where they have moved since (`rules_changed`): a client may take hours to read.
        """
        if self._begun:
            return
        self._begun = True
        still = self.permit.still_masks
        if still is None or self.plan is None:
            return
        try:
            holds = still([_column(field) for field in self.fields], self.plan)
        except Exception as error:  # fail closed: nobody knows the rules of this moment
            logger.error("rules not known: error=%s", type(error).__name__)
            holds = False
        if not holds:
            raise PlanRefused("the rules for its columns changed while it ran; send it again")

    def rules_changed(self) -> bool:
        """Ask about the masks again before more rows are shown. False: it is not allowed any more."""
        self._begun = False
        allowed = self.permit.still_allowed
        try:
            return allowed is None or allowed()
        except Exception as error:  # fail closed: nobody knows the rules of this moment
            logger.error("rules not known: error=%s", type(error).__name__)
            return False

    def _copy_masker(self, response: CopyResponse) -> CopyMasker:
        form = self.permit.analysis.copy
        width, masks, counts = len(self.fields), self._masks, self._counts
        if response.format == 1:
            return BinaryCopyMasker(width=width, masks=masks, counts=counts)
        if form is None or form.format == "binary":
            raise PlanRefused("the format of this COPY is not known")
        if form.format == "csv":
            return CsvCopyMasker(
                width=width,
                masks=masks,
                counts=counts,
                delimiter=form.delimiter,
                null=form.null,
                header=form.header,
                quote=form.quote,
                escape=form.escape,
            )
        return TextCopyMasker(
            width=width, masks=masks, counts=counts, delimiter=form.delimiter, null=form.null, header=form.header
        )

    def _prepare_from_shape(self) -> None:
        fields = self.shape.fields() if self.shape is not None else None
        if fields is None:
            raise PlanRefused("rows without a description")
        self.prepare(fields)

    def _plan(self, fields: Sequence[Field]) -> MaskingPlan:
        try:
            plan = self.permit.plan_for([_column(field) for field in fields])
        except Exception as error:  # fail closed: whatever went wrong, there is no plan
            logger.error("no masking plan: error=%s", type(error).__name__)
            raise PlanRefused("the result cannot be masked") from None
        if len(plan.fields) != len(fields):
            raise PlanRefused("the masking plan does not fit the result")
        return plan

    def _adopt(self, plan: MaskingPlan) -> None:
        self.plan = plan
        self._counts = [0] * len(plan.fields)
        self._masks = tuple(
            (index, entry.mask, entry.scans_text) for index, entry in enumerate(plan.fields) if entry.mask is not None
        )
        self._subjects = self.permit.watch(plan)
        if self._subjects is not None:
            self._masks = self._subjects.watching(self._masks)

    @property
    def turn_bytes(self) -> int:
        """How many bytes of the result may be taken in one turn of the event loop; 0 when they cost nothing."""
        if any(scans for _, _, scans in self._masks):
            return SCANNED_TURN_BYTES
        return MASKED_TURN_BYTES if self._masks or self.plan is None or self._copy is not None else 0

    @property
    def masks_any(self) -> bool:
        """Whether a column of the result is masked: otherwise rows leave as they came."""
        return bool(self._masks) or not self.fields

    # --- Recording and the end ----------------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        return self.recording is not None and self.recording.behind

    @property
    def _records(self) -> bool:
        return self._recordings is not None and self.permit.records_results

    def _record(self, data: bytes) -> None:
        if self._recordings is None or not self.permit.records_results:
            return
        if self.recording is None:
            self.recording = self._recordings.open(
                session_id=self.permit.session.session_id,
                statement_id=self.permit.request.statement_id,
                format=RECORDING_FORMAT,
            )
        self.recording.write(data)

    def finish(self, status: str, *, error: str = "", command_tag: str = "") -> None:
        """End the execution; a second call is ignored. The permit completes when the recording is sealed."""
        if self.finished:
            return
        self.finished = True
        self.succeeded = status == "completed"
        self.error = error
        if self.succeeded and self.plan is None and self.shape is not None and self.shape.fields():
            with contextlib.suppress(
                PlanRefused
            ):  # it had no row: what would have been masked is recorded all the same
                self._prepare_from_shape()
        outcome = Outcome(
            status=status,
            rows=self.rows,
            bytes=self.bytes,
            masked=self._masked_counts(),
            error=error,
            command_tag=command_tag,
            subjects=self._subjects.finish(rows=self.rows) if self._subjects is not None else None,
        )
        digest = self._closed_at_once()
        if digest is not None:
            self.permit.complete(replace(outcome, recording=digest) if digest else outcome)
        elif self.recording is not None:
            self.sealing = asyncio.get_running_loop().create_task(self._seal(self.recording, outcome))
        if self._ended is not None:
            self._ended(self)

    def _closed_at_once(self) -> str | None:
        """The recording's digest, empty where there is none. None: `_seal` waits for it, or tells what is wrong."""
        with contextlib.suppress(Exception):
            return "" if self.recording is None else self.recording.close_at_once()
        return None

    async def _seal(self, recording: Recording, outcome: Outcome) -> None:
        try:
            outcome = replace(outcome, recording=await recording.close())
        except Exception as error:  # the evidence says that its recording is missing, and why
            logger.error("recording lost: statement=%s", self.permit.request.statement_id)
            outcome = replace(outcome, error=outcome.error or f"recording-lost {type(error).__name__}")
        self.permit.complete(outcome)

    def _masked_counts(self) -> tuple[FieldCount, ...]:
        if self.plan is None:
            return ()
        return tuple(
            FieldCount(column=entry.column, rule=entry.rule, technique=entry.technique, count=count)
            for entry, count in zip(self.plan.fields, self._counts, strict=True)
            if entry.mask is not None
        )


__all__ = ["BoundShape", "Execution", "PlanRefused", "ProtocolViolation", "Shape"]
