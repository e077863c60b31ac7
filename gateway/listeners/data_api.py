"""What every HTTP data API shares: who is calling, through which connection, and a router by host and path.

    /c/<connection>/…      names the connection; so does a host whose first label is a connection's name
    /bigquery/v2/…         without either, the API finds the connection by what it serves (BigQuery: the project)

A surface is one API. It owns paths, and says for each of its endpoints what becomes of a request. A path nobody owns is
answered 404; the caller hears nothing about what exists before its token is good.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from analysis.statement import Operation
from approvals.domain.request import Principal
from gateway.domain.identity import TokenVerifier
from gateway.domain.snapshot import ConnectionSpec, Snapshot, StaleSnapshot
from gateway.session import entries
from gateway.session.context import SessionContext
from gateway.session.services import AuthenticationFailed, Services

logger = logging.getLogger(__name__)

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
CONNECTION_PREFIX = "/c/"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: the path without its connection prefix, and the connection it names (empty: none)."""

    path: str
    connection: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, over which wire."""

    principal: Principal
    client_address: str
    client_tls: str
    application: str
    protocol: str

    def session(self, spec: ConnectionSpec, **facts: Any) -> SessionContext:
        return SessionContext(
            principal=self.principal,
            connection=spec,
            protocol=self.protocol,
            client_address=self.client_address,
            client_tls=self.client_tls,
            application=self.application,
            **facts,
        )


class Unauthenticated(Exception):
    """The token is missing or not good here. The reason is in the record; the caller hears one sentence."""


class RulesUnavailable(Exception):
    """The rules are out of date: nothing is served."""


class Surface(Protocol):
    """One data API."""

    def owns(self, path: str) -> bool: ...

    async def handle(self, request: Request, target: Target) -> Response: ...


class Front:
    """Authenticates callers of data APIs; what it refuses is recorded."""

    def __init__(self, *, services: Services, verifier: TokenVerifier, plaintext_on_loopback: bool) -> None:
        self.services = services
        self._verifier = verifier
        self._plaintext_on_loopback = plaintext_on_loopback

    def snapshot(self) -> Snapshot:
        try:
            return self.services.snapshots.current()
        except StaleSnapshot:
            raise RulesUnavailable from None

    async def admit(self, request: Request, *, protocol: str, connection: str) -> Caller:
        """Who this is. Raises Unauthenticated and RulesUnavailable."""
        snapshot = self.snapshot()
        address = request.client.host if request.client else ""
        try:
            if not is_safe_wire(request, plaintext_on_loopback=self._plaintext_on_loopback):
                raise AuthenticationFailed("the token came over plaintext")
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                raise AuthenticationFailed("no bearer token")
            principal = await self._verifier.verify(token.strip(), snapshot=snapshot)
        except AuthenticationFailed as failed:
            await self.services.record.append(
                entries.authentication_failed(
                    protocol=protocol, client_address=address, claimed="", connection=connection, reason=failed.reason
                )
            )
            raise Unauthenticated from None
        return Caller(
            principal=principal,
            client_address=address,
            client_tls="TLS" if request.scope["scheme"] == "https" else "",
            application=request.headers.get("user-agent", "")[:200],
            protocol=protocol,
        )


class DataApis:
    """The router: the first surface that owns a path handles it."""

    def __init__(self, surfaces: Sequence[Surface], connections: Callable[[], Mapping[str, ConnectionSpec]]) -> None:
        self._surfaces = tuple(surfaces)
        self._connections = connections

    def routes(self) -> list[Route]:
        return [Route("/{path:path}", self.route, methods=METHODS)]

    async def route(self, request: Request) -> Response:
        target = target_of(request, self._connections())
        for surface in self._surfaces:
            if surface.owns(target.path):
                return await answered(surface.handle(request, target))
        return JSONResponse({"error": {"code": 404, "message": "nothing is served here"}}, status_code=404)


def target_of(request: Request, connections: Mapping[str, ConnectionSpec]) -> Target:
    # Decoded once, and of the request line alone: `request.url` is made of the Host header too, and quoted anew.
    path = str(request.scope["path"])
    if path.startswith(CONNECTION_PREFIX):
        name, slash, rest = path.removeprefix(CONNECTION_PREFIX).partition("/")
        return Target(path=slash + rest, connection=name)
    label = request.headers.get("host", "").partition(":")[0].partition(".")[0].lower()
    return Target(path=path, connection=label if label in connections else "")


def is_safe_wire(request: Request, *, plaintext_on_loopback: bool) -> bool:
    """Whether a secret may cross: a bearer token is whoever overhears it."""
    if request.scope["scheme"] == "https":
        return True
    try:
        on_loopback = ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        on_loopback = False
    return on_loopback and plaintext_on_loopback


async def answered(answer: Awaitable[Response]) -> Response:
    """The answer, or a plain 500: nothing of an exception's text reaches a client."""
    try:
        return await answer
    except ClientDisconnect:
        return Response(status_code=499)
    except Exception as error:
        logger.error("data API call broke: error=%s", type(error).__name__, exc_info=place_of(error))
        body = {"error": {"code": 500, "message": "internal error", "errors": [{"reason": "jobInternalError"}]}}
        return JSONResponse(body, status_code=500)


def place_of(error: BaseException) -> BaseException:
    """The error's type and place, without a message that might quote a statement."""
    return RuntimeError(type(error).__name__).with_traceback(error.__traceback__)


def may(snapshot: Snapshot, principal: Principal, connection: str, operation: Operation | None = None) -> bool:
    """Whether any access rule opens the connection (for the operation) to one of the principal's groups."""
    return any(
        rule.groups & principal.groups
        and rule.covers(connection)
        and (operation is None or operation in rule.operations)
        for rule in snapshot.access_rules
    )
