"""A simple Query says complete once it is committed, as the server does; asked by Execute the server says it before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, errors, execute, parse, query

LATE = "insert into late values (1)"
LINGERS = "insert into lingers values (1)"


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """`late` is checked when it commits; `lingers` stays in its commit for a minute."""
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute("create table late (x int unique deferrable initially deferred)")
        direct.execute("insert into late values (1)")
        direct.execute("create table lingers (x int)")
        direct.execute(
            "create function linger() returns trigger language plpgsql as "
            "$$ begin perform pg_sleep(60); return null; end $$"
        )
        direct.execute(
            "create constraint trigger lingers after insert on lingers deferrable initially deferred "
            "for each row execute function linger()"
        )
        yield
        direct.execute("drop table late, lingers")
        direct.execute("drop function linger")


def kinds(got: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in got)


@pytest.mark.parametrize(
    ("text", "heard"), [(LATE, "EZ"), (f"select 1; {LATE}", "TDCEZ"), (f"{LATE}; select 1", "CTDEZ")]
)
async def test_what_fails_to_commit_was_not_complete(gateway: Gateway, text: str, heard: str) -> None:
    raw = await RawClient.connect(gateway)

    for _ in range(3):  # the first time, and as one that is known
        got = await raw.ask(query(text))

        assert (kinds(got), errors(got)[0]["C"]) == (heard, "23505")
        assert gateway.record.of("statement.completed")[-1].body["status"] == "failed"
    raw.close()


async def test_by_execute_it_was_as_the_server_says(gateway: Gateway) -> None:
    """The control: here the server itself says it before."""
    raw = await RawClient.connect(gateway)

    got = await raw.ask(parse(LATE), bind(), execute(), SYNC)
    raw.close()

    assert kinds(got) == "12CEZ"


async def test_server_that_goes_while_it_commits_has_acknowledged_nothing(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query(LINGERS))
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        committing = "select pid from pg_stat_activity where query = %s and wait_event = 'PgSleep'"
        while (row := direct.execute(committing, [LINGERS]).fetchone()) is None:
            await asyncio.sleep(0.02)
        direct.execute("select pg_terminate_backend(%s)", [row[0]])

        heard = []
        try:
            while True:
                heard.append(await raw.receive())
        except asyncio.IncompleteReadError:
            raw.close()

        assert kinds(heard) == "E"
        assert direct.execute("select count(*) from lingers").fetchone() == (0,)
    assert gateway.record.of("statement.completed")[-1].body["status"] == "failed"
