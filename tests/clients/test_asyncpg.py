"""asyncpg: binary formats and prepared statements always, introspection of types, its own idea of COPY."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import asyncpg
import psycopg
import pytest

from tests.stack import Stack


async def dial(dsn: str) -> asyncpg.Connection:
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return await asyncpg.connect(
        host=parts["host"],
        port=int(str(parts["port"])),
        database=parts["dbname"],
        user=parts["user"],
        password=parts["password"],
        ssl=False if parts["sslmode"] == "disable" else "prefer",
    )


async def test_asyncpg_reads_types_as_they_are(ledger_dsn: str) -> None:
    connection = await dial(ledger_dsn)
    row = await connection.fetchrow("SELECT id, label, amount, booked, tags FROM entries WHERE id = $1", 2)
    await connection.close()

    assert tuple(row) == (2, "entry 2", Decimal("3.00"), dt.date(2024, 1, 3), ["a", "b"])


async def test_asyncpg_masked_row_keeps_python_types(stack: Stack, agent_dsn: str) -> None:
    query = "SELECT ssn, dob, zip FROM patients WHERE id = 5"
    with stack.direct() as direct:
        stored = direct.execute(query).fetchone()
    connection = await dial(agent_dsn)
    row = await connection.fetchrow(query)
    await connection.close()

    assert stored is not None
    assert row["ssn"] != stored[0]
    assert row["dob"] == stored[1].replace(month=1, day=1)


async def test_asyncpg_prepared_statement_runs_again_and_again(ledger_dsn: str) -> None:
    connection = await dial(ledger_dsn)
    statement = await connection.prepare("SELECT label FROM entries WHERE id = $1")
    labels = [await statement.fetchval(n) for n in range(1, 50)]
    await connection.close()

    assert labels == [f"entry {n}" for n in range(1, 50)]


async def test_asyncpg_cursor_inside_a_transaction(ledger_dsn: str) -> None:
    connection = await dial(ledger_dsn)
    async with connection.transaction():
        ids = [
            row["id"]
            async for row in connection.cursor("SELECT id FROM entries WHERE id <= 120 ORDER BY id", prefetch=50)
        ]
    await connection.close()

    assert ids == list(range(1, 121))


async def test_asyncpg_transaction_rolls_back(ledger_dsn: str) -> None:
    connection = await dial(ledger_dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("UPDATE entries SET label = 'gone' WHERE id = 4")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.execute("SELECT 1 / 0")
    await transaction.rollback()
    label = await connection.fetchval("SELECT label FROM entries WHERE id = 4")
    await connection.close()

    assert label == "entry 4"


async def test_asyncpg_copies_records_in(ledger_dsn: str) -> None:
    connection = await dial(ledger_dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.copy_records_to_table(
        "entries", records=[(n, "record") for n in range(6000, 6050)], columns=["id", "label"]
    )
    count = await connection.fetchval("SELECT count(*) FROM entries WHERE id BETWEEN 6000 AND 6049")
    await transaction.rollback()
    await connection.close()

    assert count == 50


async def test_asyncpg_pool_serves_many_at_once(ledger_dsn: str) -> None:
    import asyncio

    parts = psycopg.conninfo.conninfo_to_dict(ledger_dsn)
    async with asyncpg.create_pool(
        host=parts["host"], port=int(str(parts["port"])), database=parts["dbname"], user=parts["user"],
        password=parts["password"], ssl=False, min_size=2, max_size=5,
    ) as pool:  # fmt: skip
        values = await asyncio.gather(*(pool.fetchval("SELECT $1::int + 1", n) for n in range(40)))

    assert values == list(range(1, 41))


async def test_asyncpg_batch_that_takes_too_long_is_cancelled_whole(ledger_dsn: str) -> None:
    """A pipeline without Flush: what the client cancels may not have left the gateway yet."""
    connection = await dial(ledger_dsn)
    with pytest.raises(TimeoutError):
        await connection.executemany(
            "INSERT INTO entries (id) SELECT $1::int FROM pg_sleep(0.1)", [(n,) for n in range(9000, 9100)], timeout=0.4
        )
    written = await connection.fetchval("SELECT count(*) FROM entries WHERE id >= 9000")
    await connection.close()

    assert written == 0


async def test_asyncpg_process_of_the_server_is_the_one_it_talks_to(ledger_dsn: str) -> None:
    connection = await dial(ledger_dsn)
    told = await connection.fetchval("SELECT pg_backend_pid()")
    known = connection.get_server_pid()
    await connection.close()

    assert known == told
