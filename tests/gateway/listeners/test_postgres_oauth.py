"""OAUTHBEARER by hand, message by message: libpq's own module for it is not in the wheels."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest

from gateway.protocols.postgres import oauth
from gateway.protocols.postgres.frames import ProtocolViolation, frame
from gateway.protocols.postgres.startup import encode_startup
from tests.gateway.listeners.harness import TOKEN, Gateway
from tests.gateway.listeners.raw import RawClient, errors, query, rows

SASL, CONTINUE, OK = 10, 11, 0
WANTS_BEARER = {"user": "demo-agent", "database": "people", "options": "-c hoopweb.auth=oauthbearer"}


def response(authorization: str, *, mechanism: str = "OAUTHBEARER", header: str = "n,,") -> bytes:
    data = f"{header}\x01auth={authorization}\x01\x01".encode()
    return frame(b"p", mechanism.encode() + b"\0" + struct.pack("!i", len(data)) + data)


async def begun(gateway: Gateway) -> RawClient:
    raw = RawClient(*await asyncio.open_connection("127.0.0.1", gateway.listener.port))
    raw.writer.write(encode_startup(WANTS_BEARER))
    assert await raw.receive() == ("R", struct.pack("!i", SASL) + b"OAUTHBEARER\0\0")
    return raw


async def test_token_shown_by_sasl_opens_a_session(gateway: Gateway) -> None:
    raw = await begun(gateway)
    raw.writer.write(response(f"Bearer {TOKEN}"))
    welcome = await raw.until_ready()

    assert welcome[0] == ("R", struct.pack("!i", OK))
    assert rows(await raw.ask(query("select 7"))) == [[b"7"]]
    raw.close()


async def test_client_without_a_token_is_told_where_they_come_from(gateway: Gateway) -> None:
    gateway.listener._oauth_discovery = "https://issuer.example/.well-known/openid-configuration"
    raw = await begun(gateway)
    raw.writer.write(response(""))
    kind, body = await raw.receive()
    told = json.loads(body[4:])
    raw.writer.write(frame(b"p", b"\x01"))
    ending = await raw.receive()
    raw.close()

    assert (kind, body[:4]) == ("R", struct.pack("!i", CONTINUE))
    assert told["openid-configuration"] == "https://issuer.example/.well-known/openid-configuration"
    assert errors([ending])[0]["C"] == "28000"


async def test_wrong_token_fails_in_both_words_and_is_recorded(gateway: Gateway) -> None:
    raw = await begun(gateway)
    raw.writer.write(response("Bearer not-the-token"))
    _, challenge = await raw.receive()
    raw.writer.write(frame(b"p", b"\x01"))
    ending = await raw.receive()
    raw.close()

    assert json.loads(challenge[4:])["status"] == "invalid_token"
    assert errors([ending])[0]["C"] == "28P01"
    assert "not-the-token" not in str(ending)
    assert gateway.record.of("authentication.failed")


@pytest.mark.parametrize(
    "message",
    [
        response(f"Bearer {TOKEN}", mechanism="SCRAM-SHA-256"),
        response(f"Bearer {TOKEN}", header="p=tls-server-end-point,,"),
        response(f"Basic {TOKEN}"),
        response(f"Bearer {TOKEN}\x01auth=Bearer other"),
        response("Bearer a b"),
        frame(b"p", b"OAUTHBEARER\0" + struct.pack("!i", 99) + b"n,,\x01auth=\x01\x01"),
        frame(b"p", b"OAUTHBEARER\0" + struct.pack("!i", -1)),
        frame(b"p", TOKEN.encode() + b"\0"),
        query("select 1"),
    ],
)
async def test_exchange_that_breaks_a_rule_ends(gateway: Gateway, message: bytes) -> None:
    raw = await begun(gateway)
    raw.writer.write(message)
    ending = await raw.receive()
    raw.close()

    assert errors([ending])[0]["C"] == "08P01"
    assert not gateway.record.of("session.opened")


async def test_other_kinds_of_authentication_are_refused(gateway: Gateway) -> None:
    raw = RawClient(*await asyncio.open_connection("127.0.0.1", gateway.listener.port))
    raw.writer.write(encode_startup({**WANTS_BEARER, "options": "-c hoopweb.auth=trust"}))

    assert errors([await raw.receive()])[0]["C"] == "42501"
    raw.close()


def test_token_is_read_wherever_rfc_7628_lets_it_stand() -> None:
    data = b"y,a=user@example.com,\x01host=server\x01port=5432\x01auth=bearer abc.def==\x01\x01"

    assert oauth.initial_response(b"OAUTHBEARER\0" + struct.pack("!i", len(data)) + data) == "abc.def=="
    with pytest.raises(ProtocolViolation):
        oauth.initial_response(b"OAUTHBEARER\0" + struct.pack("!i", len(data) - 1) + data[:-1])
