"""The statement relay: how the control plane's REST, WebSocket and MCP surfaces run a statement in the data plane.

The control plane has no upstream credential. It hands the client's own bearer token and the statement over a loopback
or mesh HTTP hop (`POST /relay/v1/statements`, guarded by the relay key), and gets newline-delimited JSON frames back:

    accepted → [pending → [resumed]] → columns → rows* → completed
                                     ↘ denied | failed

A held statement does not need its caller: with `detach` the caller is told `pending` and may leave; the statement
waits here, runs once when approved, and its masked result is kept sealed for a while (`gateway.domain.statements`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from approvals.domain.grant import binding_digest
from approvals.domain.request import Principal
from gateway.domain import statements as kept
from gateway.domain.snapshot import ConnectionSpec
from gateway.domain.threads import in_thread
from gateway.listeners.jsonvalues import json_value, type_name, wire_parameter
from gateway.session import entries
from gateway.session.context import SessionContext, StatementRequest, new_id
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.pipeline import bind, run_statement
from gateway.session.registry import SessionRegistry
from gateway.session.services import Services
from gateway.session.transport import Denial, PendingReview, Resumption
from gateway.upstreams.registry import OpenUpstream, ResultStream, UpstreamFailed, UpstreamSession

logger = logging.getLogger(__name__)

Frame = dict[str, Any]

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
        )

    def as_kept(self) -> dict[str, Any]:
        return {"connection": self.connection, "statement": self.statement, "parameters": list(self.parameters)}


class RelayTransport:
    """Turns the pipeline's answers into frames. Once detached, frames are gathered for keeping instead of sent."""

    def __init__(self, relay: Relay, session: SessionContext, request: RelayRequest) -> None:
        self._relay = relay
        self._session = session
        self._request = request
        self._upstream: UpstreamSession | None = None
        self._gone = asyncio.Event()
        self.frames: asyncio.Queue[Frame | None] = asyncio.Queue(MAX_QUEUED_FRAMES)
        self.detached = False
        self.review: PendingReview | None = None
        self.kept = KeptResult()

    @property
    def gone(self) -> asyncio.Event:
        return self._gone

    async def open_upstream(self) -> UpstreamSession:
        if self._upstream is None:
            self._upstream = await self._relay.open_upstream(self._session.connection)
            self._session.role = self._upstream.role
            self._session.search_path = self._upstream.search_path
            self._session.upstream_tls = self._upstream.tls
        return self._upstream

    async def close_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            with contextlib.suppress(UpstreamFailed, OSError):
                await upstream.close()

    async def cancel(self) -> None:
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
        frame = {"id": review.review_id, "url": review.url, "expires_at": review.expires_at, "rule": review.rule}
        if self._request.detach:
            await in_thread(kept.mark_pending, statement_id=review.statement_id, review=frame)
        await self.emit({"type": "pending", "review": frame})

    async def send_resumed(self, resumption: Resumption) -> None:
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
        try:
            upstream = await self.open_upstream()
        except UpstreamFailed as failed:
            permit.complete(Outcome(status="failed", error=failed.sqlstate))
            await self._send_failed(failed)
            return
        try:
            await self._stream(await upstream.execute(permit))
        except UpstreamFailed as failed:
            await self._send_failed(failed)

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
            "type": type_name(column.type_oid),
            "masked": mask.mask is not None,
            "rule": mask.rule or None,
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
                self.problem = frame["problem"]

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


class Relay:
    """Runs relayed statements; remembers the detached ones by statement id."""

    def __init__(
        self, *, services: Services, registry: SessionRegistry, openers: Mapping[str, OpenUpstream], holder: str
    ) -> None:
        self._services = services
        self._registry = registry
        self._openers = openers
        self._holder = holder
        self._running: dict[str, asyncio.Task[None]] = {}

    async def open_upstream(self, spec: ConnectionSpec) -> UpstreamSession:
        opener = self._openers.get(spec.kind)
        if opener is None:
            raise UpstreamFailed(f"statements cannot be relayed to connections of kind {spec.kind}")
        return await opener(spec)

    async def run(self, principal: Principal, spec: ConnectionSpec, request: RelayRequest) -> AsyncIterator[Frame]:
        """Yield the frames of one statement; leaves early with `pending` when it is held longer than `wait_s`."""
        session = SessionContext(
            principal=principal, connection=spec, protocol=request.protocol, client_address=request.client_address
        )
        transport = RelayTransport(self, session, request)
        try:
            await transport.open_upstream()
        except UpstreamFailed as failed:
            yield {"type": "failed", "problem": {"code": "upstream-unavailable", "reason": failed.message}}
            return
        statement = StatementRequest(
            text=request.statement,
            parameters=tuple(wire_parameter(value) for value in request.parameters),
            parameter_types=(0,) * len(request.parameters),
            parameter_formats=(0,) * len(request.parameters),
            statement_id=request.statement_id or new_id(),
        )
        if request.detach and request.statement_id is None:
            digest = binding_digest(bind(session, statement, spec))
            picked_up = await in_thread(
                kept.find_resumable, binding=digest, subject=principal.subject, issuer=principal.issuer
            )
            if picked_up is not None:
                await transport.close_upstream()
                async for frame in self._pick_up(picked_up, request.wait_s):
                    yield frame
                return
            await in_thread(
                kept.open_statement,
                statement_id=statement.statement_id,
                session_id=session.session_id,
                principal=principal,
                connection=spec.name,
                request=request.as_kept(),
                binding=digest,
                holder=self._holder,
            )
        task = asyncio.create_task(self._govern(session, statement, transport), name=f"relay {session.session_id}")
        self._running[statement.statement_id] = task
        task.add_done_callback(lambda _: self._running.pop(statement.statement_id, None))
        yield {"type": "accepted", "id": statement.statement_id, "session_id": session.session_id}
        async for frame in self._frames(transport, task, request):
            yield frame

    async def _govern(self, session: SessionContext, statement: StatementRequest, transport: RelayTransport) -> None:
        """The whole life of a relayed session: opened, one statement, closed."""
        self._services.record.append_later(entries.session_opened(session))
        self._registry.add(session, transport.cancel)
        reason = "finished"
        try:
            await run_statement(self._services, session, statement, transport)
        except asyncio.CancelledError:
            reason = "client-gone"
            raise
        except Exception as error:  # fail closed: the caller gets an error and no row
            logger.error("relayed statement broke: session=%s error=%s", session.session_id, type(error).__name__)
            reason = "internal-error"
            await transport.emit({"type": "failed", "problem": {"code": "internal-error", "reason": "internal error"}})
        finally:
            self._registry.remove(session.session_id)
            await transport.close_upstream()
            self._services.record.append_later(entries.session_closed(session, reason))
            if transport._request.detach:
                await self._keep(statement, transport.kept)
            if not transport.detached:
                await transport.frames.put(None)

    async def _keep(self, statement: StatementRequest, result: KeptResult) -> None:
        await in_thread(
            kept.finish_statement,
            statement_id=statement.statement_id,
            status=result.status if result.status != "running" else "failed",
            result=result.as_result(),
            problem=result.problem,
            statement=result.statement or statement.text,
            modified_from=result.modified_from,
        )

    async def _frames(
        self, transport: RelayTransport, task: asyncio.Task[None], request: RelayRequest
    ) -> AsyncIterator[Frame]:
        """Frames until the end, or until a hold outlasts `wait_s`: then the statement goes on without its caller."""
        finished = False
        leave_at: float | None = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                timeout = None if leave_at is None else max(0.0, leave_at - loop.time())
                try:
                    frame = await asyncio.wait_for(transport.frames.get(), timeout)
                except TimeoutError:
                    transport.detached = finished = True
                    return
                if frame is None:
                    finished = True
                    return
                yield frame
                if frame["type"] == "pending" and request.detach:
                    leave_at = loop.time() + request.wait_s
                elif frame["type"] == "resumed":
                    leave_at = None
        finally:
            if not finished:  # the caller went away: a held statement stays, a running one is cancelled
                await self._abandon(transport, task)

    async def _abandon(self, transport: RelayTransport, task: asyncio.Task[None]) -> None:
        if transport.review is not None and transport._request.detach and transport.kept.status == "running":
            transport.detached = True
            return
        transport.detached = True
        await transport.cancel()
        task.cancel()

    async def _pick_up(self, statement_id: str, wait_s: float) -> AsyncIterator[Frame]:
        """Give a returning caller the statement that is already held or already ran for them."""
        state = await in_thread(kept.read_state, statement_id=statement_id)
        yield {"type": "accepted", "id": statement_id, "session_id": state["session_id"]}
        task = self._running.get(statement_id)
        if state["status"] == "pending" and task is not None and wait_s > 0:
            await asyncio.wait({task}, timeout=wait_s)
        elif state["status"] == "pending" and await self._just_decided(task):
            pass
        collected = await in_thread(kept.collect, statement_id=statement_id)
        if collected is None:
            state = await in_thread(kept.read_state, statement_id=statement_id)
            if state["status"] in {"denied", "expired", "failed"}:
                yield {"type": "denied", "problem": state["problem"]}
            else:
                yield {"type": "pending", "review": state["review"]}
            return
        for frame in frames_of(collected):
            yield frame

    async def _just_decided(self, task: asyncio.Task[None] | None) -> bool:
        """An approval a moment ago is still on its way to the holder; a short wait spares the caller a second call."""
        if task is None:
            return False
        done, _ = await asyncio.wait({task}, timeout=1.0)
        return bool(done)

    async def resume(self, statement_id: str, principal: Principal, spec: ConnectionSpec) -> None:
        """Hold again a pending statement whose process ended. Its grant, when there is one, is found by its binding."""
        if statement_id in self._running:
            return
        stored = await in_thread(kept.read_request, statement_id=statement_id)
        request = RelayRequest.from_json({**stored, "detach": True})
        request = RelayRequest(**{**_fields(request), "statement_id": statement_id})
        frames = self.run(principal, spec, request)
        async for frame in frames:
            if frame["type"] in {"pending", "completed", "denied", "failed"}:
                break
        await frames.aclose()  # type: ignore[attr-defined]  # an async generator

    async def close(self) -> None:
        """End what runs: detached holds are found again by a poll of their statement."""
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)


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


def _fields(request: RelayRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in RelayRequest.__slots__}
