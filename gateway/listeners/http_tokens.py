"""Tokens on the data plane's port, so that one address is all an agent needs: `/v1/token` and its metadata.

An unmodified google-auth `external_account` file names this endpoint as its `token_url` (RFC 8693 in a form, secrets
as Basic). RFC 8707: a `resource` or `audience` must name this gateway, or a connection on it; a token asked for
somebody else is refused (`invalid_target`). RFC 9728 and RFC 8414 documents say all this to clients that look it up.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from django.conf import settings
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.domain import token_service
from gateway.domain.identity import TokenVerifier
from gateway.domain.threads import in_thread
from gateway.domain.tokens import AUDIENCE, issuer_url, mcp_resource
from gateway.listeners.data_api import answered, is_safe_wire

MAX_FORM_BYTES = 64 * 1024
FORM_WITHIN_S = 10.0
TOKEN_PATH = "/v1/token"  # noqa: S105


class TokenEndpoint:
    def __init__(self, *, verifier: TokenVerifier, plaintext_on_loopback: bool) -> None:
        self._verifier = verifier
        self._plaintext_on_loopback = plaintext_on_loopback

    def routes(self) -> list[Route]:
        return [
            Route(TOKEN_PATH, self.token, methods=["POST"]),
            Route("/.well-known/oauth-protected-resource", self.resource, methods=["GET"]),
            Route("/.well-known/oauth-authorization-server", self.server, methods=["GET"]),
        ]

    async def token(self, request: Request) -> Response:
        return await answered(self._token(request))

    async def _token(self, request: Request) -> Response:
        try:
            form = await read_form(request)
            if not is_safe_wire(request, plaintext_on_loopback=self._plaintext_on_loopback):
                raise token_service.OAuthError("invalid_request", "credentials must not cross a network in plaintext")
            answer = await in_thread(
                token_service.token_response,
                for_this_service(form),
                authorization=request.headers.get("authorization", ""),
                verifier=self._verifier,
                client_address=request.client.host if request.client else "",
            )
        except token_service.OAuthError as refused:
            return JSONResponse(refused.as_json(), status_code=refused.status, headers=refused.headers)
        return JSONResponse(answer, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def resource(self, _: Request) -> Response:
        """RFC 9728 §2."""
        return JSONResponse(
            {
                "resource": settings.HOOPWEB_HTTP_URL,
                "authorization_servers": [issuer_url()],
                "bearer_methods_supported": ["header"],
                "resource_name": "hoopweb data APIs",
            }
        )

    async def server(self, _: Request) -> Response:
        """RFC 8414 §2, with this port's token endpoint."""
        return JSONResponse({**token_service.metadata(), "token_endpoint": f"{settings.HOOPWEB_HTTP_URL}{TOKEN_PATH}"})


async def read_form(request: Request) -> list[tuple[str, str]]:
    """An `application/x-www-form-urlencoded` body. A parameter given twice is refused (RFC 6749 §3.2)."""
    body = b""
    try:
        async with asyncio.timeout(FORM_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    raise token_service.OAuthError("invalid_request", "the form is too large", 413)
        form = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=40)
    except (TimeoutError, ValueError):
        raise token_service.OAuthError("invalid_request", "expected a form") from None
    names = [name for name, _ in form if name not in ("resource", "audience")]
    if len(names) != len(set(names)):
        raise token_service.OAuthError("invalid_request", "a parameter is given twice")
    return form


def for_this_service(form: list[tuple[str, str]]) -> dict[str, str]:
    """The form, without targets that name this service as a whole: those tokens are good at every door.

    Raises `invalid_target` for another service (RFC 8707 §2, RFC 8693 §2.1).
    """
    own = settings.HOOPWEB_HTTP_URL
    kept = dict(form)
    for name, value in form:
        if name not in ("resource", "audience"):
            continue
        target = value.rstrip("/")
        if target in ("", own, AUDIENCE, issuer_url()) or target.startswith(f"{own}/"):
            kept.pop(name, None)
        elif name == "audience" or target != mcp_resource():
            raise token_service.OAuthError("invalid_target", "the token is asked for another service than this one")
    return kept
