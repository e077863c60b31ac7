"""The statement relay's HTTP endpoints: the control plane's door into the data plane (`gateway.listeners.relay`)."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from analysis.split import split_statements
from approvals.domain.request import Principal
from audit.answers import RecordUnavailable
from gateway.domain.identity import EVERY_DOOR, TokenVerifier, revalidated
from gateway.domain.long_texts import read_beside
from gateway.domain.snapshot import ConnectionSpec, Snapshot, StaleSnapshot
from gateway.domain.tokens import mcp_resource
from gateway.listeners.explain import explain_statement
from gateway.listeners.reanalysis import principal_of, reanalyse_statement
from gateway.listeners.relay import Relay
from gateway.listeners.relay_transport import Frame, RelayRequest
from gateway.listeners.sight import NotDescribed, describe
from gateway.session import entries
from gateway.session.services import AuthenticationFailed, Services
from gateway.upstreams.registry import UpstreamFailed

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
BODY_WITHIN_S = 30.0


class Refused(Exception):
    """A relay call that is answered before any statement: `status` is HTTP's, the rest a problem document's."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason = status, code, reason


class RelayEndpoint:
    """Authenticates the caller twice: the control plane by the relay key, the principal by its own token."""

    def __init__(self, *, relay: Relay, services: Services, verifier: TokenVerifier, relay_key: str) -> None:
        self._relay = relay
        self._services = services
        self._verifier = verifier
        self._relay_key = relay_key

    async def statements(self, request: Request) -> Response:
        try:
            body = await self._read(request)
            principal, spec = await self._admit(
                request, str(body.get("connection", "")), protocol=str(body.get("protocol", ""))
            )
            relay_request = await one_statement(body, spec.kind, asker=principal.subject)
        except Refused as refused:
            return refusal(refused)
        if body.get("dry_run"):
            try:
                frame = await explain_statement(self._services, principal, spec, relay_request)
            except RecordUnavailable:
                return refusal(Refused(503, "record-unavailable", "the audit log cannot be written; nothing is told"))
            return StreamingResponse(lines(once(frame)), media_type="application/x-ndjson")
        frames = self._relay.run(principal, spec, relay_request)
        return StreamingResponse(lines(frames), media_type="application/x-ndjson")

    async def sight(self, request: Request) -> Response:
        """What the principal may see: asked with its own token, or for it by the control plane alone (no token)."""
        try:
            body = await self._read(request)
            principal, spec = await self._whose_sight(request, body)
            answer = await describe(
                self._services,
                principal,
                spec,
                table=str(body.get("table", "")),
                offset=max(0, int(body.get("offset", 0))),
                client_address=request.headers.get("x-hoopweb-client", ""),
                viewer=str(body.get("viewer", "")) if "principal" in body else "",
                names_only=bool(body.get("names_only")),
            )
        except Refused as refused:
            return refusal(refused)
        except NotDescribed as problem:
            return refusal(Refused(404, "not-described", str(problem)))
        except RecordUnavailable:
            return refusal(Refused(503, "record-unavailable", "the audit log cannot be written; nothing is told"))
        except (KeyError, TypeError, ValueError):
            return refusal(Refused(400, "bad-request", "expected a connection, and a table or an offset"))
        return JSONResponse(answer)

    async def _whose_sight(self, request: Request, body: Mapping[str, Any]) -> tuple[Principal, ConnectionSpec]:
        connection = str(body.get("connection", ""))
        if "principal" not in body:
            return await self._admit(request, connection, protocol=str(body.get("protocol", "")))
        self._admit_control_plane(request)
        snapshot = self._snapshot()
        if int(body.get("version", 0)) > snapshot.version:
            raise Refused(409, "not-yet-told", "the gateway has not heard of the last change yet")
        spec = snapshot.connections.get(connection)
        if spec is None:
            raise Refused(404, "no-connection", "there is no such connection")
        try:
            principal = revalidated(principal_of(body["principal"]), rules=snapshot)
        except AuthenticationFailed as failed:
            raise Refused(409, "no-rights", failed.reason) from None
        if body.get("test"):
            await self._try_upstream(spec)
        return principal, spec

    async def _try_upstream(self, spec: ConnectionSpec) -> None:
        """Whether the gateway can sign in at the upstream; where it cannot, the upstream's refusal."""
        try:
            upstream = await self._relay.open_upstream(spec)
        except UpstreamFailed as failed:
            raise Refused(409, "upstream-unavailable", failed.message) from None
        await upstream.close()

    async def resume(self, request: Request) -> Response:
        try:
            body = await self._read(request)
            principal, spec = await self._admit(
                request, str(body.get("connection", "")), protocol=str(body.get("protocol", ""))
            )
        except Refused as refused:
            return refusal(refused)
        await self._relay.resume(request.path_params["statement_id"], principal, spec)
        return JSONResponse({"status": "resumed"})

    async def reanalyses(self, request: Request) -> Response:
        """For the control plane alone: what a reviewer's text would do. No principal is present, nothing runs."""
        try:
            body = await self._read(request)
            answer = await reanalyse_statement(self._services, body)
        except Refused as refused:
            return refusal(refused)
        except (KeyError, TypeError, ValueError):
            return refusal(Refused(400, "bad-request", "expected a binding and a principal"))
        return JSONResponse(answer)

    async def _read(self, request: Request) -> dict[str, Any]:
        """The control plane's call. Of anybody else's no body is waited for: clients may reach this port."""
        self._admit_control_plane(request)
        return await read_json(request)

    def _admit_control_plane(self, request: Request) -> None:
        key = request.headers.get("x-hoopweb-relay", "")
        if not self._relay_key or not hmac.compare_digest(key.encode(), self._relay_key.encode()):
            raise Refused(403, "relay-refused", "the relay key is missing or wrong")

    async def _admit(
        self, request: Request, connection: str, *, protocol: str = ""
    ) -> tuple[Principal, ConnectionSpec]:
        self._admit_control_plane(request)
        snapshot = self._snapshot()
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise AuthenticationFailed("no bearer token")
            audiences = EVERY_DOOR | {mcp_resource()} if protocol == "mcp" else EVERY_DOOR
            principal = await self._verifier.verify(token, snapshot=snapshot, audiences=audiences)
        except AuthenticationFailed as failed:
            await self._record_failure(request, connection, failed.reason)
            raise Refused(401, "not-authenticated", "the token is not valid here") from None
        spec = snapshot.connections.get(connection)
        if spec is None or not spec.enabled or not may_enter(snapshot, principal, connection):
            raise Refused(404, "no-connection", "there is no such connection for you")
        return principal, spec

    def _snapshot(self) -> Snapshot:
        try:
            return self._services.snapshots.current()
        except StaleSnapshot:
            raise Refused(503, "rules-unavailable", "the gateway's rules are out of date; try again") from None

    async def _record_failure(self, request: Request, connection: str, reason: str) -> None:
        address = request.headers.get("x-hoopweb-client", "")
        await self._services.record.append(
            entries.authentication_failed(
                protocol="rest", client_address=address, claimed="", connection=connection, reason=reason
            )
        )


def may_enter(snapshot: Snapshot, principal: Principal, connection: str) -> bool:
    """Whether any access rule names one of the principal's groups and this connection."""
    return any(rule.groups & principal.groups and rule.covers(connection) for rule in snapshot.access_rules)


async def one_statement(body: Mapping[str, Any], kind: str, *, asker: str) -> RelayRequest:
    """The request with its text reduced to exactly one statement; refuses none or several.

    BigQuery takes a script as one job, and one approval: its analysis reads it part by part.
    """
    try:
        request = RelayRequest.from_json(body)
    except (KeyError, TypeError, ValueError):
        raise Refused(400, "bad-request", "expected connection and statement") from None
    if kind == "bigquery":
        return request
    text = request.statement
    parts = await read_beside(asker, len(text), partial(split_statements, text))
    if len(parts) != 1:
        raise Refused(400, "one-statement", f"read {len(parts)} statements, expected exactly one")
    return RelayRequest.from_json({**body, "statement": parts[0].text})


async def read_json(request: Request) -> dict[str, Any]:
    """The body, a JSON object; empty without one. Raises Refused: 400, 408, 413, or 499 where the caller left."""
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise Refused(413, "too-large", f"the body is larger than {MAX_BODY_BYTES} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise Refused(408, "too-slow", f"the body did not arrive within {BODY_WITHIN_S:.0f} s") from None
    except ClientDisconnect:
        logger.info("relay call not read: the control plane left, bytes=%d", size)
        raise Refused(499, "caller-left", "the caller left before its body was there") from None
    try:
        body = json.loads(b"".join(chunks) or b"{}")
    except (ValueError, RecursionError):  # 100,000 brackets are well below the bound on bytes
        raise Refused(400, "bad-request", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "bad-request", "the body is not a JSON object")
    return body


def refusal(refused: Refused) -> Response:
    return JSONResponse({"code": refused.code, "reason": refused.reason}, status_code=refused.status)


async def once(frame: Frame) -> AsyncIterator[Frame]:
    yield frame


async def lines(frames: AsyncIterator[Frame]) -> AsyncIterator[bytes]:
    """Newline-delimited JSON. Closing early (the caller left) closes the frames' source at once."""
    async with aclosing(frames) as source:  # type: ignore[type-var]  # every source here is a generator
        async for frame in source:
            yield json.dumps(frame, separators=(",", ":"), default=str).encode() + b"\n"


def relay_routes(endpoint: RelayEndpoint) -> list[Route]:
    return [
        Route("/relay/v1/statements", endpoint.statements, methods=["POST"]),
        Route("/relay/v1/statements/{statement_id}/resume", endpoint.resume, methods=["POST"]),
        Route("/relay/v1/sight", endpoint.sight, methods=["POST"]),
        Route("/relay/v1/reanalyses", endpoint.reanalyses, methods=["POST"]),
    ]
