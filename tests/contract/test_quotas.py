"""A quota on every door of the running product: refused in the words of each, told when to come again, recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.contract.test_rest import STATEMENTS
from tests.contract.test_switched_off import socket
from tests.gateway.mcp.client import call, connected
from tests.stack import Stack

QUOTA = """
apiVersion: hoopweb/v1
quotas:
  - {name: few, agents: [demo-agent], connections: [clinic], statements_per_minute: 3}
"""
COUNT = "select count(*) from encounters"


@pytest.fixture
def three_a_minute(stack: Stack, tmp_path: Path) -> Iterator[None]:
    document = tmp_path / "quotas.yaml"
    document.write_text(QUOTA, encoding="utf-8")
    stack.manage("apply", "-f", str(document))
    yield
    document.write_text("apiVersion: hoopweb/v1\nquotas: []\n", encoding="utf-8")
    stack.manage("apply", "-f", str(document), "--prune")


def used_up(stack: Stack) -> psycopg.Error:
    """What a native client hears once nothing is left, after at least one statement was answered."""
    with stack.connect(autocommit=True) as agent:
        for _ in range(30):
            try:
                agent.execute(COUNT)
            except psycopg.errors.ConfigurationLimitExceeded as refused:
                return refused
    raise AssertionError("thirty statements were answered, expected three")


def asked_over_socket(stack: Stack) -> dict[str, Any]:
    """The last frame of a statement's answer."""
    with socket(stack, stack.agent_token()) as opened:
        opened.send(json.dumps({"type": "statement", "id": 1, "statement": COUNT}))
        while (frame := json.loads(opened.recv(60)))["type"] not in {"completed", "denied", "failed", "problem"}:
            pass
    return dict(frame)


async def asked_over_mcp(stack: Stack) -> dict[str, Any]:
    async with connected(stack) as client:
        return await call(client, "query", connection="clinic", statement=COUNT)


def test_every_door_refuses_and_says_when_to_come_again(stack: Stack, three_a_minute: None) -> None:
    refused = used_up(stack)

    assert "the quota few of 3 statements a minute is used up (rule few)" in str(refused)
    assert "send it again in" in (refused.diag.message_hint or "")
    answer = stack.rest("POST", STATEMENTS, json={"statement": COUNT})
    assert (answer.status_code, answer.json()["code"]) == (429, "quota-exceeded")
    assert int(answer.headers["retry-after"]) == answer.json()["retry_after_s"] > 0
    over_socket = asked_over_socket(stack)
    assert (over_socket["type"], over_socket["problem"]["code"]) == ("denied", "quota-exceeded")
    assert over_socket["problem"]["retry_after_s"] > 0
    over_mcp = asyncio.run(asked_over_mcp(stack))
    assert (over_mcp["status"], over_mcp["problem"]["code"]) == ("denied", "quota-exceeded")
    assert over_mcp["problem"]["retry_after_s"] > 0
