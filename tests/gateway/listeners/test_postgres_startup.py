"""The handshake: encryption requests, settings, tokens, stalled clients, a lost upstream."""

from __future__ import annotations

import asyncio
import ssl
import struct
import time

import psycopg
import pytest
import trustme

from gateway.listeners.postgres import Limits
from gateway.listeners.postgres_timers import SessionLimits
from gateway.protocols.postgres.startup import encode_ssl_request, encode_startup
from tests.gateway.listeners.harness import HOST, Gateway, direct_dsn
from tests.gateway.listeners.raw import RawClient, errors, query
from tests.gateway.listeners.test_postgres_holding import wait_for


async def refusal(gateway: Gateway, **settings: str) -> dict[str, str]:
    raw = RawClient(*await asyncio.open_connection(HOST, gateway.listener.port))
    raw.writer.write(encode_startup({"user": "demo-agent", "database": "people", **settings}))
    got = await raw.until("E", "R")
    raw.close()
    return errors(got)[0] if errors(got) else {}


async def test_wrong_token_is_refused_and_recorded(gateway: Gateway) -> None:
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        await psycopg.AsyncConnection.connect(gateway.dsn(password="wrong"))

    failure = gateway.record.of("authentication.failed")[0]
    assert failure.body["claimed_subject"] == "demo-agent"
    assert failure.body["reason"] == "unknown token"
    assert "wrong" not in str(failure)


async def test_unknown_connection_and_forbidden_one_sound_alike(gateway: Gateway) -> None:
    with pytest.raises(psycopg.OperationalError, match="no access rule lets you use"):
        await psycopg.AsyncConnection.connect(gateway.dsn(dbname="elsewhere"))


@pytest.mark.parametrize(
    "settings",
    [
        {"search_path": "pg_temp"},
        {"role": "postgres"},
        {"replication": "database"},
        {"options": "-c search_path=x"},
        {"options": "--session_preload_libraries=x"},
        {"options": "-d 5"},
        {"row_security": "off"},
    ],
)
async def test_settings_that_change_meaning_are_refused(gateway: Gateway, settings: dict[str, str]) -> None:
    assert (await refusal(gateway, **settings)).get("V") == "FATAL"


async def test_harmless_settings_reach_the_server(gateway: Gateway) -> None:
    dsn = gateway.dsn(options="-c statement_timeout=12345 -cDateStyle=German", application_name="tests")
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute("select current_setting('statement_timeout')")
        assert await cursor.fetchone() == ("12345ms",)
        assert connection.info.parameter_status("client_encoding") == "UTF8"


async def test_tls_is_offered_and_required_when_plaintext_is_not_allowed() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    gateway = Gateway()
    running = await gateway.start()
    running.listener._ssl_context = context
    running.listener._allow_plaintext_loopback = False
    try:
        async with await psycopg.AsyncConnection.connect(running.dsn(sslmode="require")) as connection:
            assert connection.info.status.name == "OK"
        with pytest.raises(psycopg.OperationalError, match="TLS only"):
            await psycopg.AsyncConnection.connect(running.dsn(sslmode="disable"))
    finally:
        await running.stop()
    assert running.record.of("session.opened")[0].body["client_tls"].startswith("TLSv1.")


async def test_plaintext_behind_an_ssl_request_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    running = await Gateway().start()
    running.listener._ssl_context = context
    reader, writer = await asyncio.open_connection(HOST, running.listener.port)
    writer.write(encode_ssl_request() + encode_startup({"user": "a", "database": "people"}))
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await running.stop()

    assert answer[:1] == b"E"


@pytest.mark.parametrize(
    "packet", [b"\xff\xff\xff\xff", struct.pack("!II", 7, 0), b"\x00\x00\x00\x00", b"\x16\x03\x01"]
)
async def test_absurd_packets_end_the_connection(gateway: Gateway, packet: bytes) -> None:
    reader, writer = await asyncio.open_connection(HOST, gateway.listener.port)
    writer.write(packet + b"\0" * 8)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()

    assert answer[:1] in {b"E", b""}


async def test_stalled_handshakes_do_not_keep_a_new_client_out() -> None:
    running = await Gateway(limits=Limits(max_handshakes=50)).start()
    stalled = [await asyncio.open_connection(HOST, running.listener.port) for _ in range(200)]
    started = time.monotonic()
    async with await psycopg.AsyncConnection.connect(running.dsn()) as connection:
        await connection.execute("select 1")
    took_s = time.monotonic() - started
    for _, writer in stalled:
        writer.close()
    await running.stop()

    assert took_s < 5


async def test_lost_upstream_ends_the_session_with_a_clear_error(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("select pg_sleep(30), 'lose me'"))
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        ended: list[object] = []
        async with asyncio.timeout(60):
            while not ended:
                ended = direct.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where query like '%lose me%' "
                    "and state = 'active' and pid <> pg_backend_pid()"
                ).fetchall()
                await asyncio.sleep(0.05)
    got = await raw.until("E")
    raw.close()

    assert errors(got)[0]["V"] == "FATAL"
    await wait_for(lambda: bool(gateway.record.of("session.closed")))
    assert gateway.record.of("statement.completed")[0].body["status"] == "failed"


async def test_idle_session_is_logged_off() -> None:
    running = await Gateway(limits=Limits(session=SessionLimits(idle_timeout_s=0.3))).start()
    raw = await RawClient.connect(running)
    got = await raw.until("E")
    raw.close()
    await wait_for(lambda: bool(running.record.of("session.closed")))
    await running.stop()

    assert errors(got)[0]["C"] == "57P05"
    assert running.record.of("session.closed")[0].body["reason"] == "idle"
