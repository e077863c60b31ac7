"""Both readings of real statements on a real PostgreSQL, case by case from tests/analysis/cases.py."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest

from analysis.nodes import Node
from analysis.relations import Relations
from analysis.scope import Reading
from analysis.statement import Analysis, Operation, PredicateUse, Statement, Transform
from analysis.words import words
from gateway.session.context import SessionContext
from gateway.session.services import UpstreamRejected
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.analysis import cases
from tests.analysis.conftest import Analyse

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENT_COLUMNS = words("id mrn first_name last_name ssn dob sex email phone address city state zip")


@pytest.fixture
def analyst(lasting_analyst: PostgresAnalyst) -> PostgresAnalyst:
    return lasting_analyst


@pytest.mark.parametrize(("text", "expected"), cases.rows(cases.OUTPUTS), ids=str)
async def test_outputs_name_their_origins(analyse: Analyse, text: str, expected: list[str]) -> None:
    analysis = await analyse(text)

    assert analysis.complete, analysis.problems
    assert [cases.summarise_output(output) for output in analysis.outputs or ()] == expected


@pytest.mark.parametrize("text", cases.WHOLE_ROWS.strip().splitlines())
async def test_whole_rows_are_made_of_every_column(analyse: Analyse, text: str) -> None:
    analysis = await analyse(text)

    assert analysis.complete, analysis.problems
    assert analysis.outputs is not None
    origins = analysis.outputs[0].origins
    assert {origin.column.column for origin in origins} == PATIENT_COLUMNS
    assert all(origin.transform is Transform.DERIVED for origin in origins)


@pytest.mark.parametrize(("text", "expected"), cases.rows(cases.PREDICATES), ids=str)
async def test_predicates_name_what_steers_rows(analyse: Analyse, text: str, expected: list[str]) -> None:
    analysis = await analyse(text)

    assert analysis.complete, analysis.problems
    about_ssn = [word for word in cases.summarise_predicates(analysis) if not word.startswith("id:")]
    assert about_ssn == sorted(expected)


async def test_reading_a_partition_by_its_name_asks_about_its_key(analyse: Analyse) -> None:
    whole, part = await analyse("SELECT id FROM visits"), await analyse("SELECT id FROM visits_2024")

    assert whole.predicates == frozenset()
    assert {(p.column.table, p.column.column, p.use) for p in part.predicates} == {
        ("visits", "at", PredicateUse.COMPARISON),
        ("visits_2024", "at", PredicateUse.COMPARISON),
    }


@pytest.mark.parametrize("text", cases.MIXED.strip().splitlines())
async def test_beside_stored_values_are_others(analyse: Analyse, text: str) -> None:
    analysis = await analyse(text)

    assert [output.mixed for output in analysis.outputs or ()] == [True]


@pytest.mark.parametrize("text", cases.UNMIXED.strip().splitlines())
async def test_nothing_but_one_column_s_values_is_shown(analyse: Analyse, text: str) -> None:
    analysis = await analyse(text)

    assert [output.mixed for output in analysis.outputs or ()] == [False]


@pytest.mark.parametrize(("text", "expected"), cases.rows(cases.ORDINARY), ids=str)
async def test_ordinary_statements_are_complete(analyse: Analyse, text: str, expected: list[str]) -> None:
    analysis = await analyse(text)

    assert analysis.complete, analysis.problems
    assert analysis.operations == {Operation(word) for word in expected}


@pytest.mark.parametrize("text", cases.INCOMPLETE.strip().splitlines())
async def test_the_unknown_is_never_complete(analyse: Analyse, text: str) -> None:
    analysis = await analyse(text)

    assert not analysis.complete
    assert analysis.problems
    assert all(not output.resolved for output in analysis.outputs or ())


@pytest.mark.parametrize(
    ("text", "no_where", "row_bound"),
    [
        ("SELECT * FROM patients", True, None),
        ("SELECT * FROM patients /* WHERE id = 1 */", True, None),
        ("SELECT * FROM patients -- WHERE id = 1\n", True, None),
        ("SELECT * FROM patients WHERE true", True, None),
        ("SELECT * FROM patients WHERE 1 = 1", True, None),
        ("SELECT * FROM patients WHERE id = id", True, None),
        ("SELECT * FROM patients WHERE id IS NOT NULL", True, None),
        ("SELECT * FROM patients WHERE true OR id = 1", True, None),
        ("DELETE FROM patients", True, 0),
        ("WITH d AS (DELETE FROM patients RETURNING 1) SELECT 1", True, 1),
        ("UPDATE patients SET zip = '' WHERE mrn = 'x'", False, 0),
        ("MERGE INTO claims t USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE", True, 0),
        ("MERGE INTO claims t USING (SELECT 1) s ON true WHEN MATCHED AND t.id = 1 THEN DELETE", False, 0),
        ("MERGE INTO claims t USING (SELECT 1 AS i) s ON t.id = s.i WHEN MATCHED THEN UPDATE SET year = 1", False, 0),
        ("MERGE INTO claims t USING (SELECT 1 AS i) s ON t.id = s.i WHEN NOT MATCHED BY SOURCE THEN DELETE", True, 0),
        (
            "MERGE INTO claims t USING (SELECT 1 AS i) s ON t.id = s.i WHEN NOT MATCHED THEN INSERT (id) VALUES (1)",
            False,
            0,
        ),
        ("SELECT * FROM patients WHERE id = 1", False, 1),
        ("SELECT * FROM patients WHERE id = $1", False, 1),
        ("SELECT * FROM patients WHERE mrn = 'x' AND state = 'y'", False, 1),
        ("SELECT * FROM patients WHERE id = 1 OR id = 2", False, 2),
        ("SELECT * FROM patients WHERE id = 1 OR mrn = 'x'", False, None),
        ("SELECT * FROM patients WHERE id = 1 OR id > 2", False, None),
        ("SELECT * FROM patients WHERE id IN (1, 2, 3)", False, 3),
        ("SELECT * FROM patients WHERE id = ANY ('{1,2,3,4}')", False, 4),
        ("SELECT * FROM patients WHERE id = ANY (ARRAY[[1,2],[3,4]])", False, None),
        ("SELECT * FROM patients WHERE id = ANY ($1)", False, None),
        ("SELECT * FROM patients WHERE id <> ALL ('{1,2,3,4}')", False, None),
        ("SELECT * FROM patients WHERE id NOT IN (1, 2)", False, None),
        ("SELECT * FROM claims WHERE patient_id IN (1, 2) AND year IN (3, 4, 5)", False, 6),
        ("SELECT * FROM patients p JOIN claims c ON c.id = p.id WHERE p.id IN (1, 2)", False, 2),
        ("SELECT * FROM patients LIMIT 7", True, 7),
        ("SELECT * FROM patients LIMIT ALL", True, None),
        ("SELECT * FROM patients ORDER BY state FETCH FIRST 3 ROWS WITH TIES", True, None),
        ("SELECT count(*) FROM patients", True, 1),
        ("SELECT string_agg(ssn, ',') FROM patients", True, None),
        ("SELECT ARRAY(SELECT ssn FROM patients)", True, None),
        ("SELECT array_agg(id) FROM patients WHERE id IN (1, 2)", False, 2),
        ("SELECT json_agg(t) FROM (SELECT * FROM patients LIMIT 3) t", True, 3),
        ("SELECT json_agg(p) FROM patients p LIMIT 1", True, None),
        ("SELECT a FROM (SELECT json_agg(p) AS a FROM patients p) q LIMIT 1", True, None),
        ("SELECT max(a::text) FROM (SELECT json_agg(p) AS a FROM patients p) q", True, None),
        ("SELECT array_agg(id) OVER () FROM patients LIMIT 1", True, None),
        ("SELECT ARRAY(SELECT ssn FROM patients LIMIT 4), id FROM claims LIMIT 1", True, None),
        ("SELECT ARRAY(SELECT ssn FROM patients LIMIT 4), id FROM claims WHERE id IN (1, 2)", True, 8),
        ("SELECT (SELECT string_agg(ssn, ',') FROM patients)", True, None),
        ("SELECT ARRAY(SELECT 1 LIMIT 0), ssn FROM (SELECT * FROM patients LIMIT 5000) p", True, 5000),
        ("SELECT v.a FROM (VALUES (ARRAY(SELECT ssn FROM patients))) v(a)", True, None),
        ("VALUES (ARRAY(SELECT ssn FROM patients LIMIT 4)), (NULL)", True, 8),
        ("SELECT v.a FROM (VALUES ((SELECT json_agg(p) FROM patients p))) v(a)", True, None),
        ("SELECT f FROM to_jsonb(ARRAY(SELECT ssn FROM patients LIMIT 4)) f", True, 4),
        ("SELECT percentile_disc(ARRAY[0.1, 0.2]) WITHIN GROUP (ORDER BY ssn) FROM patients", True, None),
        ("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM patients", True, 1),
        (
            "WITH RECURSIVE t(i, s) AS (SELECT 0, '' UNION ALL SELECT id, s || ssn FROM t, patients WHERE id = i + 1) "
            "SELECT max(s) FROM t",
            False,
            None,
        ),
        ("SELECT id FROM patients INTERSECT SELECT id FROM patients WHERE id = 5", True, 1),
        ("SELECT id FROM patients WHERE id = 5 EXCEPT SELECT id FROM patients", True, 1),
        ("SELECT id FROM patients EXCEPT SELECT id FROM patients WHERE id = 5", True, None),
        ("SELECT unnest(ARRAY[1, 2])", False, None),
        ("EXPLAIN SELECT * FROM patients", True, 0),
        ("VALUES (1), (2), (3)", False, 3),
        ("SELECT 1 UNION ALL SELECT 2", False, 2),
        ("SELECT * FROM claims WHERE patient_id = 1", False, None),
        ("SELECT * FROM patients WHERE id = abs($1::int) + 1", False, 1),
        ("SELECT * FROM patients WHERE id = (random() * 9)::int", False, None),
        ("SELECT * FROM patients WHERE id IN ((random() * 9)::int, 2)", False, None),
        ("SELECT p.id FROM patients p, LATERAL (VALUES (p.id)) q(i) WHERE p.id = q.i", False, None),
        ("SELECT p.id FROM patients p, LATERAL (SELECT p.id AS i LIMIT 1) q WHERE p.id = q.i", False, None),
        ("SELECT p.id FROM patients p, abs(p.id) q(i) WHERE p.id = q.i", False, None),
        ("SELECT p.id FROM (SELECT 5 AS i LIMIT 1) q, patients p WHERE p.id = q.i", False, 1),
        ("SELECT * FROM claims WHERE patient_id = 1 AND year = 2", False, 1),
        ("SELECT * FROM encounters e JOIN patients p ON p.id = e.patient_id WHERE e.id = 3", False, 1),
        ("SELECT * FROM encounters e LEFT JOIN patients p ON p.id = e.patient_id WHERE e.id = 3", False, 1),
        ("SELECT * FROM encounters e LEFT JOIN patients p ON p.id = e.patient_id AND e.id = 3", True, None),
        ("SELECT * FROM patients p FULL JOIN encounters e ON p.id = 1 AND e.id = 1", True, None),
        ("SELECT * FROM patients WHERE id = (SELECT max(id) FROM claims)", True, None),
        ("SELECT * FROM (SELECT * FROM patients) q WHERE q.id = 3", False, None),
        ("SELECT * FROM visits WHERE id = 1", False, None),
    ],
)
async def test_facts_are_deterministic(
    analyse: Analyse, text: str, no_where: bool | None, row_bound: int | None
) -> None:
    if no_where is None:
        text, no_where = text.replace("FETCH", "ORDER BY state FETCH"), True

    analysis = await analyse(text)

    assert analysis.complete, analysis.problems
    assert (analysis.facts.no_where, analysis.facts.row_bound) == (no_where, row_bound)


@pytest.mark.parametrize(
    ("text", "aggregated"),
    [
        ("SELECT state, count(*) FROM patients GROUP BY state", True),
        ("SELECT avg(amount) FROM claims", True),
        ("SELECT id, count(*) FROM patients GROUP BY id", False),
        ("SELECT id + 0, count(*) FROM patients GROUP BY 1", False),
        ("SELECT count(*) FROM patients GROUP BY id + 0", False),
        ("SELECT count(*) FROM patients GROUP BY md5(id::text)", False),
        ("SELECT count(*) FROM patients GROUP BY coalesce(mrn, state)", False),
        ("SELECT count(*) FROM patients GROUP BY ctid", False),
        ("SELECT count(*) FROM patients GROUP BY random()", False),
        ("SELECT count(*) FROM patients GROUP BY (SELECT random())", False),
        ("SELECT upper(state), count(*) FROM patients GROUP BY 1", True),
        ("SELECT upper(state), sex = 'F', count(*) FROM patients GROUP BY 1, 2", True),
        ("SELECT state, sex, zip, count(*) FROM patients GROUP BY 1, 2, 3", False),
        ("SELECT state, json_agg(ssn) FROM patients GROUP BY state", False),
        ("SELECT DISTINCT state FROM patients", False),
    ],
)
async def test_aggregated_is_only_a_table_of_counts(analyse: Analyse, text: str, aggregated: bool) -> None:
    assert (await analyse(text)).facts.aggregated is aggregated


@pytest.mark.parametrize("text", ["TRUNCATE patients", "DELETE FROM patients", "LOCK patients IN ROW EXCLUSIVE MODE"])
async def test_what_reaches_whole_tables_writes_every_column(analyse: Analyse, text: str) -> None:
    analysis = await analyse(text)

    assert analysis.complete, analysis.problems
    assert {column.column for column in analysis.writes} == PATIENT_COLUMNS
    assert Operation.WRITE in analysis.operations


async def test_exports_are_named(analyse: Analyse) -> None:
    for text in ("COPY patients TO STDOUT", "CREATE TABLE t AS SELECT 1", "SELECT 1 INTO t"):
        assert (await analyse(text)).facts.export, text


async def test_partitions_share_their_parents_protection(analyse: Analyse) -> None:
    child = await analyse("SELECT patient_ssn FROM visits_2024")
    parent = await analyse("SELECT patient_ssn FROM visits")

    for analysis in (child, parent):
        assert analysis.outputs is not None
        assert {str(origin.column) for origin in analysis.outputs[0].origins} == {
            "public.visits.patient_ssn",
            "public.visits_2024.patient_ssn",
        }


async def test_search_path_decides_which_table_is_meant(analyse: Analyse, session_context) -> None:
    session_context.search_path = "other"

    analysis = await analyse("SELECT ssn FROM patients")

    assert [str(column) for column in analysis.reads] == ["other.patients.ssn"]


class _Forgetful(set[int]):
    def add(self, _: int) -> None: ...


async def test_what_a_relation_tells_is_told_when_it_is_first_met(
    analyst: PostgresAnalyst, session_context: SessionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every case, with each mention of a relation read as if it were the first, says the same."""
    tables = (cases.OUTPUTS, cases.WHOLE_ROWS, cases.MIXED, cases.UNMIXED, cases.PREDICATES, cases.ORDINARY)
    lines = [line for table in (*tables, cases.INCOMPLETE) for line in table.strip().splitlines()]
    texts = list(dict.fromkeys(line.partition(" => ")[0] for line in lines))
    made = Relations.__init__

    def forgetful(self: Relations, reading: Reading) -> None:
        made(self, reading)
        self._met = _Forgetful()

    found = [await _read(analyst, session_context, text) for text in texts]
    analyst._side(session_context.connection).forget()
    monkeypatch.setattr(Relations, "__init__", forgetful)

    again = [await _read(analyst, session_context, text) for text in texts]

    assert again == found
    assert sum(each is not None and each.complete for each in found) > 100


async def _read(analyst: PostgresAnalyst, session: SessionContext, text: str) -> Analysis | None:
    try:
        found = await analyst.analyse(session, Statement(text))
    except UpstreamRejected:
        return None
    return replace(found, problems=tuple(sorted(found.problems)))


async def test_a_tree_that_was_read_is_gone_at_once(analyse: Analyse) -> None:
    """What waits for the collector makes it halt every session, the more often the more statements are new."""
    text = "SELECT p.id, (SELECT max(v.at) FROM visits v WHERE v.patient_ssn = p.ssn) FROM patients p WHERE p.id = 1"
    await analyse(text)
    gc.collect()
    gc.disable()
    try:
        analysis = await analyse(f"{text} OR p.id = 2")
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [each.tag for each in gc.garbage if isinstance(each, Node)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert analysis.complete, analysis.problems
    assert left == []
