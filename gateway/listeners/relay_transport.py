"""The relay's wire: a request as the control plane hands it over, and the pipeline's answers as frames."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import DatabaseError

from gateway.domain import statements as kept
from gateway.domain.snapshot import ConnectionSpec
from gateway.domain.threads import in_thread
from gateway.listeners.jsonvalues import json_value, type_name, wire_parameter
from gateway.protocols.bigquery.parameters import bound, declared, positional
from gateway.session.context import SessionContext, StatementRequest, new_id
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.transport import Denial, PendingReview, Resumption
from gateway.upstreams.registry import ResultStream, UpstreamFailed, UpstreamSession

Frame = dict[str, Any]
OpenSession = Callable[[ConnectionSpec], Awaitable[UpstreamSession]]

# Rows of a held statement's result that are kept for a caller who comes back; more need a caller that waits.
MAX_KEPT_ROWS = 10_000
# Frames a slow caller may lag behind before the upstream is paused: bounds memory to a few batches.
MAX_QUEUED_FRAMES = 16


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """A statement as the control plane hands it over; `parameters` are JSON values."""

    connection: str
    statement: str
    parameters: tuple[Any, ...] = ()
    wait_s: float = 0.0
    detach: bool = True
    protocol: str = "rest"
    client_address: str = ""
    traceparent: str = ""
    statement_id: str | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RelayRequest:
        return cls(
            connection=str(body["connection"]),
            statement=str(body["statement"]),
            parameters=tuple(body.get("parameters") or ()),
            wait_s=float(body.get("wait_s") or 0),
            detach=bool(body.get("detach", True)),
            protocol=str(body.get("protocol", "rest")),
            client_address=str(body.get("client_address", "")),
            traceparent=str(body.get("traceparent", ""))[:64],
        )

    def as_kept(self) -> dict[str, Any]:
        return {
            "connection": self.connection,
            "statement": self.statement,
            "parameters": list(self.parameters),
            "protocol": self.protocol,
        }


class RelayTransport:
    """Turns the pipeline's answers into frames. Once detached, frames are gathered for keeping instead of sent."""

    def __init__(self, open_session: OpenSession, session: SessionContext, request: RelayRequest) -> None:
        self._open_session = open_session
        self._session = session
        self.request = request
        self._upstream: UpstreamSession | None = None
        self._gone = asyncio.Event()
        self.frames: asyncio.Queue[Frame | None] = asyncio.Queue(MAX_QUEUED_FRAMES)
        self.detached = False
        self.ended_by = ""  # why somebody ended it from outside
        self.review: PendingReview | None = None
        self.waits = False  # for its review, without anything running
        self.row_waits = request.statement_id is not None  # its row says so: others may take it over
        self.kept = KeptResult()

    @property
    def gone(self) -> asyncio.Event:
        return self._gone

    def under_way(self) -> bool:
        """Whether a process that drains should wait: a held statement is found again by the poll of its caller."""
        return not (self.waits and self.request.detach)

    def rules_changed(self) -> bool:
        """Have what runs ask about its masks again; False when it is not allowed any more."""
        return self._upstream is None or self._upstream.rules_changed()

    async def open_upstream(self) -> UpstreamSession:
        if self._upstream is None:
            self._upstream = await self._open_session(self._session.connection)
            self._session.role = self._upstream.role
            self._session.search_path = self._upstream.search_path
            self._session.settings = self._upstream.settings
            self._session.upstream_tls = self._upstream.tls
        return self._upstream

    async def close_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            with contextlib.suppress(UpstreamFailed, OSError):
                await upstream.close()

    async def cancel(self, reason: str = "client-gone") -> None:
        self.ended_by = self.ended_by or reason
        self._gone.set()
        if self._upstream is not None:
            await self._upstream.cancel()

    async def emit(self, frame: Frame) -> None:
        self.kept.take(frame)
        if not self.detached:
            await self.frames.put(frame)

    async def send_denied(self, denial: Denial) -> None:
        await self.emit({"type": "denied", "problem": denial.as_problem()})

    async def send_pending(self, review: PendingReview) -> None:
        self.review = review
        # A hold may last an hour; an idle upstream session would be held with it.
        await self.close_upstream()
        until = datetime.fromtimestamp(review.expires_at, tz=UTC).isoformat()
        frame = {"id": review.review_id, "url": review.url, "expires_at": until, "rule": review.rule}
        if self.request.detach:
            await in_thread(kept.mark_pending, statement_id=review.statement_id, review=frame)
            self.row_waits = True
        self.waits = True
        await self.emit({"type": "pending", "review": frame, "permitted_statement": review.permitted_statement})

    async def send_resumed(self, resumption: Resumption) -> None:
        self.waits = False
        self.kept.statement = resumption.statement
        self.kept.modified_from = resumption.modified_from
        await self.emit(
            {
                "type": "resumed",
                "review": resumption.review_id,
                "approvers": list(resumption.approvers),
                "reason": resumption.reason,
                "statement": resumption.statement,
                "modified_from": resumption.modified_from,
            }
        )

    def may_run_modified(self, permit_text: str) -> bool:
        return True

    async def execute(self, permit: ExecutionPermit) -> None:
        self.waits = False
        if permit.claim is not None:
            self.kept.emergency, self.kept.grant = permit.claim.emergency, permit.claim.grant_id
        try:
            if self.row_waits:
                await self._mark_running(permit.request.statement_id)
            upstream = await self.open_upstream()
        except UpstreamFailed as failed:
            permit.complete(Outcome(status="failed", error=failed.sqlstate))
            await self._send_failed(failed)
            return
        try:
            await self._stream(await upstream.execute(permit))
        except UpstreamFailed as failed:
            await self._send_failed(failed)

    async def _mark_running(self, statement_id: str) -> None:
        """From here on nobody may hold it again: it would run twice. Raises UpstreamFailed."""
        try:
            await in_thread(kept.mark_running, statement_id=statement_id)
        except (kept.StatementProblem, DatabaseError):
            raise UpstreamFailed(
                "the control database did not note that the statement runs", sqlstate="58000"
            ) from None

    async def _stream(self, result: ResultStream) -> None:
        if result.columns:
            await self.emit({"type": "columns", "columns": described(result)})
        types = [column.type_oid for column in result.columns]
        masked = [bool(mask.mask) for mask in result.fields]
        async for batch in result.batches():
            rows = [
                [json_value(v, oid, masked=m) for v, oid, m in zip(row, types, masked, strict=True)] for row in batch
            ]
            await self.emit({"type": "rows", "rows": rows})
        count = result.row_count if result.columns else affected_rows(result.command_tag)
        await self.emit({"type": "completed", "row_count": count, "command_tag": result.command_tag})

    async def _send_failed(self, failed: UpstreamFailed) -> None:
        problem = {
            "code": "failed-upstream",
            "reason": failed.message,
            "sqlstate": failed.sqlstate,
            "position": failed.position,
            "session_id": self._session.session_id,
        }
        await self.emit({"type": "failed", "problem": problem})


def affected_rows(command_tag: str) -> int:
    """The count at the end of `INSERT 0 3`, `UPDATE 1` …; 0 for commands that count nothing."""
    last = command_tag.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


def described(result: ResultStream) -> list[Frame]:
    return [
        {
            "name": column.name,
            "type": column.type_name or type_name(column.type_oid),
            "masked": not mask.masks_nothing,
            "rule": ",".join(sorted({leaf.rule for _, leaf in mask.leaves()} - {""})) or None,
        }
        for column, mask in zip(result.columns, result.fields, strict=True)
    ]


@dataclass(slots=True)
class KeptResult:
    """What a caller who comes back will be given."""

    columns: list[Frame] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    status: str = "running"
    row_count: int = 0
    command_tag: str = ""
    truncated: bool = False
    problem: Frame | None = None
    statement: str | None = None
    modified_from: str | None = None
    emergency: str = ""  # the access it ran under
    grant: str = ""  # the approval it ran under

    def take(self, frame: Frame) -> None:
        match frame["type"]:
            case "columns":
                self.columns = frame["columns"]
            case "rows":
                room = MAX_KEPT_ROWS - len(self.rows)
                self.rows.extend(frame["rows"][:room])
                self.truncated = self.truncated or room < len(frame["rows"])
            case "completed":
                self.status, self.row_count = "completed", frame["row_count"]
                self.command_tag = frame["command_tag"]
            case "denied" | "failed":
                code = frame["problem"]["code"]
                self.status = "expired" if code == "review-expired" else frame["type"]
                # What is kept stands in clear: the alternative has the statement's own literals.
                self.problem = {name: told for name, told in frame["problem"].items() if name != "permitted_statement"}

    def as_result(self) -> Frame | None:
        if self.status != "completed":
            return None
        return {
            "columns": self.columns,
            "rows": self.rows,
            "row_count": self.row_count,
            "command_tag": self.command_tag,
            "truncated": self.truncated,
        }


def frames_of(result: Mapping[str, Any]) -> list[Frame]:
    frames: list[Frame] = []
    if result.get("statement") and result.get("modified_from"):
        frames.append({"type": "resumed", "statement": result["statement"], "modified_from": result["modified_from"]})
    if result["columns"]:
        frames += [{"type": "columns", "columns": result["columns"]}, {"type": "rows", "rows": result["rows"]}]
    return [
        *frames,
        {"type": "completed", "row_count": result["row_count"], "command_tag": result["command_tag"]},
    ]


def statement_of(request: RelayRequest, kind: str = "postgres") -> StatementRequest:
    """The request in the words of the connection's kind."""
    if kind == "bigquery":
        parameters = positional(request.parameters)
        return StatementRequest(
            text=request.statement,
            parameters=bound(parameters),
            declared_parameters=declared(parameters),
            statement_id=request.statement_id or new_id(),
        )
    return StatementRequest(
        text=request.statement,
        parameters=tuple(wire_parameter(value) for value in request.parameters),
        parameter_types=(0,) * len(request.parameters),
        parameter_formats=(0,) * len(request.parameters),
        statement_id=request.statement_id or new_id(),
    )
