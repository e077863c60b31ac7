"""`/mcp`: Model Context Protocol over streamable HTTP, by the official SDK, for the web process to mount.

Stateless: every request brings its token and is served by whichever process the balancer picks. Authorization follows
the protocol's specification: RFC 9728 metadata at `/.well-known/oauth-protected-resource/mcp`, 401 with the metadata's
address for a request without a good token, the product's own token service (RFC 8414) as the authorization server.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from mcp.server import MCPServer
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.domain.tokens import MCP_PATH, issuer_url, mcp_resource
from gateway.mcp.answers import Problem, StatementAnswer, told
from gateway.mcp.tokens import GovernedTokenVerifier
from gateway.mcp.tools import READ_ONLY, TOOLS

INSTRUCTIONS = """Databases with protected health information, behind a gateway that decides on every statement.
Start with list_connections, then list_schemas and describe_table: they show what comes out clear, masked, held or
denied. Use explain before a statement you are unsure of. A denied statement stays denied until you change it: follow
problem.permitted_alternative. A pending one waits for a person: show review.url, then call wait_for_review."""
logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * 1024 * 1024


def mcp_server() -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer(
        "hoopweb",
        title="hoopweb",
        instructions=INSTRUCTIONS,
        token_verifier=GovernedTokenVerifier(),
        auth=AuthSettings(
            # As text: an AnyHttpUrl would end in a slash, and issuers are compared letter by letter (RFC 8414 §3.3).
            issuer_url=cast(AnyHttpUrl, issuer_url()),
            resource_server_url=cast(AnyHttpUrl, mcp_resource()),
            validate_token_resource=True,
        ),
        subscriptions=False,
        log_level="WARNING",
    )
    for tool in TOOLS:
        hints = ToolAnnotations(read_only_hint=tool.__name__ in READ_ONLY, open_world_hint=False)
        server.add_tool(without_values(tool), annotations=hints)
    return server


def without_values(tool: Callable[..., Awaitable[CallToolResult]]) -> Callable[..., Awaitable[CallToolResult]]:
    """The tool, whose unforeseen errors are told and logged by type alone: their text may quote rows or statements."""

    @functools.wraps(tool)
    async def guarded(*args: Any, **kwargs: Any) -> CallToolResult:
        try:
            return await tool(*args, **kwargs)
        except MCPError:
            raise
        except Exception as error:  # fail closed: an answer nobody foresaw is no answer
            logger.error("mcp tool broke: tool=%s error=%s", tool.__name__, type(error).__name__)
            problem = Problem(code="internal-error", reason="the tool broke; nothing is known to have run")
            return told(StatementAnswer(status="failed", problem=problem), is_error=True)

    return guarded


class NoStandingStream:
    """ASGI middleware: answers 405 to whoever asks for the protocol's standing stream, as its specification permits.

    Where no session is kept nothing is ever said on that stream, and nobody would look at its token again: the SDK
    holds it open for as long as the client likes. Who brings no token is told where to get one, as everywhere here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stands = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == MCP_PATH
        if stands and any(name == b"authorization" for name, _ in scope["headers"]):
            await Response(status_code=405, headers={"Allow": "POST"})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def mcp_application() -> Starlette:
    """The ASGI application of `/mcp` and its metadata; its lifespan must be run by the server."""
    application = mcp_server().streamable_http_app(
        streamable_http_path=MCP_PATH,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=TransportSecuritySettings(allowed_hosts=_hosts(), allowed_origins=_origins()),
    )
    application.add_middleware(NoStandingStream)
    return application


def is_mcp(path: str) -> bool:
    """Whether the MCP application answers this path."""
    return path in {MCP_PATH, f"/.well-known/oauth-protected-resource{MCP_PATH}"}


def _hosts() -> list[str]:
    """Django's ALLOWED_HOSTS in the SDK's form: any port of each (a defence against DNS rebinding)."""
    names = [name for name in settings.ALLOWED_HOSTS if name != "*"]
    public = urlsplit(settings.HOOPWEB_WEB_URL)
    return [*names, *(f"{name}:*" for name in names), public.netloc]


def _origins() -> list[str]:
    return [settings.HOOPWEB_WEB_URL]
