"""Which of the client's messages does what: the table of the session's protocol.

After an error the server skips to the next Sync, and so do we, before anything is decoded or decided.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.listeners import postgres_extended as extended
from gateway.listeners.postgres_session import ClientSession
from gateway.listeners.postgres_simple import simple_query
from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.frames import ProtocolViolation

Handler = Callable[[ClientSession, bytes], Awaitable[None]]


async def handle(session: ClientSession, kind: int, body: bytes) -> None:
    """Serve one frame of the client."""
    handler = _HANDLERS.get(kind)
    if handler is None:
        raise ProtocolViolation("a message type that does not exist")
    if session.relay.skipping and kind != client.SYNC:
        return
    await handler(session, body)


async def _query(session: ClientSession, body: bytes) -> None:
    await simple_query(session, client.decode_query(body))


async def _parse(session: ClientSession, body: bytes) -> None:
    await extended.parse(session, client.decode_parse(body))


async def _bind(session: ClientSession, body: bytes) -> None:
    await extended.bind(session, client.decode_bind(body))


async def _describe(session: ClientSession, body: bytes) -> None:
    await extended.describe(session, client.decode_target(body))


async def _execute(session: ClientSession, body: bytes) -> None:
    await extended.execute(session, client.decode_execute(body))


async def _close(session: ClientSession, body: bytes) -> None:
    extended.close(session, client.decode_target(body))


async def _flush(session: ClientSession, body: bytes) -> None:
    session.push_answers()


async def _sync(session: ClientSession, body: bytes) -> None:
    await session.end_request()


async def _function_call(session: ClientSession, body: bytes) -> None:
    """The fast path calls a function by OID, past every reading of a statement: refused, like a failed call."""
    session.refuse(
        server.error(
            sqlstate="0A000",
            message="function calls by OID are not served here",
            hint="Call the function with SELECT.",
        )
    )
    await session.end_request()  # FunctionCall is answered with ReadyForQuery, without a Sync of the client


async def _stray_copy_data(session: ClientSession, body: bytes) -> None:
    """Copy data outside a COPY is what a failed COPY leaves on its way: the server ignores it, so do we."""


_HANDLERS: dict[int, Handler] = {
    client.QUERY: _query,
    client.PARSE: _parse,
    client.BIND: _bind,
    client.DESCRIBE: _describe,
    client.EXECUTE: _execute,
    client.CLOSE: _close,
    client.FLUSH: _flush,
    client.SYNC: _sync,
    client.FUNCTION_CALL: _function_call,
    client.COPY_DATA: _stray_copy_data,
    client.COPY_DONE: _stray_copy_data,
    client.COPY_FAIL: _stray_copy_data,
}
