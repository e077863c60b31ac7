"""How large a held statement will be: counts off the plan, with nothing run and nothing of its values in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from analysis.estimate import UNKNOWN, RowsExpected, may_be_sized, rows_expected
from analysis.statement import Operation, Statement
from gateway.session.context import SessionContext
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.analysis.conftest import Analyse

WARD = """
CREATE TABLE ward (id integer PRIMARY KEY, ssn text, state text, visits integer);
INSERT INTO ward SELECT i, 'x' || i, 's' || i % 40, i % 100 FROM generate_series(1, 8000) i;
CREATE TABLE ward_archive (LIKE ward);
CREATE TABLE split_ward (id integer, visits integer) PARTITION BY RANGE (id);
CREATE TABLE split_ward_1 PARTITION OF split_ward FOR VALUES FROM (0) TO (3000);
CREATE TABLE split_ward_2 PARTITION OF split_ward FOR VALUES FROM (3000) TO (9000);
INSERT INTO split_ward SELECT id, visits FROM ward;
CREATE FUNCTION shouts() RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN RAISE EXCEPTION 'planned'; END $$;
ANALYZE ward; ANALYZE split_ward; ANALYZE ward_archive;
"""
TABLES = "ward, ward_archive, split_ward"

pytestmark = pytest.mark.asyncio(loop_scope="module")

Expect = Callable[..., Awaitable[RowsExpected]]


@pytest.fixture(scope="module", autouse=True)
def ward_dsn(scratch_dsn: str) -> Iterator[str]:
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute(WARD.encode())
    yield scratch_dsn
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {TABLES}; DROP FUNCTION shouts()".encode())


@pytest.fixture
def analyst(lasting_analyst: PostgresAnalyst) -> PostgresAnalyst:
    return lasting_analyst


@pytest.fixture
def expect(analyst: PostgresAnalyst, session_context: SessionContext) -> Expect:
    async def run(text: str, *, types: tuple[int, ...] = ()) -> RowsExpected:
        found = await analyst.analyse(session_context, Statement(text, parameter_types=types))
        assert found.complete, found.problems
        return await analyst.expect(session_context, found)

    return run


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("DELETE FROM ward", 8000, 8000),
        ("DELETE FROM ward WHERE id > 4000", 3900, 4100),
        ("DELETE FROM ward WHERE id = 7", 1, 1),
        ("UPDATE ward SET visits = 0 WHERE state = 's3'", 100, 300),
        ("UPDATE ward SET visits = 0 WHERE state = $1", 100, 300),
        ("UPDATE ward SET visits = 0 WHERE id < 10 RETURNING ssn", 5, 20),
        ("INSERT INTO ward_archive SELECT * FROM ward WHERE id <= 2000", 1900, 2100),
        ("INSERT INTO ward_archive VALUES (1, 'a', 'b', 2), (2, 'a', 'b', 2)", 2, 2),
        ("INSERT INTO ward VALUES (1, 'a', 'b', 2) ON CONFLICT (id) DO UPDATE SET visits = 1", 1, 1),
        ("DELETE FROM split_ward", 8000, 8000),
        ("WITH gone AS (DELETE FROM ward WHERE id > 4000 RETURNING id) SELECT count(*) FROM gone", 3900, 4100),
        (
            "WITH gone AS (DELETE FROM ward WHERE id > 4000 RETURNING *) INSERT INTO ward_archive SELECT * FROM gone",
            7800,
            8200,
        ),
        ("WITH gone AS (DELETE FROM ward WHERE id > 4000) SELECT 1", 3900, 4100),
        ("EXPLAIN ANALYZE DELETE FROM ward WHERE id > 4000", 3900, 4100),
        ("TRUNCATE ward", 8000, 8000),
    ],
)
async def test_rows_changed_are_those_fed_into_every_write(expect: Expect, text: str, least: int, most: int) -> None:
    changed = (await expect(text)).changed

    assert changed is not None
    assert least <= changed <= most


async def test_merge_changes_what_its_join_feeds_it(expect: Expect, ward_dsn: str) -> None:
    with psycopg.connect(ward_dsn) as connection:
        if connection.info.server_version < 150_000:
            pytest.skip("MERGE is PostgreSQL 15")

    found = await expect(
        "MERGE INTO ward w USING (SELECT id FROM ward WHERE id < 100) s ON w.id = s.id "
        "WHEN MATCHED THEN UPDATE SET visits = 1"
    )

    assert found.changed is not None
    assert 50 <= found.changed <= 200


@pytest.mark.parametrize(
    ("text", "returned"),
    [
        ("COPY ward TO STDOUT", 8000),
        ("UPDATE ward SET visits = 0 WHERE id = 7 RETURNING ssn", 1),
        ("DELETE FROM ward", None),
    ],
)
async def test_rows_returned_are_those_that_come_back(expect: Expect, text: str, returned: int | None) -> None:
    assert (await expect(text)).returned == returned


async def test_prepared_statement_is_sized_by_what_it_stands_for(
    analyst: PostgresAnalyst, session_context: SessionContext
) -> None:
    prepared = await analyst.analyse(session_context, Statement("PREPARE p AS DELETE FROM ward WHERE id > 4000"))
    assert prepared.inner is not None
    session_context.prepared["p"] = prepared.inner
    executed = await analyst.analyse(session_context, Statement("EXECUTE p"))

    changed = (await analyst.expect(session_context, executed)).changed

    assert changed is not None
    assert 3900 <= changed <= 4100


async def test_nothing_runs(expect: Expect, ward_dsn: str) -> None:
    await expect("WITH gone AS (DELETE FROM ward RETURNING *) INSERT INTO ward_archive SELECT * FROM gone")
    await expect("EXPLAIN ANALYZE DELETE FROM ward")

    with psycopg.connect(ward_dsn) as connection:
        counted = connection.execute("SELECT (SELECT count(*) FROM ward), (SELECT count(*) FROM ward_archive)")
        assert counted.fetchone() == (8000, 0)


async def test_function_nobody_classified_is_not_evaluated_by_planning(
    analyse: Analyse, analyst: PostgresAnalyst, session_context: SessionContext
) -> None:
    found = await analyse("DELETE FROM ward WHERE visits = shouts()")

    assert found.opaque_functions
    assert not may_be_sized(found)
    assert await analyst.expect(session_context, found) == UNKNOWN


async def test_plan_that_fails_is_not_known_and_says_nothing(expect: Expect, caplog: pytest.LogCaptureFixture) -> None:
    assert await expect("DELETE FROM ward WHERE visits = 'CANARY-4711'::text::integer") == UNKNOWN
    assert "CANARY" not in caplog.text


async def test_what_is_known_already_is_not_asked_again(analyse: Analyse) -> None:
    assert not may_be_sized(await analyse("SELECT ssn FROM ward WHERE id = 5"))
    assert not may_be_sized(await analyse("SELECT ssn FROM ward"))
    assert may_be_sized(await analyse("DELETE FROM ward"))


@pytest.mark.parametrize(
    "plan",
    [None, [], [{"Plan": {}}], [{"Plan": {"Node Type": "ModifyTable", "Plans": [{"Parent Relationship": "Outer"}]}}]],
)
async def test_answer_that_is_no_plan_tells_nothing(analyse: Analyse, plan: object) -> None:
    assert rows_expected(plan, await analyse("DELETE FROM ward")) == UNKNOWN


async def test_old_plans_have_one_child_a_partition(analyse: Analyse) -> None:
    children = [{"Node Type": "Seq Scan", "Parent Relationship": "Member", "Plan Rows": rows} for rows in (3, 4)]
    plan = [{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 7, "Plans": children}}]
    found = await analyse("DELETE FROM ward")

    assert rows_expected(plan, found) == RowsExpected(changed=7)
    assert rows_expected(plan, replace(found, operations=frozenset({Operation.READ}))) == UNKNOWN


@pytest.mark.parametrize(
    ("text", "uncounted"),
    [
        ("DELETE FROM ward", False),
        ("UPDATE ward SET visits = 0 RETURNING ssn", False),
        ("INSERT INTO ward_archive SELECT * FROM ward", False),
        ("WITH few AS (SELECT * FROM ward LIMIT 3) DELETE FROM ward_archive a USING few f WHERE a.id = f.id", False),
        ("SELECT ssn FROM ward", False),
        ("COPY ward TO STDOUT", False),
        ("EXPLAIN ANALYZE SELECT ssn FROM ward", False),
        ("WITH gone AS (DELETE FROM ward RETURNING id) SELECT count(*) FROM gone", True),
        ("WITH gone AS (DELETE FROM ward RETURNING *) INSERT INTO ward_archive SELECT * FROM gone LIMIT 1", True),
        ("WITH a AS (WITH b AS (SELECT 1) UPDATE ward SET visits = 0 RETURNING 1) SELECT 1", True),
        ("EXPLAIN ANALYZE DELETE FROM ward", True),
        ("TRUNCATE ward", True),
    ],
)
async def test_changes_no_command_tag_counts_are_told(analyse: Analyse, text: str, uncounted: bool) -> None:
    found = await analyse(text)

    assert found.complete, found.problems
    assert found.facts.uncounted is uncounted
