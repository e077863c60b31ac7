"""Ordinary clients doing ordinary work through the gateway."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import psycopg

from tests.gateway.listeners.harness import HOST, TOKEN, Gateway


async def test_psycopg_reads_masked_rows(gateway: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(gateway.dsn()) as connection:
        cursor = await connection.execute("select id, ssn, born from people where id < 3 order by id")
        rows = await cursor.fetchall()

    assert [row[0] for row in rows] == [1, 2]
    assert all("078-05" not in row[1] for row in rows)
    assert [row[2].isoformat() for row in rows] == ["1950-01-01", "1950-01-01"]


async def test_psycopg_binary_results_are_masked_and_valid(gateway: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(gateway.dsn()) as connection:
        cursor = connection.cursor(binary=True)
        await cursor.execute("select id, born, ssn from people where id = %s", (7,))
        row = await cursor.fetchone()

    assert row is not None
    assert row[0] == 7
    assert row[1].isoformat() == "1950-01-01"
    assert "078-05" not in row[2]


async def test_asyncpg_prepared_statement_is_masked_every_time_and_recorded_with_its_values(gateway: Gateway) -> None:
    connection = await asyncpg.connect(
        host=HOST, port=gateway.listener.port, user="demo-agent", password=TOKEN, database="people"
    )
    statement = await connection.prepare("select id, ssn from people where id = $1")

    rows = [await statement.fetchrow(number) for number in (1, 2, 3)]
    await connection.close()

    assert [row["id"] for row in rows] == [1, 2, 3]
    assert all("078-05" not in row["ssn"] for row in rows)
    sealed = [e.sensitive for e in gateway.record.of("statement.authorised") if "people" in str(e.sensitive)]
    assert [s["parameters"] for s in sealed] == [["00000001"], ["00000002"], ["00000003"]]


async def test_psql_runs_a_script(gateway: Gateway) -> None:
    script = "select 1 as one; begin; select ssn from people limit 1; commit; \\echo done"
    code, out = await psql(gateway, script)

    assert code == 0
    assert "done" in out
    assert "078-05" not in out


async def test_transactions_roll_back_as_one_query(gateway: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(gateway.dsn(), autocommit=True) as connection:
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            await connection.execute("update people set name = 'changed' where id = 1; select 1/0")
        cursor = await connection.execute("select name from people where id = 1")
        row = await cursor.fetchone()

    assert row == ("name 1",)


async def test_session_and_statements_are_recorded(gateway: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(gateway.dsn()) as connection:
        await connection.execute("select ssn from people where id = 1")
    await asyncio.sleep(0.1)

    kinds = [entry.kind for entry in gateway.record.entries]
    assert kinds[0] == "session.opened"
    assert kinds[-1] == "session.closed"
    completed = [e for e in gateway.record.of("statement.completed") if e.body["masked"]]
    assert completed[0].body["rows"] == 1
    assert completed[0].body["masked"][0]["count"] == 1
    recording = gateway.sink.by_statement[completed[0].statement_id]
    assert completed[0].body["recording"]
    assert b"078-05" not in recording.data


async def psql(gateway: Gateway, script: str, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "psql", "-X", "-v", "ON_ERROR_STOP=1", *arguments, gateway.dsn(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate(script.encode())
    return process.returncode or 0, out.decode()
