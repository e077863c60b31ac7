"""The native PostgreSQL listener: accepts clients, opens their sessions, routes their cancel requests.

Handshakes that have not authenticated are bounded in time and number. When there are too many, the oldest goes: stalled
connections can delay each other, but never keep a new client out.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.listeners.postgres_client import ALPN_PROTOCOL, ClientConnection, ClientGone
from gateway.listeners.postgres_express import ExpressLane
from gateway.listeners.postgres_messages import handle
from gateway.listeners.postgres_session import ClientSession, described
from gateway.listeners.postgres_startup import Opening, Refused, admit, greet
from gateway.listeners.postgres_timers import SessionLimits
from gateway.protocols.postgres import server
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.protocols.postgres.startup import CancelRequest, StartupRefused
from gateway.pulses import Beat, unheard
from gateway.session import entries
from gateway.session.context import SessionContext
from gateway.session.registry import SessionRegistry
from gateway.session.services import Authenticator, Services
from gateway.upstreams.postgres import UpstreamConnection, UpstreamCredential, connect
from gateway.upstreams.recording import RecordingSink
from gateway.upstreams.registry import UpstreamFailed
from gateway.upstreams.vanished import LOOK_EVERY_S

logger = logging.getLogger(__name__)

# Secrets of cancel keys: protocol 3.2 lets them be long, and 32 bytes is what PostgreSQL 18 itself sends.
LONG_KEYS_SINCE, LONG_KEY_BYTES, SHORT_KEY_BYTES = 2, 32, 4

# Sessions whose sockets are looked at before it is everybody else's turn: some microseconds each.
LOOKED_AT_A_TURN = 50

# Asked when a cancel request's key is of no session of this process; another one may have it.
CancelElsewhere = Callable[[int, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    authentication_timeout_s: float = 30.0  # as PostgreSQL's authentication_timeout, halved
    max_handshakes: int = 1000  # a few KB each; more at once is a flood
    max_sessions: int = 10_000
    listen_backlog: int = 1024
    session: SessionLimits = field(default_factory=SessionLimits)


class PostgresListener:
    """One listening socket and the sessions that came through it."""

    def __init__(
        self,
        *,
        services: Services,
        authenticator: Authenticator,
        registry: SessionRegistry,
        upstream_credential: UpstreamCredential,
        recordings: RecordingSink | None = None,
        host: str = "127.0.0.1",
        port: int = 6432,
        ssl_context: ssl.SSLContext | None = None,
        allow_plaintext_loopback: bool = True,
        limits: Limits | None = None,
        cancel_elsewhere: CancelElsewhere | None = None,
        reuse_port: bool = False,
        oauth_discovery: str = "",
    ) -> None:
        self._services = services
        self._authenticator = authenticator
        self._registry = registry
        self._upstream_credential = upstream_credential
        self._recordings = recordings
        self._host, self._requested_port = host, port
        self._ssl_context = ssl_context
        if ssl_context is not None:
            ssl_context.set_alpn_protocols([ALPN_PROTOCOL])
            # As PostgreSQL: nothing is resumed, so that every session's certificate is looked at, nor renegotiated.
            ssl_context.num_tickets = 0
            ssl_context.options |= ssl.OP_NO_RENEGOTIATION
        self._allow_plaintext_loopback = allow_plaintext_loopback
        self._limits = limits or Limits()
        self._cancel_elsewhere = cancel_elsewhere
        self._reuse_port = reuse_port
        self._oauth_discovery = oauth_discovery
        self._server: asyncio.Server | None = None
        self._refusing = False
        self._looking: asyncio.Task[None] | None = None
        self._handshakes: OrderedDict[ClientConnection, None] = OrderedDict()
        self._keys: dict[tuple[int, bytes], ClientSession] = {}

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, beat: Beat = unheard) -> None:
        """Listen. `beat` is called with every look for peers that vanished."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"reuse_port": True} if self._reuse_port else {}
        self._server = await loop.create_server(
            lambda: ClientConnection(self._serve),
            self._host,
            self._requested_port,
            backlog=self._limits.listen_backlog,
            **options,
        )
        self._looking = asyncio.get_running_loop().create_task(self._look_for_vanished(beat), name="vanished peers")
        logger.info("postgres listener: host=%s port=%s tls=%s", self._host, self.port, self._ssl_context is not None)

    def refuse_new(self) -> None:
        """Accept no more connections; clients that are still introducing themselves are sent elsewhere (57P03)."""
        self._refusing = True
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Stop accepting, end every session, and return when they are recorded as closed."""
        self.refuse_new()
        for connection in list(self._handshakes):
            connection.abort()
        await asyncio.gather(
            *(session.kill("drained") for session in list(self._keys.values())), return_exceptions=True
        )
        if self._looking is not None:
            self._looking.cancel()

    async def cancel(self, process_id: int, secret: bytes) -> bool:
        """Cancel for a key minted here; False when it is not of this process. Wrong secrets are ignored silently."""
        session = self._keys.get((process_id, secret))
        if session is None:
            return False
        await session.cancel()
        return True

    @property
    def _certificate_required(self) -> bool:
        return self._ssl_context is not None and self._ssl_context.verify_mode is ssl.CERT_REQUIRED

    # --- One connection -----------------------------------------------------------------------------------------------

    async def _serve(self, connection: ClientConnection) -> None:
        try:
            opening = await self._handshake(connection)
            if opening is not None:
                await self._session(connection, opening)
        except (ClientGone, TimeoutError, ConnectionError, ssl.SSLError):
            pass  # nobody is there to hear anything
        except StartupRefused as refused:
            _refuse(connection, refused.sqlstate, str(refused))
        except ProtocolViolation as violation:
            logger.info("handshake refused: address=%s problem=%s", connection.address, violation)
            _refuse(connection, "08P01", str(violation))
        except Refused as refused:
            _refuse(connection, refused.sqlstate, str(refused))
        except UpstreamFailed as failed:
            _refuse(connection, failed.sqlstate, failed.message)
        except Exception as error:  # fail closed: the connection ends without a session
            logger.error("connection broke: address=%s error=%s", connection.address, described(error))
            _refuse(connection, "XX000", "internal error of the gateway")
        finally:
            connection.close()

    async def _handshake(self, connection: ClientConnection) -> Opening | None:
        """Return the opening of an authenticated client, None when it only came to cancel."""
        self._handshakes[connection] = None
        if len(self._handshakes) > self._limits.max_handshakes:
            oldest, _ = self._handshakes.popitem(last=False)
            oldest.abort()
        try:
            async with asyncio.timeout(self._limits.authentication_timeout_s):
                packet = await greet(connection, self._ssl_context)
                if isinstance(packet, CancelRequest):
                    await self._cancel(packet)
                    return None
                return await admit(
                    connection,
                    packet,
                    services=self._services,
                    authenticator=self._authenticator,
                    allow_plaintext_loopback=self._allow_plaintext_loopback,
                    certificate_required=self._certificate_required,
                    oauth_discovery=self._oauth_discovery,
                )
        finally:
            self._handshakes.pop(connection, None)

    async def _cancel(self, request: CancelRequest) -> None:
        if not await self.cancel(request.process_id, request.secret) and self._cancel_elsewhere is not None:
            await self._cancel_elsewhere(request.process_id, request.secret)

    async def _session(self, connection: ClientConnection, opening: Opening) -> None:
        if self._refusing:
            raise Refused("the gateway is shutting down; connect again", sqlstate="57P03")
        if len(self._keys) >= self._limits.max_sessions:
            raise Refused("too many sessions", sqlstate="53300")
        spec, startup = opening.connection, opening.startup
        upstream = await connect(spec, await self._upstream_credential(spec), settings=startup.settings)
        context = SessionContext(
            principal=opening.principal,
            connection=spec,
            protocol="postgres",
            client_address=connection.address,
            client_tls=connection.tls,
            upstream_tls=upstream.tls,
            application=startup.settings.get("application_name", "")[:64],
        )
        try:
            await self._record_opened(context)
        except BaseException:
            upstream.abort()
            raise
        session = ClientSession(
            services=self._services,
            context=context,
            connection=connection,
            upstream=upstream,
            recordings=self._recordings,
            limits=self._limits.session,
        )
        size = LONG_KEY_BYTES if startup.minor >= LONG_KEYS_SINCE else SHORT_KEY_BYTES
        key = self._mint_key(upstream.key[0], size)
        self._keys[key] = session
        self._registry.add(context, session.kill, session.retire, session.rules_changed)
        try:
            connection.accept_statements()
            lane = ExpressLane(session)
            connection.express = lane.door
            session.pipelines.carry(lane.steps)
            connection.write(_welcome(upstream, key))
            await session.run(handle)
        finally:
            self._keys.pop(key, None)
            self._registry.remove(context.session_id)

    async def _look_for_vanished(self, beat: Beat) -> None:
        while True:
            beat()
            await asyncio.sleep(LOOK_EVERY_S)
            for number, session in enumerate(list(self._keys.values())):
                session.client.abort_if_vanished()
                session.upstream.abort_if_vanished()
                if number % LOOKED_AT_A_TURN == 0:
                    await asyncio.sleep(0)

    async def _record_opened(self, context: SessionContext) -> None:
        try:
            await self._services.record.append(entries.session_opened(context))
        except Exception as error:  # fail closed: a session nobody recorded does not exist
            logger.error("session not recorded: error=%s", type(error).__name__)
            raise Refused("the audit log cannot be written; no session was opened", sqlstate="57P03") from None

    def _mint_key(self, process_id: int, size: int) -> tuple[int, bytes]:
        """A secret of ours: the upstream's own never leaves the gateway.

        The process is the one that pg_backend_pid(), pg_locks and notifications name, so that they agree.
        """
        while True:
            key = (process_id or secrets.randbelow(2**31 - 1) + 1, secrets.token_bytes(size))
            if key not in self._keys:
                return key


def _welcome(upstream: UpstreamConnection, key: tuple[int, bytes]) -> bytes:
    statuses = [server.encode_parameter_status(name, value) for name, value in upstream.parameters.items()]
    return b"".join((server.AUTHENTICATION_OK, *statuses, server.encode_key_data(*key), server.encode_ready("I")))


def _refuse(connection: ClientConnection, sqlstate: str, message: str) -> None:
    connection.write(server.error(sqlstate=sqlstate, message=message, severity="FATAL"))
