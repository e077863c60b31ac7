"""The pipeline's answers in PostgreSQL's words: denials are ErrorResponses, a held statement hears NoticeResponses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from gateway.listeners.postgres_session import ClientSession
from gateway.protocols.postgres import server
from gateway.session.permit import ExecutionPermit
from gateway.session.transport import Denial, PendingReview, Resumption


class StatementTransport:
    """One statement of one session on its way through the pipeline; `execute` is what happens with its permit."""

    def __init__(
        self,
        session: ClientSession,
        *,
        execute: Callable[[ExecutionPermit], Awaitable[None]],
        may_modify: bool = False,
        offset: int = 0,
    ) -> None:
        self._session = session
        self._execute = execute
        self._may_modify = may_modify
        self._offset = offset
        self._gone = asyncio.Event()
        session.withdrawn = False

    @property
    def gone(self) -> asyncio.Event:
        return self._gone

    def may_run_modified(self, permit_text: str) -> bool:
        return self._may_modify

    async def send_pending(self, review: PendingReview) -> None:
        session = self._session
        session.hold(self._gone)
        if session.client.closed or session.client.violation is not None or session.reason:
            self._gone.set()
        await session.drained()
        if session.relay.skipping or session.relay.broken:
            self._gone.set()  # what came before failed: the server will skip this, whoever approves it
            return
        until = datetime.fromtimestamp(review.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        session.client.write(
            server.notice(
                message=f"this statement waits for approval (rule {review.rule}): {review.url}",
                detail=f"session {session.context.session_id}, statement {review.statement_id}, decided by {until}",
                hint=_joined("It runs as soon as it is approved. Cancel it to withdraw the request.", review),
            )
        )

    async def send_resumed(self, resumption: Resumption) -> None:
        self._session.holding = None
        approvers = ", ".join(resumption.approvers)
        reason = f": {resumption.reason}" if resumption.reason else ""
        modified = resumption.modified_from is not None
        self._session.client.write(
            server.notice(
                message=f"approved by {approvers}{reason}",
                detail=f"What runs now is the reviewer's text: {resumption.statement}" if modified else "",
            )
        )

    async def send_denied(self, denial: Denial) -> None:
        self._session.holding = None
        self._session.refuse(self._error(denial))

    async def execute(self, permit: ExecutionPermit) -> None:
        self._session.holding = None
        await self._execute(permit)

    def _error(self, denial: Denial) -> bytes:
        if self._session.withdrawn:
            return server.error(sqlstate="57014", message="canceling statement due to user request")
        position = denial.position + self._offset if denial.position else 0
        if denial.code == "rejected-by-database":
            return server.error(sqlstate=denial.sqlstate, message=denial.reason, position=position)
        rule = f" (rule {denial.rule})" if denial.rule else ""
        return server.error(
            sqlstate=denial.sqlstate,
            message=f"{denial.reason}{rule}",
            detail=f"session {denial.session_id}, statement {denial.statement_id}, {denial.code}",
            hint=_joined(denial.permitted_alternative, denial),
            position=position,
        )


def _joined(advice: str, told: Denial | PendingReview) -> str:
    """The advice, and a statement that would be allowed now, on a line of its own."""
    return f"{advice}\nallowed now: {told.permitted_statement}" if told.permitted_statement else advice
