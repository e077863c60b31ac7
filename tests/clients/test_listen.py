"""LISTEN consumers: heard as directly on an open connection; where PHI may be near, by a right and as rules say."""

from __future__ import annotations

import asyncio

import asyncpg
import psycopg
import pytest

from tests.clients.scratch import Ways
from tests.stack import Stack


def test_psycopg_hears_notifications_while_it_waits(scratch: Ways) -> None:
    with psycopg.connect(scratch.through, autocommit=True) as listener:
        listener.execute("LISTEN orders")
        with psycopg.connect(scratch.direct, autocommit=True) as sender:
            sender.execute("SELECT pg_notify('orders', %s)", ["number 7"])
        heard = next(listener.notifies(timeout=60, stop_after=1))
        listener.execute("UNLISTEN *")

    assert (heard.channel, heard.payload) == ("orders", "number 7")


async def test_asyncpg_listener_is_called(scratch: Ways) -> None:
    words = scratch.words("through")
    connection = await asyncpg.connect(
        host=words["host"],
        port=int(words["port"]),
        user=words["user"],
        password=words["password"],
        database=words["dbname"],
        ssl=False if words["sslmode"] == "disable" else "prefer",
    )
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await connection.add_listener("orders", lambda *told: heard.set_result(str(told[3])))
    await connection.execute("NOTIFY orders, 'number 8'")

    assert await asyncio.wait_for(heard, 60) == "number 8"
    await connection.close()


def test_listening_is_refused_plainly_where_payloads_could_carry_phi(stack: Stack, agent_dsn: str) -> None:
    with (
        psycopg.connect(agent_dsn, autocommit=True) as listener,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="no access rule gives"),
    ):
        listener.execute("LISTEN orders")


_SAID = "order 9 for 536-71-9284"


def test_psycopg_hears_payloads_as_a_rule_shows_them(stack: Stack, heard_words: dict[str, str]) -> None:
    with (
        psycopg.connect(autocommit=True, **heard_words) as listener,
        psycopg.connect(stack.superuser_dsn("ledger"), autocommit=True) as sender,
    ):
        listener.execute("LISTEN orders")
        listener.execute('LISTEN "Invoices"')
        for channel in ("orders", "Invoices"):
            sender.execute("SELECT pg_notify(%s, %s)", [channel, _SAID])
        orders, invoices = listener.notifies(timeout=60, stop_after=2)
        listener.execute("UNLISTEN *")

    assert (orders.channel, invoices.channel, invoices.payload) == ("orders", "Invoices", "")
    assert orders.payload.startswith("order 9 for ")
    assert "536-71-9284" not in orders.payload


async def test_asyncpg_hears_payloads_as_a_rule_shows_them(stack: Stack, heard_words: dict[str, str]) -> None:
    connection = await asyncpg.connect(
        host=heard_words["host"],
        port=int(heard_words["port"]),
        user=heard_words["user"],
        password=heard_words["password"],
        database=heard_words["dbname"],
        ssl=False if heard_words["sslmode"] == "disable" else "prefer",
    )
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await connection.add_listener("orders", lambda *told: heard.set_result(str(told[3])))
    await connection.execute("NOTIFY orders, 'number 10'")

    assert await asyncio.wait_for(heard, 60) == "number 10"
    await connection.close()
