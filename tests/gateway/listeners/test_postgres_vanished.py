"""Peers that vanish without an end or a reset: the session ends, its locks are given back, and the record says so."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator

import psycopg
import pytest

from gateway.listeners import postgres, postgres_client
from gateway.listeners.postgres_session import ClientSession
from gateway.upstreams import postgres as upstream
from gateway.upstreams import vanished
from tests.gateway.listeners.harness import HOST, PORT, Gateway, direct_dsn
from tests.gateway.listeners.raw import RawClient, errors, query
from tests.gateway.listeners.ways import Way, vanish, way_to

LOCKED = "select count(*) from pg_locks where relation = 'people'::regclass and mode = 'RowExclusiveLock'"
LOCK = "update people set name = name where id = 3"
# A million rows are more than all buffers on the way.
LONG = "select repeat('x', 1000) from generate_series(1, 1000000)"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes become a second or two. What is tested is that they end, not when."""
    monkeypatch.setattr(vanished, "KEEPALIVE_IDLE_S", 1)
    monkeypatch.setattr(vanished, "KEEPALIVE_INTERVAL_S", 1)
    monkeypatch.setattr(vanished, "KEEPALIVE_PROBES", 2)
    monkeypatch.setattr(vanished, "VANISHED_AFTER_S", 1)
    monkeypatch.setattr(postgres, "LOOK_EVERY_S", 0.2)


@pytest.fixture
async def distant() -> AsyncIterator[tuple[Gateway, Way]]:
    """A gateway whose database is at the end of a way that can be cut."""
    async with way_to(HOST, PORT) as way:
        gateway = await Gateway(upstream_port=way.port).start()
        yield gateway, way
        await gateway.stop()


async def happens(condition: object) -> None:
    """Wait until it is so; what never happens ends with the test's own time."""
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


def locks() -> int:
    with psycopg.connect(direct_dsn()) as direct:
        row = direct.execute(LOCKED).fetchone()
    assert row is not None
    return int(row[0])


def only_session(gateway: Gateway) -> ClientSession:
    (session,) = gateway.listener._keys.values()
    return session


def closed(gateway: Gateway) -> list[object]:
    return [entry.body["reason"] for entry in gateway.record.of("session.closed")]


def ends(gateway: Gateway) -> list[object]:
    return [entry.body["status"] for entry in gateway.record.of("statement.completed")]


def silent_ms(session: ClientSession) -> int:
    """For how long the client's system has acknowledged nothing, by Linux' struct tcp_info."""
    info = session.client._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[56:60], sys.byteorder)


async def test_client_that_vanished_in_a_transaction_gives_its_locks_back(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    await raw.ask(query(LOCK))
    assert locks() == 1

    vanish(raw.writer.get_extra_info("socket"))
    await happens(lambda: closed(gateway))

    assert closed(gateway) == ["client"]
    await happens(lambda: locks() == 0)
    raw.close()


async def test_client_that_vanished_amid_a_result_gives_its_locks_back(gateway: Gateway) -> None:
    """What waits to be acknowledged keeps the system's keepalive from being sent."""
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    await raw.ask(query(LOCK))
    raw.writer.write(query(LONG))
    await raw.receive()
    vanish(raw.writer.get_extra_info("socket"))

    await happens(lambda: closed(gateway))

    assert ends(gateway)[-1] == "cancelled"
    await happens(lambda: locks() == 0)
    raw.close()


async def test_client_that_vanished_while_its_statement_is_held_withdraws_it(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("update people set held = 'x' where id = 3"))
    await raw.until("N")

    vanish(raw.writer.get_extra_info("socket"))
    await happens(lambda: closed(gateway))

    assert gateway.reviewers.withdrawn == 1
    assert gateway.record.of("statement.authorised") == []
    raw.close()


async def test_client_that_vanished_amid_copy_in_leaves_nothing_copied(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("copy people (id, name) from stdin"))
    await raw.until("G")
    raw.writer.write(b"d" + (4 + 12).to_bytes(4, "big") + b"9001\tnobody\n")
    await raw.writer.drain()

    vanish(raw.writer.get_extra_info("socket"))
    await happens(lambda: closed(gateway))

    await happens(lambda: ends(gateway))
    assert ends(gateway) == ["cancelled"]
    with psycopg.connect(direct_dsn()) as direct:
        assert direct.execute("select count(*) from people where id = 9001").fetchone() == (0,)
    raw.close()


async def test_client_that_does_not_read_is_there(gateway: Gateway) -> None:
    """The control: a pager over a long result acknowledges and takes nothing, and is waited for."""
    raw = await RawClient.connect(gateway)
    raw.writer.write(query(LONG))
    await raw.receive()
    session = only_session(gateway)
    await happens(lambda: silent_ms(session) > 1000 * vanished.VANISHED_AFTER_S)

    assert not vanished.has_vanished(session.client._socket)
    assert closed(gateway) == []
    raw.close()


async def test_database_that_vanished_amid_a_statement_is_told_to_the_client(distant: tuple[Gateway, Way]) -> None:
    gateway, way = distant
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("select pg_sleep(600)"))
    await happens(lambda: only_session(gateway).relay.running is not None)

    way.cut()
    heard = await asyncio.wait_for(raw.until("E"), 60)

    assert errors(heard)[0]["C"] == "08006"
    assert ends(gateway) == ["failed"]
    await happens(lambda: closed(gateway) == ["upstream-lost"])
    raw.close()


async def test_database_that_vanished_at_rest_is_noticed(distant: tuple[Gateway, Way]) -> None:
    gateway, way = distant
    raw = await RawClient.connect(gateway)
    await raw.ask(query("select 1"))

    way.cut()
    heard = await asyncio.wait_for(raw.until("E"), 60)

    assert errors(heard)[0]["C"] == "08006"
    await happens(lambda: closed(gateway) == ["upstream-lost"])
    raw.close()


async def test_database_that_vanished_before_it_had_the_statement_is_noticed(distant: tuple[Gateway, Way]) -> None:
    """The statement itself is never acknowledged, so that no keepalive is sent."""
    gateway, way = distant
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))

    way.cut()
    raw.writer.write(query("select 1"))
    heard = await asyncio.wait_for(raw.until("E"), 60)

    assert errors(heard)[0]["C"] == "08006"
    assert ends(gateway)[-1] == "failed"
    raw.close()


async def test_client_that_takes_nothing_is_given_up_when_its_session_is_over(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_client, "SHUTDOWN_TIMEOUT_S", 0.2)
    raw = await RawClient.connect(gateway)
    raw.writer.transport.pause_reading()
    raw.writer.write(query(LONG))
    connection = only_session(gateway).client
    await happens(lambda: connection._transport.get_write_buffer_size() > 0)

    await only_session(gateway).kill("killed")
    await happens(lambda: connection.closed)

    assert closed(gateway) == ["killed"]
    raw.close()


async def test_database_that_takes_nothing_is_given_up_when_its_session_is_over(
    distant: tuple[Gateway, Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "SHUTDOWN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(upstream, "CANCEL_TIMEOUT_S", 0.2)
    gateway, way = distant
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("copy people (id, name) from stdin"))
    await raw.until("G")
    session = only_session(gateway)
    connection = session.upstream
    way.stall()
    portion = b"d" + (4 + 65_000).to_bytes(4, "big") + b"x" * 65_000
    stuck = 0
    while stuck < 20:  # the systems' buffers grow for a while
        if session.can_send:
            raw.writer.write(portion)
        stuck = 0 if session.can_send else stuck + 1
        await asyncio.sleep(0.02)

    raw.writer.transport.abort()
    await happens(lambda: closed(gateway))
    await happens(lambda: connection.closed)

    assert ends(gateway) == ["cancelled"]
