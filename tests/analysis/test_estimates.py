"""How many rows: what is not proven is asked of the planner, per text, and never mistaken for a proof."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from analysis.estimate import estimated_rows
from gateway.session.context import SessionContext
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.analysis.conftest import Analyse

pytestmark = pytest.mark.asyncio(loop_scope="module")

CROWD = """
CREATE TABLE crowd (id integer PRIMARY KEY, ssn text, state text, visits integer);
INSERT INTO crowd SELECT i, 'x' || i, 's' || i % 40, i % 100 FROM generate_series(1, 8000) i;
ANALYZE crowd;
"""


@pytest.fixture(scope="module", autouse=True)
def _crowd(scratch_dsn: str) -> Iterator[None]:
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute(CROWD.encode())
    yield
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE crowd")


@pytest.fixture
def analyst(lasting_analyst: PostgresAnalyst) -> PostgresAnalyst:
    return lasting_analyst


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("SELECT ssn FROM crowd", 8000, 8000),
        ("SELECT ssn FROM crowd WHERE id > 0", 7990, 8000),
        ("SELECT ssn FROM crowd WHERE state = 's3'", 100, 300),
        ("SELECT ssn FROM crowd WHERE state = $1", 100, 300),
        ("SELECT ssn FROM crowd WHERE id > $1", 1000, 8000),
        ("SELECT ssn FROM crowd LIMIT 700", 700, 700),
        ("SELECT ssn FROM crowd WHERE id < 10 LIMIT 7000", 5, 20),
        ("SELECT json_agg(c) FROM crowd c", 8000, 8000),
        ("SELECT (SELECT json_agg(c) FROM crowd c), 1 FROM crowd d WHERE id < 3", 8000, 30_000),
        ("SELECT ARRAY(SELECT ssn FROM crowd)", 8000, 8000),
        ("SELECT string_agg(ssn, ',') FROM crowd WHERE state = 's3'", 100, 300),
        (
            "WITH busy AS (SELECT state, visits AS n FROM crowd) SELECT n, state, max(n) FROM busy GROUP BY 1, 2",
            300,
            4000,
        ),
        ("UPDATE crowd SET visits = 0 WHERE id > 0 RETURNING ssn", 7990, 8000),
    ],
)
async def test_the_planner_is_asked_where_nothing_is_proven(analyse: Analyse, text: str, least: int, most: int) -> None:
    facts = (await analyse(text)).facts

    assert facts.estimated_rows is not None
    assert least <= facts.estimated_rows <= most


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ssn FROM crowd WHERE id = 5",
        "SELECT ssn FROM crowd LIMIT 5",
        "SELECT count(*) FROM crowd WHERE visits > 3",
        "SELECT relname FROM pg_class",
        "SELECT * FROM information_schema.columns",
        "SELECT generate_series(1, 100000)",
        "UPDATE crowd SET visits = 0 WHERE id > 0",
        "SELECT pg_read_file(ssn) FROM crowd",
        "COPY crowd TO STDOUT",
        "EXPLAIN SELECT * FROM crowd",
    ],
)
async def test_the_planner_is_not_asked_where_it_cannot_matter(analyse: Analyse, text: str) -> None:
    assert (await analyse(text)).facts.estimated_rows is None


async def test_an_estimate_follows_its_own_literals(analyse: Analyse) -> None:
    few = await analyse("SELECT ssn FROM crowd WHERE id < 10")
    many = await analyse("SELECT ssn FROM crowd WHERE id < 7000")

    assert few.fingerprint == many.fingerprint
    assert few.facts.estimated_rows is not None
    assert many.facts.estimated_rows is not None
    assert few.facts.estimated_rows < 50
    assert many.facts.estimated_rows > 6000
    assert not many.literal_independent


async def test_the_planner_can_be_made_to_expect_few_of_what_is_collected(analyse: Analyse) -> None:
    """So no policy may believe it there (`approvals.domain.conditions`): one row would carry all 8000."""
    always = " AND ".join(f"visits * {n} = visits * {n - 1} + visits" for n in range(2, 5))
    facts = (await analyse(f"SELECT string_agg(ssn, ',') FROM crowd WHERE {always}")).facts

    assert facts.estimated_rows is not None
    assert facts.estimated_rows < 10
    assert facts.collects


async def test_parameters_alone_leave_the_shape_free(analyse: Analyse) -> None:
    assert (await analyse("SELECT ssn FROM crowd WHERE visits = $1", types=(23,))).literal_independent


async def test_what_the_planner_cannot_read_is_not_known_to_be_small(analyse: Analyse) -> None:
    """Constant folding fails: the statement would fail as well, and nothing is known of its rows."""
    analysis = await analyse("SELECT ssn FROM crowd WHERE visits = 1 / 0")

    assert analysis.complete, analysis.problems
    assert analysis.facts.estimated_rows is None


async def test_cursors_carry_the_estimate_of_their_query(analyse: Analyse) -> None:
    declared = await analyse("DECLARE c CURSOR FOR SELECT ssn FROM crowd WHERE id < 10")

    assert declared.inner is not None
    assert (declared.inner.facts.estimated_rows or 0) < 50


@pytest.mark.parametrize("declared_first", [True, False])
async def test_a_query_and_a_cursor_over_it_stay_what_each_is(
    analyst: PostgresAnalyst, session_context: SessionContext, analyse: Analyse, declared_first: bool
) -> None:
    """A statement's risk, operations and fingerprint are its own, whatever was estimated just before."""
    query = "SELECT ssn FROM crowd"
    texts = [f"DECLARE c CURSOR FOR {query}", query]
    alone = []
    for text in texts:
        analyst._side(session_context.connection).forget()
        alone.append(await analyse(text))
    analyst._side(session_context.connection).forget()

    after = {text: await analyse(text) for text in (texts if declared_first else reversed(texts))}

    assert alone[1].risk_score > 0
    assert [after[text] for text in texts] == alone
    assert analyst.recall(session_context, query, ()) in (None, alone[1])


@pytest.mark.parametrize("answer", ["[]", "{}", "[{}]", '[{"Plan": {}}]', '[{"Plan": {"Plan Rows": "many"}}]'])
async def test_an_answer_that_is_no_plan_is_no_estimate(answer: str) -> None:
    assert estimated_rows(json.loads(answer), collects=False) is None
    assert estimated_rows(json.loads(answer), collects=True) is None
