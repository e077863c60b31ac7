"""What is read of a statement is about the schema in force when the reading is done."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest
import pytest_asyncio

from analysis.statement import Analysis, Statement
from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.context import SessionContext
from gateway.upstreams.postgres_analyst import RETRIES, PostgresAnalyst
from gateway.upstreams.postgres_side import PostgresSide
from gateway.upstreams.postgres_witness import Question

Change = Callable[[], None]


@pytest.fixture
def table(postgres_dsn: str) -> Iterator[str]:
    name = f"moving_{uuid.uuid4().hex[:8]}"
    _run(
        postgres_dsn, f"CREATE TABLE {name} (id int); INSERT INTO {name} SELECT generate_series(1, 500); ANALYZE {name}"
    )
    yield name
    _run(postgres_dsn, f"DROP TABLE {name}")


@pytest_asyncio.fixture
async def analyst(postgres_dsn: str) -> AsyncIterator[PostgresAnalyst]:
    async def dsn_for(_: ConnectionSpec) -> str:
        return postgres_dsn

    made = PostgresAnalyst(dsn_for)
    yield made
    await made.close()


def _run(dsn: str, statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements.encode())


async def read_while(
    monkeypatch: pytest.MonkeyPatch, analyst: PostgresAnalyst, text: str, *, planned: Change, times: int
) -> Analysis:
    """What is found of `text` where `planned` changes the schema behind each of the first `times` estimates."""
    plan, left = PostgresSide.plan, times

    async def plan_and_change(side: PostgresSide, question: Question) -> object:
        nonlocal left
        found = await plan(side, question)
        if left:
            left -= 1
            planned()
            await side.check(time.monotonic())
        return found

    monkeypatch.setattr(PostgresSide, "plan", plan_and_change)
    context = SessionContext(Principal("a", "i", groups=frozenset()), ConnectionSpec("clinic", "postgres"), "postgres")
    return await analyst.analyse(context, Statement(text))


async def test_statement_whose_schema_moves_is_read_again(
    monkeypatch: pytest.MonkeyPatch, postgres_dsn: str, analyst: PostgresAnalyst, table: str
) -> None:
    """Somebody's new table elsewhere is no reason to refuse a statement; a new column of its own table is in it."""
    grown = f"ALTER TABLE {table} ADD COLUMN word text"

    found = await read_while(
        monkeypatch, analyst, f"SELECT * FROM {table}", planned=lambda: _run(postgres_dsn, grown), times=1
    )

    assert (found.complete, found.problems) == (True, ())
    assert [output.name for output in found.outputs or ()] == ["id", "word"]
    assert found.facts.estimated_rows == 500


async def test_schema_that_never_rests_leaves_nothing_to_rely_on(
    monkeypatch: pytest.MonkeyPatch, postgres_dsn: str, analyst: PostgresAnalyst, table: str
) -> None:
    def grow() -> None:
        _run(postgres_dsn, f"ALTER TABLE {table} ADD COLUMN c{uuid.uuid4().hex[:8]} int")

    found = await read_while(monkeypatch, analyst, f"SELECT * FROM {table}", planned=grow, times=RETRIES)

    assert (found.complete, found.problems) == (False, ("the schema changes too quickly",))
