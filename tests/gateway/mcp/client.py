"""The MCP SDK's own client, as an agent builder would use it, against a running stack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from tests.stack import Stack


def endpoint(stack: Stack) -> str:
    return f"{stack.demo['web_url']}/mcp"


@asynccontextmanager
async def connected(
    stack: Stack, *, token: str | None = None, auth: httpx2.Auth | None = None
) -> AsyncIterator[Client]:
    """A connected client: with a bearer token (the demo agent's unless given), or with an OAuth flow of its own."""
    headers = {} if auth else {"Authorization": f"Bearer {token or stack.agent_token()}"}
    async with httpx2.AsyncClient(headers=headers, auth=auth, timeout=60, trust_env=False) as http:
        transport = streamable_http_client(endpoint(stack), http_client=http)
        async with Client(transport) as client:
            yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured content of a tool's answer."""
    answer = await client.call_tool(tool, arguments)
    assert isinstance(answer, CallToolResult)
    assert answer.structured_content is not None, answer.content
    return dict(answer.structured_content)
