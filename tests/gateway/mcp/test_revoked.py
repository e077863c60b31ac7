"""What an agent may do is taken away while its MCP client stays connected: its next call is refused."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from mcp import Client

from tests.gateway.mcp.client import call, connected, endpoint
from tests.stack import Stack

QUERY = {"connection": "clinic", "statement": "select count(*) from encounters"}
GUARD_S = 60  # how long a busy machine may take for what takes a second or two

_MAKE = """
from django.contrib.auth.models import User
from gateway.domain.tokens import issue_agent_token
from gateway.domain.version import bump_version
from gateway.models import AccessRule, Agent
owner = User.objects.get(username="admin")
agent = Agent.objects.create(name={name!r}, client_id={name!r}, groups=[{name!r}], owner=owner)
rights = ["read", "write", "temp"]
AccessRule.objects.create(name={name!r}, groups=[{name!r}], connections=["clinic"], operations=rights)
bump_version()
print(issue_agent_token(agent))
"""
_TAKE = """
from gateway.domain.revocation import revoke_agent
from gateway.domain.version import bump_version
from gateway.models import AccessRule, Agent
agent, rule = Agent.objects.get(name={name!r}), AccessRule.objects.filter(name={name!r})
{what}
bump_version()
"""
REVOKED = "revoke_agent(agent=agent)"
SWITCHED_OFF = "agent.enabled = False; agent.save()"
NO_RIGHT = "rule.delete()"


@dataclass(frozen=True, slots=True)
class Hired:
    name: str
    token: str


@pytest.fixture
def agent(stack: Stack) -> Iterator[Hired]:
    """An agent whose one right is its own, to read the clinic and to have temporary tables."""
    name = f"mcp-{secrets.token_hex(4)}"
    made = stack.manage("shell", "-c", _MAKE.format(name=name))
    assert made.returncode == 0, made.stderr
    yield Hired(name, made.stdout.splitlines()[-1])
    take(stack, name, NO_RIGHT)


def take(stack: Stack, name: str, what: str) -> None:
    done = stack.manage("shell", "-c", _TAKE.format(name=name, what=what))
    assert done.returncode == 0, done.stderr


def authorised(stack: Stack, agent: Hired) -> int:
    """How often the record says that something of this agent's was let in."""
    with psycopg.connect(stack.demo["control_dsn"]) as control:
        row = control.execute(
            "SELECT count(*) FROM audit_logentry WHERE kind = 'statement.authorised' AND canonical LIKE %s",
            [f'%"subject":"{agent.name}"%'],
        ).fetchone()
    assert row is not None
    return int(row[0])


async def let_in(stack: Stack, agent: Hired, at_least: int) -> int:
    """The same once the log has taken in what came before."""
    async with asyncio.timeout(GUARD_S):
        while (count := authorised(stack, agent)) < at_least:
            await asyncio.sleep(0.2)
    return count


async def counted(client: Client) -> None:
    """One query is answered, as soon as the gateway has heard of this agent."""
    async with asyncio.timeout(GUARD_S):
        while (await call(client, "query", **QUERY))["status"] != "completed":
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("what", [REVOKED, SWITCHED_OFF])
async def test_connected_agent_is_nobody_once_it_is_switched_off(stack: Stack, agent: Hired, what: str) -> None:
    async with connected(stack, token=agent.token) as client:
        await counted(client)

        take(stack, agent.name, what)

        with pytest.raises(Exception):  # noqa: B017, PT011  the transport's own, whatever it is called
            await call(client, "query", **QUERY)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {agent.token}"}
    answer = httpx.post(endpoint(stack), json=message, headers=headers, timeout=60, trust_env=False)
    assert answer.status_code == 401
    assert await let_in(stack, agent, 1) == 1


async def test_connected_agent_whose_right_is_withdrawn_is_denied(stack: Stack, agent: Hired) -> None:
    async with connected(stack, token=agent.token) as client:
        await counted(client)

        take(stack, agent.name, NO_RIGHT)

        answers = 1
        async with asyncio.timeout(GUARD_S):  # every gateway hears of rules in a second or two
            while (answer := await call(client, "query", **QUERY))["status"] == "completed":
                answers += 1
                await asyncio.sleep(0.2)
        again = await call(client, "query", **QUERY)
        listed = await call(client, "list_connections")

    assert (answer["status"], again["status"]) == ("denied", "denied")
    assert "clinic" not in {found["name"] for found in listed["connections"]}
    assert await let_in(stack, agent, answers) == answers
