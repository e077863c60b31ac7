"""The connection to a PostgreSQL server: TLS, authentication, and then raw runs of whole frames in both directions.

    dial() → [SSLRequest → TLS] → StartupMessage → SASL/md5/cleartext → ParameterStatus* → BackendKeyData → Ready

After the handshake the connection is a pipe: `receive` is called synchronously with runs of whole frames, `write` sends
at once. What the frames mean is the relay's business (`gateway.upstreams.postgres_relay`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from gateway.domain.addresses import is_loopback
from gateway.domain.snapshot import ConnectionSpec
from gateway.domain.sockets import is_socket
from gateway.protocols.postgres import server
from gateway.protocols.postgres.client import TERMINATE_FRAME
from gateway.protocols.postgres.frames import (
    MAX_UPSTREAM_MESSAGE,
    FrameBuffer,
    ProtocolViolation,
    split_frames,
)
from gateway.protocols.postgres.scram import ScramFailed
from gateway.protocols.postgres.startup import encode_cancel, encode_ssl_request, encode_startup
from gateway.protocols.postgres.state import UpstreamState
from gateway.upstreams.postgres_dial import dial
from gateway.upstreams.postgres_login import Login
from gateway.upstreams.postgres_trust import end_point_digest, tls_context
from gateway.upstreams.registry import UpstreamFailed
from gateway.upstreams.tls import SHUTDOWN_TIMEOUT_S, secure
from gateway.upstreams.vanished import (
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
    has_vanished,
    keep_alive,
)

logger = logging.getLogger(__name__)

UpstreamCredential = Callable[[ConnectionSpec], Awaitable[Mapping[str, str]]]

# Address, TLS and authentication together; libpq users set connect_timeout to about this.
CONNECT_TIMEOUT_S = 15.0
# Frames a server may send before it is ready: about fifteen ParameterStatus plus notices.
MAX_HANDSHAKE_FRAMES = 200
# Handshake messages are small; a server that sends more is not PostgreSQL.
MAX_HANDSHAKE_BYTES = 1 << 20
CANCEL_TIMEOUT_S = 10.0
# Set on every session, so that a statement means what the analysis read.
FORCED_SETTINGS = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
# A gateway that dies leaves no statement running for nobody (PostgreSQL 14), and one that vanishes no locks: a server's
# own keepalive asks after two hours.
DEFAULT_SETTINGS = {
    "client_connection_check_interval": "5s",
    "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
    "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
    "tcp_keepalives_count": str(KEEPALIVE_PROBES),
}
# What a connection's `settings.pooler` may say: a server is one client's alone for as long as its session lasts.
POOLED_BY_SESSION = "session"
_UNSUPPORTED_PARAMETER = "08P01"  # what pgbouncer calls the ones above


class UpstreamConnection(UpstreamState, asyncio.Protocol):
    """One authenticated session. `parameters` is what the server reported; `key` cancels, and never leaves here."""

    def __init__(self) -> None:
        self.parameters: dict[str, str] = {}
        self.key: tuple[int, bytes] = (0, b"")
        self.tls = ""
        self.certificate_digest = b""  # of the server's certificate, as channel binding wants it; empty without TLS
        self.authentication = ""
        self.closed = False
        self.receive: Callable[[bytes], None] | None = None
        self.express = None
        self.undisturbed = False
        self.lost: Callable[[], None] | None = None
        self.writable: Callable[[bool], None] | None = None
        self._transport = None
        self._buffer = FrameBuffer(MAX_UPSTREAM_MESSAGE)
        self._early: list[tuple[int, bytes]] = []
        self._raw: asyncio.Future[bytes] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._early_bytes = 0
        self.spec: ConnectionSpec | None = None
        self._socket: Any = None
        self._giving_up: asyncio.TimerHandle | None = None

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports fulfil asyncio.Transport without inheriting from it.
        self._transport = cast(asyncio.Transport, transport)
        self._socket = transport.get_extra_info("socket")
        keep_alive(self._socket)

    def arrived(self, data: bytes) -> None:
        if self._raw is not None and not self._raw.done():
            self._raw.set_result(data)
            return
        try:
            frames = self._buffer.feed(data)
            if not frames:
                return
            if self.receive is not None:
                self.receive(frames)
            else:
                self._keep_early(frames)
            if self._buffer.violation is not None:
                raise self._buffer.violation
        except ProtocolViolation as violation:
            logger.warning("upstream broke the protocol: %s", violation)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._giving_up is not None:
            self._giving_up.cancel()
        self._wake()
        if self._raw is not None and not self._raw.done():
            self._raw.set_exception(ConnectionResetError("the upstream closed the connection"))
        if self.lost is not None:
            self.lost()

    def pause_writing(self) -> None:
        if self.writable is not None:
            self.writable(False)

    def resume_writing(self) -> None:
        if self.writable is not None:
            self.writable(True)

    # --- Used by the session ------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def close(self) -> None:
        """Say goodbye and close once everything written is sent; a server that takes nothing is given up."""
        if self._transport is not None and not self.closed:
            self._transport.write(TERMINATE_FRAME)
            self._transport.close()
            if self._giving_up is None:
                self._giving_up = asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def abort_if_vanished(self) -> None:
        if not self.closed and has_vanished(self._socket):
            self.abort()

    async def cancel(self) -> None:
        """Ask the server to cancel the statement that runs now; returns when the server has taken the request.

        Nothing new may be sent on this session until it returns, or the cancel could hit the next statement.
        """
        process_id, secret = self.key
        if not secret or self.spec is None:
            return
        courier = _Courier()
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await dial(courier, self.spec)
                if self.spec.tls != "disable":
                    await courier.start_tls(self.spec)
                courier.write(encode_cancel(process_id, secret))
                await courier.done.wait()
        except (OSError, TimeoutError, UpstreamFailed) as error:
            logger.warning("cancel request not delivered: error=%s", type(error).__name__)
        finally:
            courier.abort()

    # --- Handshake ----------------------------------------------------------------------------------------------------

    async def read_byte(self) -> bytes:
        """The one untyped byte that answers an SSLRequest. More than one would be plaintext injected before TLS."""
        self._raw = asyncio.get_running_loop().create_future()
        data = await self._raw
        self._raw = None
        if len(data) != 1:
            raise UpstreamFailed("the upstream sent data before TLS was established")
        return data

    async def upgrade(self, context: ssl.SSLContext, server_name: str) -> None:
        assert self._transport is not None
        plain = cast(asyncio.Transport, self._transport)
        plain.pause_reading()
        if self._early or self._buffer.rest:  # said before we asked for TLS: an injection (CVE-2021-23222)
            raise UpstreamFailed("the upstream sent data before TLS was established")
        self._transport = await secure(plain, self, context, server_hostname=server_name)
        secured = self._transport.ssl_object
        cipher = secured.cipher()
        self.tls = f"{secured.version()} {cipher[0] if cipher else ''}"
        self.certificate_digest = end_point_digest(secured.getpeercert(binary_form=True) or b"")
        self._transport.begin()

    async def next_frame(self) -> tuple[int, bytes]:
        while not self._early:
            if self.closed:
                raise UpstreamFailed("the upstream closed the connection during the handshake")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._early.pop(0)

    def _keep_early(self, frames: bytes) -> None:
        self._early_bytes += len(frames)
        if self._early_bytes > MAX_HANDSHAKE_BYTES:
            raise ProtocolViolation("an endless handshake")
        self._early.extend(split_frames(frames))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Courier(UpstreamConnection):
    """A short connection that carries one CancelRequest; the server closes it when the request is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.done = asyncio.Event()
        self.lost = self.done.set

    async def start_tls(self, spec: ConnectionSpec) -> None:
        await _start_tls(self, spec)


async def connect(
    spec: ConnectionSpec, credential: Mapping[str, str], *, settings: Mapping[str, str] | None = None
) -> UpstreamConnection:
    """Open, secure and authenticate a session; raises UpstreamFailed with a message free of secrets and values."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await _connect(spec, credential, settings or {})
    except TimeoutError:
        raise UpstreamFailed("the upstream did not answer in time", sqlstate="08001") from None
    except (OSError, ScramFailed, ProtocolViolation) as error:
        logger.warning("upstream unavailable: connection=%s error=%s", spec.name, type(error).__name__)
        raise UpstreamFailed("the upstream cannot be reached or did not prove itself", sqlstate="08001") from None


async def _connect(
    spec: ConnectionSpec, credential: Mapping[str, str], settings: Mapping[str, str]
) -> UpstreamConnection:
    if spec.tls == "disable" and not (is_loopback(spec.host) or is_socket(spec.host)):
        raise UpstreamFailed("a plaintext upstream is only allowed on loopback")
    connection = UpstreamConnection()
    connection.spec = spec
    await dial(connection, spec)
    try:
        if spec.tls != "disable":
            await _start_tls(connection, spec)
        await _log_in(connection, spec, credential, settings)
    except BaseException:
        connection.abort()
        raise
    return connection


async def _start_tls(connection: UpstreamConnection, spec: ConnectionSpec) -> None:
    connection.write(encode_ssl_request())
    if await connection.read_byte() != b"S":
        raise UpstreamFailed("the upstream does not offer TLS", sqlstate="08001")
    await connection.upgrade(tls_context(spec), spec.host)


async def _log_in(
    connection: UpstreamConnection, spec: ConnectionSpec, credential: Mapping[str, str], settings: Mapping[str, str]
) -> None:
    user = credential.get("username") or spec.username
    opening = {"user": user, "database": spec.database, **_default_settings(spec), **settings, **FORCED_SETTINGS}
    connection.write(encode_startup(opening))
    login = Login(connection.certificate_digest, bool(connection.tls), user, credential.get("password", ""))
    authenticated = False
    for _ in range(MAX_HANDSHAKE_FRAMES):
        kind, body = await connection.next_frame()
        if kind == server.AUTHENTICATION and not authenticated:
            reply = login.answer(body)
            if reply:
                connection.write(reply)
            connection.authentication = login.mechanism
            authenticated = body[:4] == b"\0\0\0\0"
        elif kind == server.ERROR:
            raise _refused(spec, body)
        elif kind == server.PARAMETER_STATUS:
            name, value = server.decode_parameter_status(body)
            connection.parameters[sys.intern(name)] = sys.intern(value)  # every session of a server is told the same
        elif kind == server.KEY_DATA:
            connection.key = server.decode_key_data(body)
        elif kind == server.READY and authenticated:
            return
        elif kind != server.NOTICE:
            raise ProtocolViolation("a message that does not belong into a handshake")
    raise ProtocolViolation("an endless handshake")


def _default_settings(spec: ConnectionSpec) -> Mapping[str, str]:
    """Nothing for a pooler: it refuses what it cannot keep apart, and the server would watch the pooler, not us.

    Only somebody who knows it can say that it pools by session. With any other kind a statement could be run by a
    server whose role, search_path and temporary tables are not those it was analysed for, and nobody would notice.
    """
    pooler = spec.settings.get("pooler", "")
    if pooler not in ("", POOLED_BY_SESSION):
        raise UpstreamFailed(f"settings.pooler of the connection is not {POOLED_BY_SESSION}")
    return {} if pooler else DEFAULT_SETTINGS


def _refused(spec: ConnectionSpec, body: bytes) -> UpstreamFailed:
    sqlstate = server.decode_error(body).get("C", "08006")
    logger.warning("upstream refused the session: connection=%s sqlstate=%s", spec.name, sqlstate)
    hint = "; for a pooler see settings.pooler" if sqlstate == _UNSUPPORTED_PARAMETER else ""
    return UpstreamFailed(f"the upstream refused the session ({sqlstate}){hint}", sqlstate=sqlstate)
