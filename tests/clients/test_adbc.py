"""ADBC (Arrow's own driver): reads every result as COPY in the binary format, and writes tables the same way."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi

from tests.clients.scratch import Ways
from tests.reviews import decide, pending_review
from tests.stack import Stack

_THINGS = pa.table(
    {
        "id": pa.array(range(2_000), pa.int32()),
        "label": [None if n % 7 == 0 else f"thing {n}" for n in range(2_000)],
        "made": [dt.date(2024, 1, 1) + dt.timedelta(days=n) for n in range(2_000)],
        "amount": [n / 4 for n in range(2_000)],
        "bytes": [bytes([n % 256, 0, 255]) for n in range(2_000)],
    }
)


def everything(dsn: str) -> list[object]:
    """What an application sees that writes a table, reads it back and looks at what there is."""
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("adbc_things", _THINGS, mode="replace")
        connection.commit()
        seen: list[object] = [connection.adbc_get_table_schema("adbc_things").to_string()]
        cursor.execute("SELECT *, now() - now() AS gap, ARRAY[id, 2] AS pair FROM adbc_things ORDER BY id")
        seen.append(cursor.fetch_arrow_table())
        cursor.execute("SELECT label FROM adbc_things WHERE id = $1 AND amount > $2", parameters=(8, 1.5))
        seen.append(cursor.fetchall())
        cursor.executemany("UPDATE adbc_things SET label = $1 WHERE id = $2", [("changed", 1), ("changed", 2)])
        with pytest.raises(dbapi.Error) as told:
            cursor.execute("SELECT nothing FROM adbc_things")
        seen.append(told.value.sqlstate)
        connection.rollback()
        cursor.execute("DROP TABLE adbc_things")
        connection.commit()
    return seen


def test_adbc_sees_what_it_sees_directly(scratch: Ways) -> None:
    direct, through = everything(scratch.direct), everything(scratch.through)

    assert isinstance(direct[1], pa.Table)
    assert direct[1].num_rows == 2_000
    assert through == direct


def test_adbc_read_waits_as_an_export_and_is_masked(stack: Stack, agent_dsn: str) -> None:
    query = "SELECT ssn, dob FROM patients WHERE id BETWEEN 4711 AND 4713"
    with stack.direct() as direct:
        stored = {value for row in direct.execute(query) for value in row}

    def read() -> pa.Table:
        with dbapi.connect(agent_dsn) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetch_arrow_table()

    with ThreadPoolExecutor(1) as aside:
        reading = aside.submit(read)
        decide(stack, pending_review(stack, "4711"), "approve")
        table = reading.result(60)

    shown = [value for column in table.to_pydict().values() for value in column]
    assert len(shown) == 6
    assert not stored & set(shown)
