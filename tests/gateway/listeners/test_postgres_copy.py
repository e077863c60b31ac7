"""COPY in every format, masked; each leak is first shown on a direct connection."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from gateway.protocols.postgres.frames import frame
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, errors, execute, kinds, parse, query, rows
from tests.gateway.listeners.test_postgres_ordinary import psql

FORMATS = ["", "with (format csv)", "with (format binary)"]


@pytest.mark.parametrize("options", FORMATS)
async def test_copy_out_is_masked(gateway: Gateway, options: str) -> None:
    statement = f"copy (select id, ssn, born from people order by id) to stdout {options}"

    with psycopg.connect(direct_dsn()) as direct, direct.cursor().copy(statement) as copy:
        assert b"078-05" in b"".join(copy)
    async with (
        await psycopg.AsyncConnection.connect(gateway.dsn()) as connection,
        connection.cursor().copy(statement) as masked,
    ):
        data = b"".join([bytes(block) async for block in masked])

    assert data
    assert b"078-05" not in data
    await asyncio.sleep(0.05)
    completed = next(e for e in gateway.record.of("statement.completed") if e.body["kind"] == "COPY")
    assert completed.body["rows"] == 1000
    assert [m["count"] for m in completed.body["masked"]] == [1000, 1000]


async def test_binary_copy_stays_readable(gateway: Gateway) -> None:
    statement = "copy (select id, ssn, born from people order by id) to stdout with (format binary)"
    async with (
        await psycopg.AsyncConnection.connect(gateway.dsn()) as connection,
        connection.cursor().copy(statement) as copy,
    ):
        copy.set_types(["int4", "text", "date"])
        rows = [row async for row in copy.rows()]

    assert len(rows) == 1000
    assert rows[0][0] == 1
    assert rows[0][2].isoformat() == "1950-01-01"


async def test_copy_in_works_in_both_protocols(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))

    raw.writer.write(query("copy people (id, name) from stdin"))
    opened = await raw.until("G")
    simple = await raw.ask(frame(b"d", b"5001\tfive\n"), frame(b"c"))
    # libpq pipelines a Sync behind Execute, which the server ignores during the copy.
    raw.writer.write(parse("copy people (id, name) from stdin") + bind() + execute() + SYNC)
    await raw.until("G")
    extended = await raw.ask(frame(b"d", b"5002\tsix\n"), frame(b"c"), SYNC)
    count = await raw.ask(query("select count(*) from people where id > 5000"))
    raw.close()

    assert kinds(opened) == "G"
    assert kinds(simple) == kinds(extended) == "CZ"
    assert rows(count) == [[b"2"]]


async def test_failed_copy_in_is_answered_at_once_and_the_session_goes_on(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("copy people (id, name) from stdin"))
    await raw.until("G")
    failed = await raw.ask(frame(b"d", b"not-a-number\tx\n"))
    after = await raw.ask(frame(b"d", b"7\tx\n"), frame(b"c"), query("select 1"))
    raw.writer.write(query("copy people (id, name) from stdin"))
    await raw.until("G")
    given_up = await raw.ask(frame(b"f", b"no more\0"))
    raw.close()

    assert kinds(failed) == kinds(given_up) == "EZ"
    assert errors(failed)[0]["C"] == "22P02"
    assert "not-a-number" not in str(errors(failed))
    assert rows(after) == [[b"1"]]


async def test_psql_copy_both_ways(gateway: Gateway) -> None:
    script = "\\copy (select id, ssn from people where id < 3) to stdout\n\\copy people (id) from stdin\n\\.\n"
    code, out = await psql(gateway, script)

    assert code == 0, out
    assert "078-05" not in out


@pytest.mark.parametrize("guess", ["078-05-0007", "1950-03-14"])
async def test_a_word_for_null_that_may_be_a_masked_value_is_refused(gateway: Gateway, guess: str) -> None:
    """Text format writes such a value as it writes NULL, so that its row would stand out among the masked ones."""
    statement = f"copy (select id, ssn, born from people where id = 7) to stdout with (null '{guess}')"

    with psycopg.connect(direct_dsn()) as direct, direct.cursor().copy(statement) as copy:
        assert guess.encode() in b"".join(copy)
    raw = await RawClient.connect(gateway)
    simple = await raw.ask(query(statement))
    extended = await raw.ask(parse(statement) + bind() + execute() + SYNC)
    after = await raw.ask(query("select 1"))
    raw.close()

    assert kinds(simple)[-2:] == kinds(extended)[-2:] == "EZ"
    assert errors(simple)[0]["C"] == errors(extended)[0]["C"] == "42501"
    assert guess not in str(simple + extended).replace(statement, "")
    assert rows(after) == [[b"1"]]


@pytest.mark.parametrize(
    "options", ["null '\\NULL'", "null '078-05-0007', format csv", "null '078-05-0007', format text"]
)
async def test_a_word_for_null_that_compares_with_nothing_is_taken(gateway: Gateway, options: str) -> None:
    """No value is written as a stray backslash is; CSV quotes values; the last one copies no masked column."""
    columns = "id, name" if options.endswith("text") else "id, ssn"
    statement = f"copy (select {columns} from people where id = 7) to stdout with ({options})"
    async with (
        await psycopg.AsyncConnection.connect(gateway.dsn(), autocommit=True) as connection,
        connection.cursor().copy(statement) as copy,
    ):
        data = b"".join([bytes(block) async for block in copy])

    assert data.strip() in {b"7\t[REDACTED]", b"7,[REDACTED]", b"7\tname 7"}
