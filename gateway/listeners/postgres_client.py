"""The client's socket: untyped startup packets first, frames afterwards, with back-pressure in both directions."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from gateway.protocols.postgres.client import BIND, DESCRIBE, EXECUTE
from gateway.protocols.postgres.frames import MAX_CLIENT_MESSAGE, FrameBuffer, ProtocolViolation, frame, split_frames
from gateway.protocols.postgres.startup import MAX_STARTUP_BYTES, packet_length
from gateway.protocols.postgres.state import ClientState
from gateway.upstreams.tls import SHUTDOWN_TIMEOUT_S, secure
from gateway.upstreams.vanished import has_vanished, keep_alive

# A token or ticket as password, with room: an OIDC JWT with many groups is a few KiB.
MAX_PASSWORD_MESSAGE = 16 * 1024 + 64
# Frames waiting for the session: past this the client is not read until the session caught up.
MAX_QUEUED_BYTES = 1 << 20
_OF_EXECUTIONS = frozenset((BIND, DESCRIBE, EXECUTE))

# First byte of a TLS record that carries a handshake (RFC 8446 §5.1); no startup packet is that long.
TLS_HANDSHAKE = 0x16
ALPN_PROTOCOL = "postgresql"  # registered with IANA for PostgreSQL 17


class ClientGone(ConnectionError):
    """The client closed the connection."""


class ClientConnection(ClientState, asyncio.Protocol):
    """One accepted connection. `serve` is started as its own task as soon as the connection is there."""

    def __init__(self, serve: Callable[[ClientConnection], Awaitable[None]]) -> None:
        self.closed = False
        self.tls = ""
        self.certified: frozenset[str] = frozenset()  # names in the client's verified certificate
        self.address = ""
        self.violation = None
        self.express = self.serve_steps = None
        self.on_lost: Callable[[], None] | None = None
        self.on_violation: Callable[[], None] | None = None
        self.writable: Callable[[bool], None] | None = None
        self.task: asyncio.Task[None] | None = None
        self._serve = serve
        self._transport = None
        self._raw = bytearray()
        self._buffer = None
        self._frames = deque()
        self._queued = 0
        self._reading = True
        self._waiter: asyncio.Future[None] | None = None
        self._socket: Any = None
        self._giving_up: asyncio.TimerHandle | None = None

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports fulfil asyncio.Transport without inheriting from it.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._socket = transport.get_extra_info("socket")
        keep_alive(self._socket)

        async def serve() -> None:
            await self._serve(self)

        self.task = asyncio.get_running_loop().create_task(serve(), name=f"postgres client {self.address}")

    def arrived(self, data: bytes) -> None:
        if self.violation is not None:
            return
        if self._buffer is None:
            self._raw += data
            if len(self._raw) > MAX_STARTUP_BYTES:
                self._break(ProtocolViolation("more than one startup packet at once"))
        elif not self._take_frames(data):
            return
        self.wake()

    def eof_received(self) -> None:
        """The client left, and the transport closes once what is written is taken: by one that may not read any more.

        Without TLS; with it `TlsTransport` does the same.
        """
        self._give_up_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._giving_up is not None:
            self._giving_up.cancel()
        self.wake()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        if self.writable is not None:
            self.writable(False)

    def resume_writing(self) -> None:
        if self.writable is not None:
            self.writable(True)

    # --- Startup ------------------------------------------------------------------------------------------------------

    async def begins_with_tls(self) -> bool:
        """Whether the first byte is that of a TLS record: direct TLS (sslnegotiation=direct, PostgreSQL 17)."""
        while not self._raw:
            self._check()
            await self.wait()
        return self._raw[0] == TLS_HANDSHAKE

    async def packet(self) -> bytes:
        """Return the next untyped packet, its length included."""
        while True:
            self._check()
            length = packet_length(self._raw)
            if length and len(self._raw) >= length:
                packet = bytes(self._raw[:length])
                del self._raw[:length]
                return packet
            await self.wait()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Answer an SSLRequest with TLS. Bytes that came before it are an injection (CVE-2021-23214): refused."""
        if self._raw:
            raise ProtocolViolation("plaintext data after an encryption request")
        assert self._transport is not None
        self._transport.pause_reading()
        self._transport.write(b"S")
        await self._secure(context)

    async def start_direct_tls(self, context: ssl.SSLContext) -> None:
        """The client spoke TLS at once. Without ALPN it may be another protocol's, tricked here (ALPACA): refused."""
        assert self._transport is not None
        self._transport.pause_reading()
        hello, self._raw = bytes(self._raw), bytearray()
        await self._secure(context, hello=hello, alpn_required=True)

    async def _secure(self, context: ssl.SSLContext, *, hello: bytes = b"", alpn_required: bool = False) -> None:
        assert self._transport is not None
        plain = cast(asyncio.Transport, self._transport)
        transport = await secure(plain, self, context, received=hello)
        secured = transport.ssl_object
        cipher = secured.cipher()
        self.tls = f"{secured.version()} {cipher[0] if cipher else ''}"
        self.certified = certified_names(secured.getpeercert())
        if alpn_required and secured.selected_alpn_protocol() != ALPN_PROTOCOL:
            transport.abort()
            raise ClientGone("direct TLS without the ALPN protocol of PostgreSQL")
        self._transport = transport
        transport.begin()

    def expect_frames(self, limit: int = MAX_PASSWORD_MESSAGE) -> None:
        """From here on the client sends frames of at most `limit` bytes."""
        if self._buffer is not None:
            self._buffer.limit = limit
            return
        self._buffer = FrameBuffer(limit)
        if self._raw:
            raw, self._raw = bytes(self._raw), bytearray()
            self._take_frames(raw)

    # --- Session ------------------------------------------------------------------------------------------------------

    def accept_statements(self) -> None:
        self.expect_frames(MAX_CLIENT_MESSAGE)

    def pop(self) -> tuple[int, bytes] | None:
        """Return the next frame if there is one."""
        if not self._frames:
            return None
        item = self._frames.popleft()
        self._queued -= len(item[1]) + 5
        self._read_on()
        return item

    async def next_frame(self) -> tuple[int, bytes]:
        while True:
            item = self.pop()
            if item is not None:
                return item
            self._check()
            await self.wait()

    def take_back(self, data: bytes) -> None:
        """Queue whole frames that were taken by the express lane and not served, ahead of what came after them."""
        self.put_back(data)
        self.wake()

    def following(self, kind: int, body: bytes, most: int) -> bytes:
        """A frame that was popped and those queued behind it, as they came, which may belong to a run of executions."""
        frames = [frame(kind, body)]
        while self._frames and self._frames[0][0] in _OF_EXECUTIONS and len(frames) < most:
            frames.append(frame(*self._frames.popleft()))
        data = b"".join(frames)
        self._queued -= len(data) - len(frames[0])
        return data

    def put_back(self, data: bytes) -> None:
        """Queue whole frames again that were popped, ahead of what came after them."""
        self._frames.extendleft(reversed(split_frames(data)))
        self._queued += len(data)
        self._read_on()

    @property
    def has_frames(self) -> bool:
        return bool(self._frames)

    async def wait(self) -> None:
        """Return at the next event: bytes, a lost connection, or a `wake` of somebody else."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Send what is written, then close: a client that takes nothing of it is waited for no longer than others."""
        if self._transport is not None and not self.closed:
            self._transport.close()
            self._give_up_later()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def abort_if_vanished(self) -> None:
        if not self.closed and has_vanished(self._socket):
            self.abort()

    def _give_up_later(self) -> None:
        if self._giving_up is None:
            self._giving_up = asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT_S, self.abort)

    def _take_frames(self, data: bytes) -> bool:
        """Queue what is whole by now, or have it served at once; False: there is nothing the session has to look at."""
        assert self._buffer is not None
        try:
            frames = self._buffer.feed(data)
        except ProtocolViolation as violation:
            self._break(violation)
            return True
        if frames and self.serve_steps is not None and not self._frames:
            frames = frames[self.serve_steps(frames) :]
        if not frames and self._buffer.violation is None:
            return False
        self._frames.extend(split_frames(frames))
        self._queued += len(frames)
        if self._buffer.violation is not None:
            self._break(self._buffer.violation)
        if self._queued > MAX_QUEUED_BYTES and self._reading:
            self._reading = False
            self._set_reading(False)
        return True

    def _read_on(self) -> None:
        if not self._reading and self._queued < MAX_QUEUED_BYTES // 2:
            self._reading = True
            self._set_reading(True)

    def _set_reading(self, on: bool) -> None:
        if self._transport is not None and not self.closed:
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def _check(self) -> None:
        if self.violation is not None:
            raise self.violation
        if self.closed:
            raise ClientGone("the client closed the connection")

    def _break(self, violation: ProtocolViolation) -> None:
        """Listen no more to a peer that breaks the protocol; the session serves what came before, says why and closes.

        The socket is still read, and what it says thrown away: one that is not read never tells that its peer left.
        """
        self.violation = violation
        if self.on_violation is not None:
            self.on_violation()


def certified_names(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The names a verified certificate gives its holder: common name, and DNS, e-mail and URI alternative names."""
    if not certificate:
        return frozenset()
    subject = (pair for part in certificate.get("subject", ()) for pair in part)
    common = {value for kind, value in subject if kind == "commonName"}
    other = {value for kind, value in certificate.get("subjectAltName", ()) if kind in {"DNS", "email", "URI"}}
    return frozenset(common | other)
