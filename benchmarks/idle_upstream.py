"""A PostgreSQL that lets everybody in and is asked for nothing: thousands of sessions, without as many backends.

With SSLRequest answered by TLS, so that either kind of upstream can be had. Only the start-up is spoken.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from gateway.protocols.postgres.server import (
    AUTHENTICATION_OK,
    encode_key_data,
    encode_parameter_status,
    encode_ready,
)
from gateway.protocols.postgres.startup import SSL_REQUEST_CODE

_PARAMETERS = {
    "application_name": "",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "default_transaction_read_only": "off",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "IntervalStyle": "postgres",
    "is_superuser": "off",
    "server_encoding": "UTF8",
    "server_version": "15.0",
    "session_authorization": "bench_app",
    "standard_conforming_strings": "on",
    "TimeZone": "Etc/UTC",
}
_WELCOME = b"".join((
    AUTHENTICATION_OK,
    *(encode_parameter_status(name, value) for name, value in _PARAMETERS.items()),
    encode_key_data(4711, b"1234"),
    encode_ready("I"),
))  # fmt: skip


@contextmanager
def running_upstream(context: ssl.SSLContext) -> Iterator[int]:
    """The port of the server, which runs in a thread of its own."""
    told: queue.SimpleQueue[tuple[int, Callable[[], object]]] = queue.SimpleQueue()

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if await _packet(reader) == SSL_REQUEST_CODE:
                writer.write(b"S")
                await writer.start_tls(context)
                await _packet(reader)
            writer.write(_WELCOME)
            while await reader.read(1024):  # Terminate, or the end; a question would wait for ever
                pass
        writer.close()

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        server = await asyncio.start_server(welcome, "127.0.0.1", 0, backlog=1024)
        told.put((int(server.sockets[0].getsockname()[1]), partial(loop.call_soon_threadsafe, stop.set)))
        await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    port, stop = told.get(timeout=10)
    try:
        yield port
    finally:
        stop()
        thread.join(30)


async def _packet(reader: asyncio.StreamReader) -> int:
    """Read one untyped packet, return its code."""
    size, code = struct.unpack("!II", await reader.readexactly(8))
    await reader.readexactly(size - 8)
    return int(code)
