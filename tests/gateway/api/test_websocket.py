"""Statements and events over WebSocket, through the real ASGI application."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from audit.models import LogEntry
from gateway.api import consumers
from gateway.domain.tokens import issue_agent_token, issue_person_token
from hoopweb.asgi import application
from tests.gateway.api.conftest import Cast, DataPlane
from tests.gateway.api.websocket import WebSocketClient

pytestmark = pytest.mark.django_db(transaction=True)

FRAMES = [
    {"type": "accepted", "id": "st1", "session_id": "s1"},
    {"type": "columns", "columns": [{"name": "n"}]},
    {"type": "rows", "rows": [[1]]},
    {"type": "completed", "row_count": 1, "command_tag": "SELECT 1"},
]
ORIGIN = (b"origin", b"http://127.0.0.1:8000")


def socket(*headers: tuple[bytes, bytes], path: str = "/ws/v1/connections/clinic/") -> WebSocketClient:
    return WebSocketClient(application, path, [ORIGIN, *headers])


async def token_of(cast: Cast) -> str:
    return await sync_to_async(issue_agent_token)(cast.agent)


async def test_statement_by_bearer_header_streams_labelled_frames(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = FRAMES
    client = socket((b"authorization", f"Bearer {await token_of(cast)}".encode()))
    assert (await client.connect())[0]
    assert await client.receive() == {"type": "ready"}

    await client.send({"type": "statement", "id": 7, "statement": "select 1"})
    frames = [await client.receive() for _ in FRAMES]

    assert [frame["type"] for frame in frames] == ["accepted", "columns", "rows", "completed"]
    assert {frame["id"] for frame in frames} == {7}
    assert frames[0]["statement_id"] == "st1"
    _path, _headers, body = data_plane.requests[0]
    assert (body["connection"], body["protocol"], body["detach"]) == ("clinic", "websocket", False)
    await client.disconnect()


async def test_token_may_come_in_the_first_message(cast: Cast, data_plane: DataPlane) -> None:
    client = socket()
    await client.connect()

    await client.send({"type": "auth", "token": await token_of(cast)})

    assert await client.receive() == {"type": "ready"}
    await client.disconnect()


@pytest.mark.parametrize(
    "first", [{"type": "statement", "statement": "select 1"}, {"type": "auth", "token": "x"}, {"type": "auth"}, [], 1]
)
async def test_nothing_runs_before_a_token_is_accepted(cast: Cast, data_plane: DataPlane, first: Any) -> None:
    client = socket()
    await client.connect()

    await client.send(first)

    assert await client.closed_with() == 4401
    assert data_plane.requests == []


async def test_another_sites_page_cannot_connect(cast: Cast) -> None:
    client = WebSocketClient(application, "/ws/v1/connections/clinic/", [(b"origin", b"https://elsewhere.example")])

    assert (await client.connect())[0] is False


async def test_client_without_an_origin_is_no_browser_and_may_connect(cast: Cast) -> None:
    client = WebSocketClient(application, "/ws/v1/connections/clinic/", [])

    assert (await client.connect())[0] is True
    await client.disconnect()


async def test_refusal_of_the_data_plane_is_a_problem(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.status, data_plane.frames = 404, [{"code": "no-connection", "reason": "none for you"}]
    client = socket((b"authorization", f"Bearer {await token_of(cast)}".encode()))
    await client.connect()
    await client.receive()

    await client.send({"type": "statement", "id": "a", "statement": "select 1"})

    assert await client.receive() == {
        "type": "problem",
        "id": "a",
        "problem": {"code": "no-connection", "reason": "none for you"},
    }
    await client.disconnect()


@pytest.mark.parametrize(
    "asked",
    [
        {"statement": "select '536-71-9284\ud800'"},
        {"statement": "select $1", "parameters": ["536-71-9284\ud800"]},
        {"statement": "select $1", "parameters": [{"536-71-9284\ud800": 1}]},
        {"statement": "select $1", "parameters": ["536-71-9284", float("nan")]},
    ],
)
async def test_what_no_text_can_say_is_refused_and_written_nowhere(
    cast: Cast, data_plane: DataPlane, caplog: pytest.LogCaptureFixture, asked: dict[str, Any]
) -> None:
    """The encoder's error carries the whole statement, and asyncio logs what a task ended by."""
    client = socket((b"authorization", f"Bearer {await token_of(cast)}".encode()))
    await client.connect()
    await client.receive()

    await client.send({"id": 1, **asked})
    answered = await client.receive()
    await client.disconnect()
    gc.collect()

    assert (answered["type"], answered["id"], answered["problem"]["code"]) == ("problem", 1, "bad-request")
    assert data_plane.requests == []
    assert "536-71" not in caplog.text


@pytest.mark.parametrize(
    "frame",
    [
        {"bytes": b'{"statement": "select 1"}'},
        {"text": "[" * 100_000},
        {"text": '{"statement": "select 1", "parameters": ' + "[" * 100_000},
        {"text": '{"statement": "select 1", "parameters": [' + "9" * 5_000 + "]}"},
        {"text": ""},
    ],
    ids=["binary", "brackets", "nested-parameters", "digits", "empty"],
)
async def test_what_is_no_message_is_answered_and_the_socket_lives(
    cast: Cast, data_plane: DataPlane, frame: dict[str, Any]
) -> None:
    data_plane.frames = FRAMES
    client = socket((b"authorization", f"Bearer {await token_of(cast)}".encode()))
    await client.connect()
    await client.receive()

    await client.send_frame(frame)
    answered = await client.receive()
    await client.send({"statement": "select 1"})

    assert answered["problem"]["code"] == "bad-message"
    assert (await client.receive())["type"] == "accepted"
    await client.disconnect()


def cookie_of(user: User) -> tuple[bytes, bytes]:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return (b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())


async def test_another_sites_page_cannot_watch_events_with_a_cookie(cast: Cast) -> None:
    cookie = await sync_to_async(cookie_of)(cast.admin)
    page = (b"origin", b"https://elsewhere.example")

    assert (await WebSocketClient(application, "/ws/v1/events/", [page, cookie]).connect())[0] is False


@pytest.mark.parametrize(("who", "code"), [("admin", None), ("auditor", None), ("reviewer", 4403)])
async def test_events_are_for_administrators_and_auditors(cast: Cast, who: str, code: int | None) -> None:
    cookie = await sync_to_async(cookie_of)(getattr(cast, who))
    client = socket(cookie, path="/ws/v1/events/")

    connected, refused_with = await client.connect()

    assert (connected, None if connected else refused_with) == (code is None, code)
    if connected:
        event = {"kind": "session.opened", "session_id": "s1"}
        await get_channel_layer().group_send("events", {"type": "live.event", "event": event})
        assert await client.receive() == event
        await client.disconnect()


@pytest.mark.parametrize(("who", "code"), [("admin", None), ("auditor", None), ("reviewer", 4403), ("agent", 4403)])
async def test_events_come_by_a_token_to_the_same_people(cast: Cast, who: str, code: int | None) -> None:
    issue = issue_agent_token if who == "agent" else issue_person_token
    token = await sync_to_async(issue)(getattr(cast, who))
    client = socket((b"authorization", f"Bearer {token}".encode()), path="/ws/v1/events/")

    connected, refused_with = await client.connect()

    assert (connected, None if connected else refused_with) == (code is None, code)
    if connected:
        await get_channel_layer().group_send("events", {"type": "live.event", "event": {"kind": "session.opened"}})
        assert await client.receive() == {"kind": "session.opened"}
        await client.disconnect()


async def test_events_take_no_cookie_beside_a_token_that_fails(cast: Cast) -> None:
    cookie = await sync_to_async(cookie_of)(cast.admin)
    client = socket(cookie, (b"authorization", b"Bearer nothing"), path="/ws/v1/events/")

    assert await client.connect() == (False, 4401)
    assert await sync_to_async(LogEntry.objects.filter(kind="authentication.failed").count)() == 1


async def test_events_end_with_the_tokens_rights(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK_S", 0.05)
    token = await sync_to_async(issue_person_token)(cast.auditor)
    client = socket((b"authorization", f"Bearer {token}".encode()), path="/ws/v1/events/")
    assert (await client.connect())[0]

    await sync_to_async(cast.auditor.groups.clear)()

    assert await client.closed_with() == 4403


async def test_events_end_with_the_session_that_is_signed_out(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK_S", 0.05)
    cookie = await sync_to_async(cookie_of)(cast.auditor)
    client = socket(cookie, path="/ws/v1/events/")
    assert (await client.connect())[0]

    await sync_to_async(Session.objects.all().delete)()

    assert await client.closed_with() == 4403


async def test_events_are_not_for_the_anonymous(db: None) -> None:
    assert (await socket(path="/ws/v1/events/").connect()) == (False, 4401)
