"""Temporary tables are worked with like any other, and show what was carried into them like its origin shows it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.gateway.listeners.harness import Gateway, direct_dsn

CLEAR = "078-05-0007"
MAKE = "create temp table loot as select id, ssn as a, upper(ssn) as b, name as c from people where id < 10"


async def connected(gateway: Gateway, **more: Any) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(gateway.dsn(), **{"autocommit": True, **more})


async def rows(connection: psycopg.AsyncConnection, text: str, *values: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(text.encode(), values or None)).fetchall()


async def test_control_the_tables_show_the_values_directly() -> None:
    async with await psycopg.AsyncConnection.connect(direct_dsn()) as direct:
        await direct.execute(MAKE)
        assert await rows(direct, "select a, b, c from loot where id = 7") == [(CLEAR, CLEAR, "name 7")]


@pytest.mark.parametrize(
    "steps",
    [
        [MAKE],
        ["select id, ssn as a, upper(ssn) as b, name as c into temp loot from people where id < 10"],
        [
            "create temp table loot (id int, a text, b text, c text)",
            "insert into loot select id, ssn, upper(ssn), name from people where id < 10",
        ],
        [
            "create temp table loot (id int, a text, b text, c text)",
            "insert into loot values (7, 'x', 'y', 'z')",
            "update loot set a = p.ssn, b = upper(p.ssn), c = p.name from people p where p.id = loot.id",
        ],
        [
            "create temp table loot (id int, a text, b text, c text)",
            "merge into loot using people p on p.id = loot.id when not matched then "
            "insert values (p.id, p.ssn, upper(p.ssn), p.name)",
        ],
        [MAKE.replace("loot", "first"), "create temp table loot as table first"],
        [
            "create temp table base as select id, ssn, name from people where id < 10",
            "create temp view loot as select id, ssn as a, upper(ssn) as b, name as c from base",
        ],
    ],
    ids=["ctas", "into", "insert-select", "update", "merge", "ctas-of-temp", "view-of-temp"],
)
@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.by_turns(2)
async def test_what_was_carried_shows_like_its_origin(
    reading_gateway: Gateway, steps: list[str], autocommit: bool
) -> None:
    async with await connected(reading_gateway, autocommit=autocommit) as connection:
        for step in steps:
            await connection.execute(step.encode())
        found = await rows(connection, "select a, b, c from loot where id = 7")
        copied = b""
        async with connection.cursor().copy("copy (select a, b from loot) to stdout") as copy:
            async for block in copy:
                copied += bytes(block)

        origin = await rows(connection, "select ssn, upper(ssn), name from people where id = 7")

    assert found == origin
    assert found[0][2] == "name 7"
    assert copied
    assert CLEAR.encode() not in copied
    assert reading_gateway.reviewers.opened == []


async def test_identity_keeps_the_rules_technique(reading_gateway: Gateway) -> None:
    async with await connected(reading_gateway) as connection:
        await connection.execute("create temp table loot as select born as d, born + 1 as e from people where id = 7")
        (kept, computed), *_ = await rows(connection, "select d, e from loot")
        origin = await rows(connection, "select born, born + 1 from people where id = 7")

    assert [(kept, computed)] == origin


async def test_a_shadowing_table_is_what_its_name_means(reading_gateway: Gateway) -> None:
    """Names are the session's: `people.name` now holds what was `ssn`."""
    async with await connected(reading_gateway) as connection:
        before = await rows(connection, "select name from people where id = 7")
        await connection.execute("create temp table people as select id, ssn as name from public.people")
        shadowed = await rows(connection, "select name from people where id = 7")
        await connection.execute("drop table people")
        after = await rows(connection, "select name from people where id = 7")

    assert (before, after) == ([("name 7",)], [("name 7",)])
    assert CLEAR not in str(shadowed)
    assert shadowed != before


async def test_undone_definitions_mean_nothing_afterwards(reading_gateway: Gateway) -> None:
    async with await connected(reading_gateway) as connection:
        await connection.execute("begin")
        await connection.execute("savepoint s")
        await connection.execute("create temp table people as select id, 'harmless'::text as ssn from public.people")
        harmless = await rows(connection, "select ssn from people where id = 7")
        await connection.execute("rollback to s")
        real = await rows(connection, "select ssn from people where id = 7")
        await connection.execute("rollback")

    assert harmless == [("harmless",)]
    assert CLEAR not in str(real)


async def test_a_name_made_anew_is_another_table(reading_gateway: Gateway) -> None:
    async with await connected(reading_gateway) as connection:
        await connection.execute("create temp table t as select ssn as x from people where id = 7")
        await connection.execute("drop table t")
        await connection.execute("create temp table t as select name as x from people where id = 7")
        named = await rows(connection, "select x from t")
        await connection.execute("insert into t select ssn from people where id = 7")
        both = await rows(connection, "select x from t")

    assert named == [("name 7",)]
    assert CLEAR not in str(both)


async def test_a_prepared_statement_shows_what_was_carried_in_later(reading_gateway: Gateway) -> None:
    async with await connected(reading_gateway) as connection:
        await connection.execute("create temp table t (id int, x text)")
        await connection.execute("insert into t values (1, 'plain')")
        for _ in range(3):
            cursor = await connection.execute("select x from t where id = %s", (1,), prepare=True)
            assert await cursor.fetchall() == [("plain",)]
        async with connection.pipeline():
            await connection.execute("insert into t select 2, ssn from people where id = 7")
            late = await connection.execute("select x from t where id = %s", (2,), prepare=True)
            at_once = await late.fetchall()
        after = await (await connection.execute("select x from t where id = %s", (2,), prepare=True)).fetchall()

    assert len(at_once) == 1
    assert CLEAR not in str(at_once)
    assert after == at_once


async def test_bulk_loading_and_ordinary_work_need_nobody(reading_gateway: Gateway) -> None:
    async with await connected(reading_gateway) as connection:
        await connection.execute("create temporary table ids (id int primary key, note text) on commit preserve rows")
        async with connection.cursor() as cursor:
            await cursor.executemany("insert into ids values (%s, %s)", [(n, f"n{n}") for n in range(1, 50)])
        async with connection.cursor().copy("copy ids (id, note) from stdin") as copy:
            await copy.write_row((70, "copied"))
        await connection.execute("create index on ids (note)")
        await connection.execute("analyze ids")
        await connection.execute("update ids set note = note || '!' where id = 7")
        await connection.execute("delete from ids where id > 60")
        found = await rows(connection, "select i.note, p.name from ids i join people p using (id) where p.id = %s", 7)
        await connection.execute("truncate ids")
        await connection.execute("drop table ids")

    assert found == [("n7!", "name 7")]
    assert reading_gateway.reviewers.opened == []


async def test_the_session_notices_nothing_of_being_asked(reading_gateway: Gateway) -> None:
    """Errors of the second reading are the client's own, once; its transaction and its notices are as they were."""
    notices: list[str] = []
    async with await connected(reading_gateway) as connection:
        connection.add_notice_handler(lambda diagnostic: notices.append(str(diagnostic.message_primary)))
        await connection.execute("begin")
        await connection.execute("create temp table t (x int)")
        await connection.execute("insert into t values (1)")
        before = await rows(connection, "select txid_current_if_assigned() is not null, count(*) from t")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            await connection.execute("select nope from t")
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.INERROR
        await connection.execute("rollback")
        long = "n" * 70
        await connection.execute("create temp table t (x int)")
        await connection.execute(f"select x as {long} from t".encode())

    assert before == [(True, 1)]
    assert len(notices) == 1  # that the name was cut, in whatever words


async def test_code_nobody_could_read_makes_the_tables_unreadable(reading_gateway: Gateway) -> None:
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute(
            "create or replace function carry() returns int language plpgsql as "
            "$$ begin insert into t select ssn from public.people where id = 7; return 1; end $$"
        )
    async with await connected(reading_gateway) as connection:
        await connection.execute("create temp table t (x text)")
        with pytest.raises(psycopg.Error):  # an incomplete analysis is never a plain allow
            await connection.execute("select carry()")
        with pytest.raises(psycopg.Error):
            await connection.execute("do $$ begin insert into t select ssn from public.people where id = 7; end $$")
        empty = await rows(connection, "select x from t")

    assert empty == []
