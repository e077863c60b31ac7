from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import uvloop
from psycopg import AsyncConnection

from gateway.upstreams import postgres_flight
from gateway.upstreams.postgres_flight import (
    Command,
    Fixed,
    Preparation,
    Silent,
    fly,
    prepare_all,
    rolled_back,
    rows_of,
)
from tests.gateway.upstreams.dying import Dying, dying

_DOUBLE = Fixed("double", "SELECT $1::int * 2, NULL")


@pytest_asyncio.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[AsyncConnection[Any]]:
    made = await AsyncConnection.connect(postgres_dsn, autocommit=True)
    yield made
    await made.close()


async def test_answers_come_in_order(connection: AsyncConnection[Any]) -> None:
    await prepare_all(connection, [_DOUBLE])

    answers = await fly(connection, [_DOUBLE("2"), Command("SELECT 'ä' || $1", ("é",)), _DOUBLE("21")])

    assert [rows_of(answer) for answer in answers] == [[["4", None]], [["äé"]], [["42", None]]]


async def test_preparation_tells_the_types_of_parameters(connection: AsyncConnection[Any]) -> None:
    _, described = await fly(connection, [Preparation("SELECT $1 + 1::int8, $2::uuid")])

    assert [described.param_type(index) for index in range(described.nparams)] == [20, 2950]


async def test_nothing_runs_after_a_failure(connection: AsyncConnection[Any]) -> None:
    begun = (
        Command("CREATE TEMPORARY TABLE made ()"),
        Command("SELECT 1 / 0"),
        Command("CREATE TEMPORARY TABLE late ()"),
    )

    with pytest.raises(psycopg.errors.DivisionByZero) as raised:
        await fly(connection, [Command("BEGIN"), *begun])
    await rolled_back(connection)

    assert raised.value.diag.sqlstate == "22012"
    (answer,) = await fly(connection, [Command("SELECT count(*) FROM pg_class WHERE relname IN ('made', 'late')")])
    assert rows_of(answer) == [["0"]]


async def test_database_works_meanwhile(connection: AsyncConnection[Any], postgres_dsn: str) -> None:
    seen: list[bool] = []

    def meanwhile() -> None:
        """Nothing else runs in this process before it is seen elsewhere that the database is at it."""
        with psycopg.connect(postgres_dsn, autocommit=True) as other:
            for _ in range(3_000):
                if other.execute("SELECT count(*) FROM pg_locks WHERE objid = 7301 AND granted").fetchone() == (1,):
                    seen.append(True)
                    return
                time.sleep(0.01)

    (answer,) = await fly(connection, [Command("SELECT 1 FROM pg_advisory_lock(7301)")], meanwhile=meanwhile)

    assert seen == [True]
    assert rows_of(answer) == [["1"]]


async def test_more_than_a_socket_takes_at_once(connection: AsyncConnection[Any]) -> None:
    (answer,) = await fly(connection, [Command(f"SELECT length('{'x' * 6_000_000}')")])

    assert rows_of(answer) == [["6000000"]]


async def test_lost_connection_is_no_word_of_the_database(connection: AsyncConnection[Any]) -> None:
    """Whoever asked may ask again on another connection; an error with a state would be an answer."""
    with pytest.raises(psycopg.OperationalError) as raised:
        await fly(connection, [Command("SELECT pg_terminate_backend(pg_backend_pid())"), Command("SELECT 1")])

    assert raised.value.diag.sqlstate is None
    assert connection.closed


async def test_server_that_falls_silent_is_given_up(
    connection: AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_flight, "SILENCE_S", 0.5)

    with pytest.raises(Silent):
        await fly(connection, [Command("SELECT pg_sleep(30)")])


def test_server_that_dies_with_a_last_word_is_not_waited_for(postgres_dsn: str) -> None:
    """In the gateway's own loop, which looks at a socket that was reset once and never again."""

    async def asked_of_one_that_dies(way: Dying) -> str:
        connection = await AsyncConnection.connect(way.dsn, autocommit=True)
        way.die()
        try:
            await asyncio.wait_for(fly(connection, [Command("SELECT 1"), Command("SELECT 2")]), 20)
        except psycopg.OperationalError:
            return "lost"
        return "answered"

    with dying(postgres_dsn) as way:
        assert uvloop.run(asked_of_one_that_dies(way)) == "lost"
