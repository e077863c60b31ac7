"""The SDK's server as we build it: an unforeseen error carries no value out, neither to the client nor to the log."""

from __future__ import annotations

import logging

import pytest
from mcp.types import CallToolResult

from gateway.mcp.server import mcp_server, without_values

CANARY = "987-65-4321"


async def broken() -> CallToolResult:
    """Break."""
    raise ValueError(f"the row was {CANARY}")


async def test_unforeseen_error_is_told_and_logged_by_its_type_alone(caplog: pytest.LogCaptureFixture):
    with pytest.raises(ValueError, match=CANARY):  # the control: unguarded it is told
        await broken()

    with caplog.at_level(logging.DEBUG):
        answer = await without_values(broken)()

    assert answer.is_error
    assert answer.structured_content is not None
    assert answer.structured_content["problem"]["code"] == "internal-error"
    assert CANARY not in answer.model_dump_json() + caplog.text
    assert "ValueError" in caplog.text


async def test_guarded_tools_keep_their_names_schemas_and_descriptions():
    tools = {tool.name: tool for tool in await mcp_server().list_tools()}

    assert "connection" in tools["query"].input_schema["properties"]
    assert tools["query"].description
    assert tools["query"].output_schema is not None
