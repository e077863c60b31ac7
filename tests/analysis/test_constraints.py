"""What a write asks about the columns it leaves alone: constraints over several columns answer by refusing it."""

from __future__ import annotations

import pytest

from analysis.statement import PredicateUse
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.analysis.conftest import Analyse

pytestmark = pytest.mark.asyncio(loop_scope="module")

# `stays`: born <= admitted, and days, generated as released - admitted, is not negative.
ASKED = [
    ("UPDATE stays SET admitted = '1950-01-01' WHERE id = 1", {"born", "released"}),
    ("UPDATE stays SET admitted = $1 WHERE id = 1", {"born", "released"}),
    ("UPDATE stays SET released = '1950-01-01' WHERE id = 1", {"admitted"}),
    ("UPDATE stays SET born = '1950-01-01', admitted = '1950-01-01' WHERE id = 1", {"released"}),
    ("UPDATE stays SET (born, admitted, released) = ('1950-01-01', '1950-01-01', '1950-01-01') WHERE id = 1", set()),
    ("UPDATE stays SET ward = 'x' WHERE id = 1", set()),
    ("WITH w AS (UPDATE stays SET released = now() WHERE id = 1 RETURNING id) TABLE w", {"admitted"}),
    (
        "MERGE INTO stays s USING (SELECT 1 AS i) q ON s.id = q.i WHEN MATCHED THEN UPDATE SET admitted = now()",
        {"born", "released"},
    ),
    (
        "MERGE INTO stays s USING (SELECT 1 AS i) q ON s.id = q.i WHEN NOT MATCHED THEN INSERT (id, admitted) "
        "VALUES (1, now())",
        set(),
    ),
    ("INSERT INTO stays (id, born, admitted) VALUES (1, '1950-01-01', '1950-01-01')", set()),
    ("INSERT INTO stays (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET admitted = now()", {"born", "released"}),
    ("UPDATE young_stays SET admitted = '1950-01-01' WHERE id = 1", {"admitted", "born", "released"}),
    ("UPDATE all_stays SET released = '1950-01-01' WHERE id = 1", {"admitted"}),
]


@pytest.fixture
def analyst(lasting_analyst: PostgresAnalyst) -> PostgresAnalyst:
    return lasting_analyst


@pytest.mark.parametrize(("text", "expected"), ASKED)
async def test_a_constraint_asks_about_the_columns_that_stay(analyse: Analyse, text: str, expected: set[str]) -> None:
    analysis = await analyse(text)

    assert analysis.complete, analysis.problems
    asked = {(p.column.column, p.use) for p in analysis.predicates if p.column.table == "stays"} - {
        ("id", PredicateUse.COMPARISON)
    }
    assert asked == {(column, PredicateUse.COMPARISON) for column in expected}


# A row that is there with guesses in it tells by the refusal whether the row that is changed holds one of them.
UNIQUE = [
    ("UPDATE beds SET ward = 'x' WHERE id = 1", {"patient"}),
    ("UPDATE beds SET patient = '900-11-1111' WHERE id = 1", {"ward", "code"}),
    ("UPDATE beds SET ward = 'x', patient = '900-11-1111' WHERE id = 1", {"code"}),
    ("UPDATE beds SET code = 'x' WHERE id = 1", {"patient"}),
    ("UPDATE beds SET stay = '[2020-01-01,2020-01-02)' WHERE id = 1", {"kept"}),
    ("UPDATE beds SET note = 'x' WHERE id = 1", set()),
    ("INSERT INTO beds (id, ward, patient) VALUES (1, 'x', '900-11-1111')", set()),
]


@pytest.mark.parametrize(("text", "expected"), UNIQUE)
async def test_a_unique_index_asks_about_its_columns_that_stay(analyse: Analyse, text: str, expected: set[str]) -> None:
    analysis = await analyse(text)

    assert analysis.complete, analysis.problems
    asked = {(p.column.column, p.use) for p in analysis.predicates} - {("id", PredicateUse.COMPARISON)}
    assert asked == {(column, PredicateUse.COMPARISON) for column in expected}
