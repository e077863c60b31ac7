"""One permitted statement at BigQuery: started once, its pages masked by the permit's plan, counted and recorded.

The first pass over the rows is the statement's recording. The permit completes when the last row has been handed out,
or when nobody has asked for the next one in `IDLE_S`. Rows asked for again after that are recorded by an entry of their
own, before they leave.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.statement import Output
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.resources import JobStatistics
from gateway.protocols.bigquery.values import plain_row, values_at
from gateway.session.context import StatementRequest
from gateway.session.permit import ExecutionPermit, FieldCount, Outcome
from gateway.session.subjects import SubjectCollector
from gateway.upstreams.bigquery_sources import RowSource
from gateway.upstreams.recording import Recording, RecordingSink
from gateway.upstreams.registry import UpstreamFailed
from masking.bigquery import RowMasker, TimestampFormat, result_columns
from masking.domain.field import MaskingPlan, ResultColumn

logger = logging.getLogger(__name__)

IDLE_S = 120.0
RECORDING_FORMAT = "jsonl"
# Masking fewer rows takes some milliseconds at most; more are masked beside the event loop.
SHORT_ROWS = 200

# Records that rows of a finished execution went out once more; raises when they must not.
ReadAgain = Callable[[ExecutionPermit, Outcome], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Page:
    """Masked rows. `next_offset` is None after the last one."""

    rows: list[dict[str, Any]]
    next_offset: int | None


class BigQueryExecution:
    """Consumes its permit in `run` and completes it exactly once."""

    def __init__(
        self,
        source: RowSource,
        permit: ExecutionPermit,
        *,
        recordings: RecordingSink | None,
        read_again: ReadAgain,
        begin: int = 0,
    ) -> None:
        """`begin` is the offset the first pass starts at."""
        self.permit = permit
        self.fields: list[dict[str, Any]] | None = None  # the result's columns; None: it has no result
        self.columns: Sequence[ResultColumn] = ()
        self.plan = MaskingPlan()
        self.total_rows = 0
        self.statistics = JobStatistics()
        self.ended = asyncio.Event()  # the permit is complete
        self._source = source
        self._recordings = recordings
        self._read_again = read_again
        self._cancelled = False
        self._begin = begin
        self._position = begin  # where the first pass goes on
        self._delivered = 0
        self._bytes = 0
        self._counts: dict[tuple[str, str, str], int] = {}
        self._subjects: SubjectCollector | None = None
        self._recording: Recording | None = None
        self._finished = False
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Return when the result can be read; raise BigQueryError or UpstreamFailed when there is none."""
        request = self.permit.consume()
        try:
            await self._describe(request)
        except BigQueryError as error:
            await self._finish("cancelled" if self._cancelled else "failed", error=error.reason)
            raise
        except UpstreamFailed as failed:
            await self._finish("failed", error=failed.sqlstate)
            raise
        except BaseException as error:
            await self.cancel()
            await self._finish("cancelled", error=type(error).__name__)
            raise
        if self.fields and self.total_rows:
            self._wait_for_reader()
        else:
            await self._finish("completed")

    async def _describe(self, request: StatementRequest) -> None:
        described = await self._source.start(request, self.permit.session)
        self.statistics = described.statistics
        self.total_rows = described.total_rows
        if not described.fields:
            return
        self.columns = result_columns({"fields": described.fields})
        analysis = self.permit.analysis
        if analysis.complete and analysis.outputs and not fits(analysis.outputs, self.columns):
            # Same number of columns, other names: a table was made anew since it was analysed.
            raise BigQueryError("accessDenied", "the tables changed while the query was analysed; run it again")
        self.plan = self.permit.plan_for(self.columns)
        if len(self.plan.fields) != len(self.columns):
            raise BigQueryError("accessDenied", "the result cannot be masked")
        self.fields = described.fields
        self._subjects = self.permit.watch(self.plan)

    def rules_changed(self) -> bool:
        """False when it is not allowed any more, or its rows would be masked otherwise. Raises StaleSnapshot."""
        allowed, masks = self.permit.still_allowed, self.permit.still_masks
        if self._finished:
            return True
        if allowed is not None and not allowed():
            return False
        return masks is None or not self.fields or masks(self.columns, self.plan)

    async def cancel(self) -> None:
        """Ask the service to end it; what it answers is never shown after this."""
        self._cancelled = True
        if not self._finished:
            await self._source.cancel()

    async def close(self) -> None:
        """Nobody will read on: what was handed out is the result."""
        async with self._turn:
            await self._finish("cancelled" if self._cancelled else "completed")

    async def page(self, *, offset: int, max_results: int | None, int64_timestamps: bool = False) -> Page:
        """Masked rows from `offset` on. Raises BigQueryError, UpstreamFailed, and whatever keeps the record."""
        async with self._turn:
            if self._cancelled:
                raise BigQueryError("stopped", "the job was cancelled")
            if not self.fields or offset >= self.total_rows:
                return Page([], None)
            self._stop_waiting()
            try:
                return await self._page(offset, max_results, int64_timestamps)
            finally:  # however it went: the permit completes when nobody reads on
                if not self._finished:
                    self._wait_for_reader()

    async def _page(self, offset: int, max_results: int | None, int64_timestamps: bool) -> Page:
        raw = await self._source.fetch(offset=offset, max_results=max_results, int64_timestamps=int64_timestamps)
        again = self._finished or offset != self._position
        await self._stop_at_cap(offset + len(raw.rows))
        form = TimestampFormat.INT64 if int64_timestamps else TimestampFormat.FLOAT
        masker = RowMasker(self.plan, self.columns, timestamps=form)
        subjects = self.permit.watch(self.plan) if again else self._subjects
        if len(raw.rows) <= SHORT_ROWS:
            rows, lines = self._masked(masker, subjects, raw.rows)
        else:
            rows, lines = await asyncio.to_thread(self._masked, masker, subjects, raw.rows)
        if subjects is not None:
            subjects.rows_taken()
        if again:
            await self._record_again(masker, subjects, len(rows), lines)
        else:
            await self._record(masker, len(rows), lines)
        if raw.next_offset is None and self._position == self.total_rows:
            await self._finish("completed")
        return Page(rows, raw.next_offset)

    async def _stop_at_cap(self, end: int) -> None:
        """Where fewer rows were expected, and on that alone nobody was asked, none beyond them is handed out."""
        cap = self.permit.row_cap
        if cap is not None and end - self._begin > cap:
            await self._finish("failed", error="row-cap")
            raise BigQueryError(
                "accessDenied",
                f"the result has more than the {cap} rows that need no reviewer; add a LIMIT or ask for a review",
            )

    def _masked(
        self, masker: RowMasker, subjects: SubjectCollector | None, raw: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], bytes]:
        """The rows for the client, and the same as lines of the recording. Notes whose they are on the way."""
        rows = list(masker.mask_rows(raw))
        if subjects is not None:
            for column, note in subjects.notes():
                for row in raw:
                    for value in values_at(row["f"][column.index]["v"], column.path):
                        note(value)
        if not self._records:
            return rows, b""
        assert self.fields is not None
        lines = [json.dumps(plain_row(row, self.fields), separators=(",", ":")).encode() for row in rows]
        return rows, b"".join(line + b"\n" for line in lines)

    # --- The record ---------------------------------------------------------------------------------------------------

    @property
    def _records(self) -> bool:
        return self._recordings is not None and self.permit.records_results

    def _open_recording(self) -> Recording:
        assert self._recordings is not None
        recording = self._recordings.open(
            session_id=self.permit.session.session_id,
            statement_id=self.permit.request.statement_id,
            format=RECORDING_FORMAT,
        )
        head = {"columns": [{"name": column.name, "type": column.type_name} for column in self.columns]}
        recording.write(json.dumps(head, separators=(",", ":")).encode() + b"\n")
        return recording

    async def _record(self, masker: RowMasker, rows: int, lines: bytes) -> None:
        self._position += rows
        self._delivered += rows
        self._bytes += len(lines)
        for column, rule, technique, count in masker.counts():
            key = (column, rule, technique)
            self._counts[key] = self._counts.get(key, 0) + count
        if not self._records:
            return
        if self._recording is None:
            self._recording = self._open_recording()
        self._recording.write(lines)
        if self._recording.behind:
            await self._recording.drain()

    async def _record_again(
        self, masker: RowMasker, subjects: SubjectCollector | None, rows: int, lines: bytes
    ) -> None:
        """Before they leave: a result that is read again is read again on the record."""
        digest = ""
        if self._records:
            recording = self._open_recording()
            recording.write(lines)
            digest = await recording.close()
        masked = tuple(FieldCount(*counted) for counted in masker.counts())
        seen = subjects.finish(rows=rows) if subjects is not None else None
        outcome = Outcome(
            status="completed", rows=rows, bytes=len(lines), masked=masked, recording=digest, subjects=seen
        )
        await self._read_again(self.permit, outcome)

    async def _finish(self, status: str, *, error: str = "") -> None:
        """Complete the permit; a second call does nothing."""
        if self._finished:
            return
        self._finished = True
        self._stop_waiting()
        affected, completed = self.statistics.affected_rows, status == "completed"
        told = self.total_rows if affected is None else affected
        outcome = Outcome(
            status=status,
            rows=self._delivered if affected is None else affected,
            bytes=self._bytes,
            masked=tuple(FieldCount(*key, count) for key, count in self._counts.items()),
            error=error,
            command_tag=f"{self.statistics.statement_type} {told}".strip() if completed else "",
            bytes_processed=self.statistics.bytes_processed if completed else None,
            untold=affected is None,
            subjects=self._subjects.finish(rows=self._delivered) if self._subjects is not None else None,
        )
        if self._recording is not None:
            try:
                outcome = replace(outcome, recording=await self._recording.close())
            except Exception as lost:  # the evidence says that its recording is missing, and why
                logger.error("recording lost: statement=%s", self.permit.request.statement_id)
                outcome = replace(outcome, error=error or f"recording-lost {type(lost).__name__}")
        self.permit.complete(outcome)
        self.ended.set()

    def _wait_for_reader(self) -> None:
        self._stop_waiting()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _give_up(self) -> None:
        self._giving_up = asyncio.ensure_future(self.close())


def fits(outputs: Sequence[Output], columns: Sequence[ResultColumn]) -> bool:
    """Whether a described result bears the analysed names; one without a name, and another number, fit (the plan of
    another number masks everything)."""
    if len(outputs) != len(columns):
        return True
    return all(
        (not output.name or output.name.lower() == column.name.lower()) and fits(output.fields, column.fields)
        for output, column in zip(outputs, columns, strict=True)
    )
