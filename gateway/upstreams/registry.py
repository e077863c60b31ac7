"""How the pipeline's request/response surfaces (REST, WebSocket, MCP) reach any kind of upstream.

A kind of upstream registers one opener. Native wires do not come through here: they speak to their upstream in its
own protocol, but take the same permits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from gateway.domain.snapshot import ConnectionSpec
from gateway.session.permit import ExecutionPermit
from masking.domain.field import FieldMask, ResultColumn


class ResultStream(Protocol):
    """A masked result on its way. Iterate `batches` to the end (or close): `permit.complete` is called then."""

    columns: Sequence[ResultColumn]  # empty when the statement returns no rows
    fields: Sequence[FieldMask]  # one per column
    command_tag: str  # set once the batches are exhausted
    row_count: int  # likewise

    def batches(self) -> AsyncIterator[list[list[str | None]]]: ...


class UpstreamSession(Protocol):
    """One private session at the upstream. `role`, `search_path` and `settings` are the server's own words."""

    role: str
    search_path: str
    settings: str  # that change how literals are read; empty where a statement has no such context
    tls: str  # protocol version and cipher, empty on plaintext loopback

    async def execute(self, permit: ExecutionPermit) -> ResultStream: ...

    def rules_changed(self) -> bool:
        """Have what runs ask about its masks again; False when it is not allowed any more."""

    async def cancel(self) -> None: ...

    async def close(self) -> None: ...


class OpenUpstream(Protocol):
    async def __call__(self, spec: ConnectionSpec) -> UpstreamSession: ...


class UpstreamFailed(Exception):
    """The upstream refused, broke off or answered nonsense. `sqlstate` when it gave one; `message` has no values."""

    def __init__(self, message: str, *, sqlstate: str = "08006", position: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.position = position
