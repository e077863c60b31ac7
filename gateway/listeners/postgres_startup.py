"""From the first byte of a client to a session that may run statements.

    [TLS at once] | [GSSENCRequest → N] → [SSLRequest → S + TLS | N]  →  CancelRequest | StartupMessage
           → [NegotiateProtocolVersion] → AuthenticationCleartextPassword → token → AuthenticationOk
             (or AuthenticationSASL: OAUTHBEARER → token → AuthenticationOk)
           → upstream opened → ParameterStatus* → BackendKeyData (ours) → ReadyForQuery

Every failure of authentication sounds the same to the client; the record has the reason.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from fnmatch import fnmatchcase

from approvals.domain.request import Principal
from gateway.domain.addresses import is_loopback
from gateway.domain.snapshot import ConnectionSpec, StaleSnapshot
from gateway.listeners.postgres_client import ClientConnection
from gateway.protocols.postgres import client, oauth, server
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.protocols.postgres.startup import (
    NEWEST_MINOR,
    CancelRequest,
    EncryptionRequest,
    Startup,
    decode_packet,
)
from gateway.session import entries
from gateway.session.services import AuthenticationFailed, Authenticator, Services

logger = logging.getLogger(__name__)

# SSLRequest and GSSENCRequest, each at most once, then the real packet.
MAX_PACKETS = 3
# As a server that starts up says it (57P03, cannot_connect_now): pools and drivers come again.
_RULES_OLD = "the gateway's rules are out of date; try again"


class Refused(Exception):
    """The client hears `message` with `sqlstate` as its last word."""

    def __init__(self, message: str, *, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Opening:
    """An authenticated client that may use the connection it named."""

    startup: Startup
    principal: Principal
    connection: ConnectionSpec


async def greet(connection: ClientConnection, ssl_context: ssl.SSLContext | None) -> Startup | CancelRequest:
    """Answer encryption requests until the client says what it wants."""
    if await connection.begins_with_tls():
        if ssl_context is None:
            raise ProtocolViolation("TLS, which this gateway does not offer here")
        await connection.start_direct_tls(ssl_context)
    for _ in range(MAX_PACKETS):
        packet = decode_packet(await connection.packet())
        if not isinstance(packet, EncryptionRequest):
            return packet
        if packet.kind == "tls" and ssl_context is not None and not connection.tls:
            await connection.start_tls(ssl_context)
        else:
            connection.write(b"N")
    raise ProtocolViolation("too many encryption requests")


async def admit(
    connection: ClientConnection,
    startup: Startup,
    *,
    services: Services,
    authenticator: Authenticator,
    allow_plaintext_loopback: bool,
    certificate_required: bool = False,
    oauth_discovery: str = "",
) -> Opening:
    """Authenticate the client and check that it may use the connection at all. Raises Refused.

    `certificate_required`: the TLS handshake verified a client certificate; it must then be the principal's own.
    """
    plaintext_allowed = allow_plaintext_loopback and is_loopback(connection.address) and not certificate_required
    if not connection.tls and not plaintext_allowed:
        raise Refused("this gateway accepts connections with TLS only", sqlstate="28000")
    if startup.minor > NEWEST_MINOR or startup.unknown_options:
        spoken = min(startup.minor, NEWEST_MINOR)
        connection.write(server.encode_negotiation(minor=spoken, unknown=startup.unknown_options))
    connection.expect_frames()
    secret = await _secret(connection, startup, oauth_discovery)
    try:
        principal = await authenticator.authenticate(
            user=startup.user,
            secret=secret,
            connection=startup.database,
            client_address=connection.address,
            tls=connection.tls,
        )
    except StaleSnapshot:
        await _record_failure(services, connection, startup, "the rules are out of date")
        raise Refused(_RULES_OLD, sqlstate="57P03") from None
    except AuthenticationFailed as failure:
        await _record_failure(services, connection, startup, failure.reason)
        if startup.bearer:
            await _fail_bearer(connection, oauth_discovery)
        raise Refused(f'authentication failed for user "{startup.user[:63]}"', sqlstate="28P01") from None
    if certificate_required and not is_certified(principal, connection.certified):
        await _record_failure(services, connection, startup, "the client certificate is not the principal's")
        raise Refused(f'authentication failed for user "{startup.user[:63]}"', sqlstate="28P01")
    try:
        spec = permitted_connection(services, principal, startup.database)
    except Refused as refused:
        await _record_failure(services, connection, startup, str(refused))
        raise
    return Opening(startup, principal, spec)


def is_certified(principal: Principal, names: frozenset[str]) -> bool:
    """Whether a certificate with these names is the principal's second factor.

    It certifies the software at the other end: the agent, where one acts for a person, else the subject itself. A token
    stolen from its agent is then worth nothing without the agent's key.
    """
    return (principal.actor or principal.subject) in names


def permitted_connection(services: Services, principal: Principal, name: str) -> ConnectionSpec:
    """The connection, if a rule lets any of the principal's groups use it for anything.

    One answer for "there is none" and "not for you": names of connections are not to be probed.
    """
    try:
        snapshot = services.snapshots.current()
    except StaleSnapshot:
        raise Refused(_RULES_OLD, sqlstate="57P03") from None
    spec = snapshot.connections.get(name)
    usable = spec is not None and spec.enabled and spec.kind == "postgres"
    allowed = any(
        rule.groups & principal.groups and any(fnmatchcase(name, pattern) for pattern in rule.connections)
        for rule in snapshot.access_rules
    )
    if spec is None or not usable or not allowed:
        raise Refused(f'no access rule lets you use a PostgreSQL connection named "{name[:63]}"', sqlstate="42501")
    return spec


async def _secret(connection: ClientConnection, startup: Startup, oauth_discovery: str) -> str:
    """The token or ticket, as a password or by OAUTHBEARER. Raises Refused for a client that has none yet."""
    if not startup.bearer:
        connection.write(server.CLEARTEXT_PASSWORD)
        return _password(*await connection.next_frame())
    connection.write(server.encode_sasl(oauth.mechanisms()))
    kind, body = await connection.next_frame()
    if kind != client.PASSWORD:
        raise ProtocolViolation("no SASL response where one was expected")
    token = oauth.initial_response(body)
    if not token:  # libpq asks where tokens come from, gets one there, and connects again
        await _fail_bearer(connection, oauth_discovery)
        raise Refused("no token was shown", sqlstate="28000")
    return token


async def _fail_bearer(connection: ClientConnection, oauth_discovery: str) -> None:
    connection.write(server.encode_sasl_continue(oauth.failure(oauth_discovery)))
    kind, body = await connection.next_frame()
    if kind != client.PASSWORD or body != oauth.CLIENT_IS_DONE:
        raise ProtocolViolation("a SASL exchange that goes on after its failure")


def _password(kind: int, body: bytes) -> str:
    if kind != client.PASSWORD or not body.endswith(b"\0"):
        raise ProtocolViolation("no password message where one was expected")
    try:
        return body[:-1].decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolViolation("a password that is not UTF-8") from None


async def _record_failure(services: Services, connection: ClientConnection, startup: Startup, reason: str) -> None:
    entry = entries.authentication_failed(
        protocol="postgres",
        client_address=connection.address,
        claimed=startup.user,
        connection=startup.database,
        reason=reason,
    )
    logger.info("authentication failed: address=%s", connection.address)
    try:
        await services.record.append(entry)
    except Exception as error:  # nobody gets in either way
        logger.error("failed authentication not recorded: error=%s", type(error).__name__)
