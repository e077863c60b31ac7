"""Somebody is switched off, by whichever way: what they hold open ends at every door, and the record says why.

Every person here works in the group `ai-agents`, as the demo's agent does: its session is the control that stays.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from tests.gateway.mcp.client import call, connected
from tests.stack import Stack

STATEMENTS = "/api/v1/connections/clinic/statements"
RUNS = "select pg_sleep(300)"
GUARD_S = 60  # how long a busy machine may take for what takes a second or two

# One start of Django makes them all: people whom the provider manages, each with an agent, a token, and its own.
_PEOPLE = """
import json
from django.contrib.auth.models import Group, User
from gateway.domain.provisioning import scim_digest
from gateway.domain.tokens import issue_agent_token, issue_person_token
from gateway.domain.version import bump_version
from gateway.models import Agent, PersonStatus, ScimToken
group = Group.objects.get_or_create(name="ai-agents")[0]
ScimToken.objects.get_or_create(name="leavers", defaults={{"digest": scim_digest({scim!r})}})
made = {{}}
for name in {names!r}:
    user = User.objects.create_user(name)
    PersonStatus.objects.create(user=user, managed=True, external_id=name)
    user.groups.add(group)
    agent = Agent.objects.create(name=name + "-bot", client_id=name + "-bot", groups=["ai-agents"], owner=user)
    made[name] = [user.pk, issue_person_token(user, 3600), issue_agent_token(agent)]
bump_version()
print(json.dumps([made, group.pk]))
"""
_SWITCH_OFF = """
from django.contrib.auth.models import User
user = User.objects.get(username={name!r})
user.is_active = False
user.save()
"""


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    pk: int
    token: str
    agent_token: str


@dataclass(frozen=True, slots=True)
class Cast:
    people: dict[str, Person]
    scim_token: str
    group: int


@pytest.fixture(scope="module")
def cast(stack: Stack) -> Cast:
    scim, mark = f"hws_{secrets.token_urlsafe(32)}", secrets.token_hex(3)
    names = {way: f"{way}-{mark}" for way in ("removed", "inactive", "moved", "asks")}
    done = stack.manage("shell", "-c", _PEOPLE.format(scim=scim, names=list(names.values())))
    assert done.returncode == 0, done.stderr
    made, group = json.loads(done.stdout.splitlines()[-1])
    return Cast({way: Person(name, *made[name]) for way, name in names.items()}, scim, group)


def by_scim(stack: Stack, cast: Cast, person: Person) -> None:
    answer = scim(stack, cast, f"Users/{person.pk}", [{"op": "replace", "path": "active", "value": False}])
    assert answer.status_code == 200, answer.text


def by_django(stack: Stack, cast: Cast, person: Person) -> None:
    done = stack.manage("shell", "-c", _SWITCH_OFF.format(name=person.name))
    assert done.returncode == 0, done.stderr


def by_group(stack: Stack, cast: Cast, person: Person) -> None:
    members = [{"op": "remove", "path": f'members[value eq "{person.pk}"]'}]
    answer = scim(stack, cast, f"Groups/{cast.group}", members)
    assert answer.status_code in {200, 204}, answer.text


def scim(stack: Stack, cast: Cast, path: str, operations: list[dict[str, Any]]) -> httpx.Response:
    body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations}
    headers = {"Authorization": f"Bearer {cast.scim_token}", "Content-Type": "application/scim+json"}
    url = f"{stack.demo['web_url']}/scim/v2/{path}"
    return httpx.patch(url, json=body, headers=headers, timeout=60, trust_env=False)


@contextmanager
def socket(stack: Stack, token: str) -> Iterator[ClientConnection]:
    url = stack.demo["web_url"].replace("http", "ws") + "/ws/v1/connections/clinic/"
    headers = {"Authorization": f"Bearer {token}", "Origin": stack.demo["web_url"]}
    with connect_websocket(url, additional_headers=headers) as opened:
        assert json.loads(opened.recv(GUARD_S))["type"] == "ready"
        yield opened


def until(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + GUARD_S
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def closing_reasons(stack: Stack, subject: str) -> dict[str, str]:
    """Protocol → why its session ended, of those that ended from outside."""
    with psycopg.connect(stack.demo["control_dsn"]) as control:
        rows = control.execute(
            "SELECT protocol, close_reason FROM audit_sessionrecord WHERE subject = %s AND closed_at IS NOT NULL"
            " AND close_reason NOT IN ('finished', 'client')",
            [subject],
        ).fetchall()
    return dict(rows)


def open_sessions(stack: Stack, subject: str) -> set[str]:
    with psycopg.connect(stack.demo["control_dsn"]) as control:
        rows = control.execute(
            "SELECT protocol FROM audit_sessionrecord WHERE subject = %s AND closed_at IS NULL", [subject]
        ).fetchall()
    return {protocol for (protocol,) in rows}


def dialled(dsn: str) -> psycopg.Connection[Any]:
    """A session, as soon as the gateway has heard of these people."""

    def tried() -> psycopg.Connection[Any] | None:
        try:
            return psycopg.connect(dsn, autocommit=True)
        except psycopg.OperationalError:
            return None

    found: psycopg.Connection[Any] = until(tried)
    return found


def farewell(session: psycopg.Connection[Any]) -> str:
    """What an idle native client hears when it next asks."""

    def asked() -> str:
        try:
            session.execute("select 1")
        except psycopg.OperationalError as heard:
            return str(heard)
        return ""

    said: str = until(asked)
    return said


def close_code(opened: ClientConnection) -> int:
    """The code a socket is closed with from the other side; what comes before it is read away."""
    try:
        while True:
            opened.recv(GUARD_S)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0


WAYS = [
    ("removed", by_scim, "the account does not exist or is switched off"),
    ("inactive", by_django, "the account does not exist or is switched off"),
    ("moved", by_group, "the group ai-agents was taken away"),
]


@pytest.mark.parametrize(("way", "switch_off", "reason"), WAYS)
def test_what_a_person_holds_open_ends_and_the_record_says_why(
    stack: Stack, cast: Cast, way: str, switch_off: Callable[[Stack, Cast, Person], None], reason: str
) -> None:
    person = cast.people[way]
    dsn = stack.gateway_dsn(user=person.name, token=person.token)
    running = {"statement": RUNS, "wait_s": 0}
    with (
        stack.connect() as control,
        dialled(dsn) as native,
        socket(stack, person.token) as idle,
        socket(stack, person.token) as busy,
    ):
        native.execute("select 1")
        asked = threading.Thread(
            target=stack.rest, args=("POST", STATEMENTS), kwargs={"token": person.token, "json": running}
        )
        asked.start()
        busy.send(json.dumps({"type": "statement", "id": 1, "statement": RUNS}))
        assert json.loads(busy.recv(GUARD_S))["type"] == "accepted"

        until(lambda: open_sessions(stack, person.name) == {"postgres", "rest", "websocket"})

        switch_off(stack, cast, person)

        assert reason in farewell(native)
        if way != "moved":  # who lost a group is still somebody
            assert [close_code(idle), close_code(busy)] == [4401, 4401]
            assert stack.rest("POST", STATEMENTS, token=person.token, json=running).status_code == 401
        asked.join(GUARD_S)
        assert not asked.is_alive()
        assert control.execute("select 1").fetchone() == (1,)  # everybody else goes on

    reasons = until(lambda: found if len(found := closing_reasons(stack, person.name)) == 3 else None)
    assert reasons == dict.fromkeys(("postgres", "rest", "websocket"), reason)


async def test_agents_of_who_is_switched_off_end_with_them_over_mcp_too(stack: Stack, cast: Cast) -> None:
    person = cast.people["asks"]
    agent = f"{person.name}-bot"
    held = "update patients set phone = '(212) 555-0143' where id = 143"
    dsn = stack.gateway_dsn(user=agent, token=person.agent_token)
    with dialled(dsn) as native:
        async with connected(stack, token=person.agent_token) as client:
            pending = await call(client, "query", connection="clinic", statement=held)
            assert pending["status"] == "pending"  # the control: it may ask, and waits

            by_scim(stack, cast, person)

            assert "the agent is not registered or is switched off" in farewell(native)
            with pytest.raises(Exception) as refused:  # noqa: PT011  the transport's own, whatever it is called
                await call(client, "wait_for_review", statement_id=pending["statement_id"], wait_s=0)
            assert refused.value is not None
    review = stack.rest("GET", f"/api/v1/reviews/{pending['review']['id']}", user="reviewer").json()
    assert review["status"] == "withdrawn"
    # What waited ended with its request, which was withdrawn; what was open for itself says why.
    assert until(lambda: closing_reasons(stack, agent)) == {
        "postgres": "the agent is not registered or is switched off"
    }
