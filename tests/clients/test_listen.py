"""LISTEN consumers: heard as directly on an open connection; woken without words, or refused, where PHI may be near."""

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
        heard = next(listener.notifies(timeout=20, stop_after=1))
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

    assert await asyncio.wait_for(heard, 20) == "number 8"
    await connection.close()


def test_listening_is_refused_plainly_where_payloads_could_carry_phi(stack: Stack, agent_dsn: str) -> None:
    with (
        psycopg.connect(agent_dsn, autocommit=True) as listener,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="notifications carry what their senders put"),
    ):
        listener.execute("LISTEN orders")
