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
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from approvals.domain.grant import binding_digest
from approvals.domain.request import Principal
from gateway.domain import statements as kept
from gateway.domain.snapshot import ConnectionSpec
from gateway.domain.threads import in_thread
from gateway.listeners.relay_transport import Frame, KeptResult, RelayRequest, RelayTransport, frames_of, statement_of
from gateway.session import entries
from gateway.session.approval import bind
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.pipeline import run_statement
from gateway.session.registry import SessionRegistry
from gateway.session.services import Services
from gateway.upstreams.registry import OpenUpstream, UpstreamFailed, UpstreamSession

logger = logging.getLogger(__name__)


async def uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Do all of `work`, whoever cancels its caller meanwhile; the cancellation is raised afterwards."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


class Relay:
    """Runs relayed statements; remembers the detached ones by statement id."""

    def __init__(
        self,
        *,
        services: Services,
        registry: SessionRegistry,
        openers: Mapping[str, OpenUpstream],
        holder: str,
        is_alive: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._is_alive = is_alive
        self._services = services
        self._registry = registry
        self._openers = openers
        self._holder = holder
        self._running: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def open_upstream(self, spec: ConnectionSpec) -> UpstreamSession:
        opener = self._openers.get(spec.kind)
        if opener is None:
            raise UpstreamFailed(f"statements cannot be relayed to connections of kind {spec.kind}")
        return await opener(spec)

    async def run(self, principal: Principal, spec: ConnectionSpec, request: RelayRequest) -> AsyncGenerator[Frame]:
        """Yield the frames of one statement; leaves early with `pending` when it is held longer than `wait_s`."""
        session = SessionContext(
            principal=principal,
            connection=spec,
            protocol=request.protocol,
            client_address=request.client_address,
            traceparent=request.traceparent,
        )
        transport = RelayTransport(self.open_upstream, session, request)
        try:
            await transport.open_upstream()
        except UpstreamFailed as failed:
            yield {"type": "failed", "problem": {"code": "upstream-unavailable", "reason": failed.message}}
            return
        statement = statement_of(request, spec.kind)
        if request.detach and request.statement_id is None:
            digest = binding_digest(bind(session, statement, spec))
            held = await in_thread(kept.find_resumable, binding=digest, principal=principal)
            if held is not None and not await self._take_over(held):
                await transport.close_upstream()
                async for frame in self._pick_up(held, request.wait_s):
                    yield frame
                return
            if held is not None:
                statement = replace(statement, statement_id=held)
                transport.row_waits = True
            else:
                await self._open(statement, session, request, digest)
        async for frame in self._start(session, statement, transport):
            yield frame

    async def resume(self, statement_id: str, principal: Principal, spec: ConnectionSpec) -> None:
        """Hold again a pending statement whose process ended. Its grant, when there is one, is found by its binding."""
        if not await self._take_over(statement_id):
            return
        stored = await in_thread(kept.read_request, statement_id=statement_id)
        request = replace(RelayRequest.from_json(stored), statement_id=statement_id)
        async with aclosing(self.run(principal, spec, request)) as frames:
            async for frame in frames:
                if frame["type"] in {"pending", "completed", "denied", "failed"}:
                    return

    async def _start(
        self, session: SessionContext, statement: StatementRequest, transport: RelayTransport
    ) -> AsyncIterator[Frame]:
        statement_id = statement.statement_id
        task = asyncio.create_task(self._govern(session, statement, transport), name=f"relay {session.session_id}")
        self._running[statement_id] = task
        task.add_done_callback(lambda _: self._running.pop(statement_id, None))
        yield {"type": "accepted", "id": statement_id, "session_id": session.session_id}
        async for frame in self._frames(transport, task):
            yield frame

    async def _open(
        self, statement: StatementRequest, session: SessionContext, request: RelayRequest, digest: str
    ) -> None:
        await in_thread(
            kept.open_statement,
            statement_id=statement.statement_id,
            session_id=session.session_id,
            principal=session.principal,
            connection=session.connection.name,
            request=request.as_kept(),
            binding=digest,
            holder=self._holder,
        )

    async def _take_over(self, statement_id: str) -> bool:
        """Whether a pending statement is ours to hold again: its holder has died, and nobody else was quicker.

        What had begun to run when its holder died is not run again: it has failed.
        """
        state = await in_thread(kept.read_state, statement_id=statement_id)
        open_still = state["status"] in {"pending", "running"}
        if not open_still or statement_id in self._running or await self._is_alive(state["holder"]):
            return False
        if state["status"] == "running":
            await in_thread(kept.give_up, statement_id=statement_id, from_holder=state["holder"])
            return False
        return await in_thread(
            kept.take_over, statement_id=statement_id, from_holder=state["holder"], holder=self._holder
        )

    async def _govern(self, session: SessionContext, statement: StatementRequest, transport: RelayTransport) -> None:
        """The whole life of a relayed session: opened, one statement, closed."""
        self._services.record.append_later(entries.session_opened(session))
        self._registry.add(session, transport.cancel, transport.under_way, transport.rules_changed)
        reason = "finished"
        try:
            await run_statement(self._services, session, statement, transport)
            reason = transport.ended_by or reason
        except asyncio.CancelledError:
            reason = transport.ended_by or ("drained" if self._closing else "client-gone")
            raise
        except Exception as error:  # fail closed: the caller gets an error and no row
            logger.error("relayed statement broke: session=%s error=%s", session.session_id, type(error).__name__)
            reason = "internal-error"
            await transport.emit({"type": "failed", "problem": {"code": "internal-error", "reason": "internal error"}})
        finally:
            try:
                await uninterrupted(self._finish(session, statement, transport, reason))
            finally:
                self._registry.remove(session.session_id)  # last: until its answer is handed over it is under way

    async def _finish(
        self, session: SessionContext, statement: StatementRequest, transport: RelayTransport, reason: str
    ) -> None:
        await transport.close_upstream()
        self._services.session_ended(session, reason)
        if transport.request.detach and not (self._closing and transport.waits):  # others hold it from here on
            await self._keep(session, statement, transport.kept)
        if self._closing:  # nobody waits for a reader that may never come
            with contextlib.suppress(asyncio.QueueFull):
                transport.frames.put_nowait(None)
        elif not transport.detached:
            await transport.frames.put(None)

    async def _keep(self, session: SessionContext, statement: StatementRequest, result: KeptResult) -> None:
        await in_thread(
            kept.finish_statement,
            statement_id=statement.statement_id,
            status=result.status if result.status != "running" else "failed",
            result=result.as_result(),
            problem=result.problem,
            statement=result.statement or statement.text,
            modified_from=result.modified_from,
            shown_by=kept.ShownBy(session.connection.rules_digest, result.emergency, result.grant),
        )

    async def _frames(self, transport: RelayTransport, task: asyncio.Task[None]) -> AsyncIterator[Frame]:
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
                if frame["type"] == "pending" and transport.request.detach:
                    leave_at = loop.time() + transport.request.wait_s
                elif frame["type"] == "resumed":
                    leave_at = None
        finally:
            if not finished:  # the caller went away: a held statement stays, a running one is cancelled
                await self._abandon(transport, task)

    async def _abandon(self, transport: RelayTransport, task: asyncio.Task[None]) -> None:
        transport.detached = True
        while not transport.frames.empty():  # whoever waits for room in it goes on
            transport.frames.get_nowait()
        held = transport.review is not None and transport.request.detach
        if transport.kept.status != "running" or held:  # it ended, and is kept and recorded; or it needs no caller
            return
        await transport.cancel()
        task.cancel()

    async def _pick_up(self, statement_id: str, wait_s: float) -> AsyncIterator[Frame]:
        """Give a returning caller the statement that is already held or already ran for them."""
        state = await in_thread(kept.read_state, statement_id=statement_id)
        yield {"type": "accepted", "id": statement_id, "session_id": state["session_id"]}
        task = self._running.get(statement_id)
        if task is not None and wait_s > 0:
            await asyncio.wait({task}, timeout=wait_s)
        else:
            await self._just_decided(task)
        collected = await in_thread(kept.collect, statement_id=statement_id)
        if collected is None:
            state = await in_thread(kept.read_state, statement_id=statement_id)
            if state["status"] in {"denied", "expired", "failed"}:
                kind = "failed" if state["status"] == "failed" else "denied"
                yield {"type": kind, "problem": state["problem"]}
            else:
                yield {"type": "pending", "review": state["review"]}
            return
        for frame in frames_of(collected):
            yield frame

    async def _just_decided(self, task: asyncio.Task[None] | None) -> None:
        """An approval a moment ago is still on its way to the holder; a short wait spares the caller a second call."""
        if task is not None:
            await asyncio.wait({task}, timeout=1.0)

    async def close(self) -> None:
        """End what runs: detached holds are found again by a poll of their statement."""
        self._closing = True
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
