"""The witness cannot be escaped, the cache cannot be poisoned, names stand for what they name."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import psycopg
import pytest

from analysis.statement import Operation, Statement
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.context import SessionContext
from gateway.session.services import UpstreamRejected
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from gateway.upstreams.postgres_recollected import Recollected
from gateway.upstreams.postgres_side import PostgresSide
from gateway.upstreams.postgres_witness import NoWitness, Question, ask, load_catalogue, prepare, scrubbed
from tests.analysis.conftest import Analyse


async def _ask_raw(dsn: str, text: str) -> object:
    """The witness alone, without the split and the kinds that would have stopped such a text before."""
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    try:
        catalogue = await load_catalogue(connection)
        await prepare(connection)
        return await ask(connection, Question(text=text, search_path="public"), catalogue)
    finally:
        await connection.close()


def _tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {name for (name,) in connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'guess%'")}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1; END; DROP TABLE guesses; --",
        "SELECT 1\n;\nEND; DROP TABLE guesses; SELECT 1",
        "SELECT 1; END; COMMIT; DROP TABLE guesses; --",
        "SELECT 1; END $$; DROP TABLE guesses; $$",
        "END; DROP TABLE guesses; --",
        "SELECT 1 /* ",
        "SELECT '",
        'SELECT "',
        "SELECT $a$",
        "COMMIT",
        "DROP TABLE guesses",
        "CREATE TABLE guesses_too (a int)",
        "DO 'BEGIN DROP TABLE guesses; END'",
    ],
)
async def test_witness_wrapper_cannot_be_left(scratch_dsn: str, text: str) -> None:
    before = _tables(scratch_dsn)

    with pytest.raises((UpstreamRejected, NoWitness)):
        await _ask_raw(scratch_dsn, text)

    assert _tables(scratch_dsn) == before == {"guesses"}


async def test_declared_types_are_those_the_client_named(scratch_dsn: str) -> None:
    """Whatever a search_path puts in front of them: a type is an OID to the client."""
    connection = await psycopg.AsyncConnection.connect(scratch_dsn, autocommit=True)
    try:
        await connection.execute("CREATE SCHEMA shadows")
        await connection.execute("CREATE DOMAIN shadows.uuid AS text")
        await connection.execute("CREATE DOMAIN shadows.own AS int")
        (own,) = await (await connection.execute("SELECT 'shadows.own'::regtype::int8")).fetchone() or (0,)
        await prepare(connection)
        where = {"search_path": "shadows, pg_catalog", "parameter_count": 2}

        question = Question(text="SELECT $1, $2", parameter_types=(2950, own), **where)
        witness = await ask(connection, question, await load_catalogue(connection))

        assert witness.parameter_types == (2950, own)
        assert ":paramtype 2950 " in witness.tree
        (shadowed,) = await (await connection.execute("SELECT 'shadows.uuid'::regtype::int8")).fetchone() or (0,)
        assert f":paramtype {shadowed} " not in witness.tree
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS shadows CASCADE")
        await connection.close()


async def test_witness_control_the_same_text_does_drop_when_run_plainly(scratch_dsn: str) -> None:
    """Shows that the text above is dangerous where nothing wraps it."""
    with psycopg.connect(scratch_dsn) as connection:
        connection.execute(b"SELECT 1; DROP TABLE guesses; --")
        gone = connection.execute("SELECT to_regclass('public.guesses')").fetchone()
        connection.rollback()

    assert gone == (None,)


async def test_witness_refuses_two_statements_in_its_body(analyst: PostgresAnalyst, scratch_dsn: str) -> None:
    """The wrapper itself takes two; the tree then is not of one statement."""
    from analysis.lineage import read_lineage
    from analysis.nodes import TreeError
    from analysis.witness import Witness

    witness = await _ask_raw(scratch_dsn, "SELECT 1; SELECT ssn FROM patients")

    assert isinstance(witness, Witness)
    with pytest.raises(TreeError):
        read_lineage(witness.tree, witness.catalogue)


@pytest.mark.parametrize("tail", [" -- the end", " --", " /* the end */", "\n--\n", ";"])
async def test_witness_tail_survives_trailing_comments(analyse: Analyse, tail: str) -> None:
    assert (await analyse("SELECT ssn FROM patients WHERE id = 1" + tail)).complete


async def test_witness_runs_nothing(analyse: Analyse, scratch_dsn: str) -> None:
    await analyse("INSERT INTO guesses VALUES ('x') RETURNING guess")
    await analyse("SELECT nextval('clinical_notes_id_seq')")

    with psycopg.connect(scratch_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM guesses").fetchone() == (0,)
        assert connection.execute("SELECT is_called FROM clinical_notes_id_seq").fetchone() == (False,)


@pytest.mark.parametrize(
    ("text", "sqlstate", "position"),
    [
        ("SELECT nope FROM patients", "42703", 8),
        ("/* é */ SELECT nope FROM patients", "42703", 16),
        ("SELECT * FROM nowhere", "42P01", 15),
        ("SELEC 1", "42601", 1),
        ("  SELEC 1", "42601", 3),
        ("SELECT 1 FROM patients WHERE", "42601", 29),
        ("SELECT 1 FROM patients WHERE -- and then?", "42601", 42),
        ("EXPLAIN SELECT 1 FROM patients WHERE", "42601", 37),
        ("SELECT FROM FROM", "42601", 13),
        ("SELECT 'abc'::int", "22P02", 8),
        ("EXPLAIN SELECT nope FROM patients", "42703", 16),
        ("COPY nowhere TO STDOUT", "42P01", 0),
        ("SELECT $1 + $2", "42725", 11),
    ],
)
async def test_rejections_keep_sqlstate_and_place_but_no_value(
    analyse: Analyse, text: str, sqlstate: str, position: int
) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        await analyse(text)

    assert (caught.value.sqlstate, caught.value.position) == (sqlstate, position)
    assert "abc" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TEMP TABLE w (i int, n text GENERATED ALWAYS AS (upper(n)) STORED)",
        "CREATE TABLE w AS SELECT nope FROM patients",
        "CREATE VIEW w AS SELECT FROM FROM",
        "SELECT nope INTO w FROM patients",
    ],
)
async def test_definitions_are_refused_for_want_of_a_right_not_for_their_syntax(analyse: Analyse, text: str) -> None:
    analysis = await analyse(text)

    assert not analysis.complete
    assert Operation.DDL in analysis.operations


def test_scrubbed_takes_values_and_leaves_names() -> None:
    assert scrubbed("22P02", 'invalid input syntax for type integer: "123-45"') == (
        'invalid input syntax for type integer: "…"'
    )
    assert scrubbed("42703", 'column "nope" does not exist') == 'column "nope" does not exist'


async def test_parameters_are_inferred_or_taken_as_declared(analyse: Analyse) -> None:
    for types in ((), (0, 0), (23, 25), (23,)):
        analysis = await analyse("SELECT ssn FROM patients WHERE id = $1 AND mrn = $2", types=types)
        assert analysis.complete, analysis.problems
        assert analysis.facts.row_bound == 1


# --- what one statement may cost the others --------------------------------------------------------------------------


def _chained(parts: int) -> str:
    names = [f"c{n} AS (SELECT * FROM {f'c{n - 1}' if n else 'encounters'})" for n in range(parts)]
    return f"WITH {', '.join(names)} SELECT id FROM c{parts - 1} LIMIT 1"


@pytest.mark.parametrize(
    "text",
    [
        _chained(300),
        "SELECT * FROM " + "(SELECT * FROM " * 150 + "encounters" + ") t" * 150,
        " UNION ALL ".join(["SELECT id FROM encounters WHERE id = 1"] * 300),
        "SELECT 1 FROM encounters WHERE " + " AND ".join(["id = 1"] * 15_000),
    ],
    ids=["chained", "nested", "united", "long"],
)
async def test_statements_of_too_many_parts_have_no_second_reading(analyse: Analyse, text: str) -> None:
    assert (await analyse(_chained(20))).complete

    analysis = await analyse(text)

    assert not analysis.complete
    assert "longer or deeper than can be analysed in time" in analysis.problems


async def test_long_statements_are_read_while_other_sessions_go_on(analyse: Analyse) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    text = "SELECT id FROM encounters WHERE " + " AND ".join(f"id <> {n}" for n in range(4000))
    elsewhere = asyncio.create_task(others())
    analysis = await analyse(text)
    elsewhere.cancel()

    assert analysis.complete
    assert turns > 20, turns  # read on the event loop, it would leave others a turn or two


# --- the cache -------------------------------------------------------------------------------------------------------


async def test_literals_compared_with_columns_share_one_analysis(analyse: Analyse) -> None:
    one = await analyse("SELECT ssn FROM patients WHERE id = 1")
    other = await analyse("SELECT ssn FROM patients WHERE id = 2")

    assert one.fingerprint == other.fingerprint
    assert one.literal_independent
    assert other.statement.text.endswith("2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT details ->> 'ssn' FROM encounters", "SELECT details ->> 'zip' FROM encounters"),
        ("SELECT * FROM patients WHERE 1 = 1", "SELECT * FROM patients WHERE 1 = 2"),
        ("SELECT * FROM patients LIMIT 1", "SELECT * FROM patients LIMIT 1000"),
        ("SELECT 'patients'::regclass", "SELECT 'claims'::regclass"),
        ("SELECT set_config('work_mem', '1MB', false)", "SELECT set_config('search_path', '1MB', false)"),
        ("SET client_encoding = 'UTF8'", "SET client_encoding = 'LATIN1'"),
    ],
)
async def test_literals_that_decide_are_never_shared(analyse: Analyse, one: str, other: str) -> None:
    assert not (await analyse(one)).literal_independent
    assert not (await analyse(other)).literal_independent


async def test_names_and_order_stay_in_the_shape(analyse: Analyse) -> None:
    texts = ("SELECT id, ssn FROM patients", "SELECT ssn, id FROM patients", 'SELECT id, ssn FROM "patients" AS p')

    assert len({(await analyse(text)).fingerprint for text in texts}) == len(texts)


async def test_limit_bounds_follow_their_own_literal(analyse: Analyse) -> None:
    assert (await analyse("SELECT id FROM claims LIMIT 3")).facts.row_bound == 3
    assert (await analyse("SELECT id FROM claims LIMIT 30000")).facts.row_bound == 30000


async def test_schema_changes_are_seen_when_they_are_looked_for(
    analyst: PostgresAnalyst, analyse: Analyse, scratch_dsn: str
) -> None:
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute("CREATE VIEW changing AS SELECT zip AS v FROM patients")
        before = await analyse("SELECT v FROM changing")
        connection.execute("CREATE OR REPLACE VIEW changing AS SELECT ssn::text AS v FROM patients")
        (side,) = analyst._sides.values()
        await side.check(time.monotonic())
        after = await analyse("SELECT v FROM changing")
        connection.execute("DROP VIEW changing")

    assert before.outputs is not None
    assert after.outputs is not None
    assert "public.patients.zip" in {str(origin.column) for origin in before.outputs[0].origins}
    assert "public.patients.ssn" in {str(origin.column) for origin in after.outputs[0].origins}


async def test_columns_are_told_anew_for_another_schema(
    analyst: PostgresAnalyst, analyse: Analyse, scratch_dsn: str
) -> None:
    """What a column is, its own name and those of its relatives, is remembered with the catalogue and no longer."""
    text = "SELECT a FROM told WHERE a > 1"
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS told CASCADE; CREATE TABLE told (a int, b int)")
        before = [await analyse(text), await analyse("SELECT a AS again FROM told WHERE a > 1")]
        connection.execute("CREATE TABLE told_more () INHERITS (told)")
        (side,) = analyst._sides.values()
        await side.check(time.monotonic())
        inherited = await analyse(text)
        connection.execute("ALTER TABLE told RENAME a TO c; ALTER TABLE told RENAME b TO a")
        await side.check(time.monotonic())
        renamed = await analyse("SELECT c FROM told WHERE c > 1")
        connection.execute("DROP TABLE told CASCADE")

    assert [set(map(str, each.reads)) for each in before] == [{"public.told.a"}] * 2
    assert set(map(str, inherited.reads)) == {"public.told.a", "public.told_more.a"}
    assert set(map(str, renamed.reads)) == {"public.told.c", "public.told_more.c"}


async def test_parent_of_a_protected_tables_child_holds_its_rows(analyse: Analyse, scratch_dsn: str) -> None:
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (a int); CREATE TABLE other (a int, b int)")
        connection.execute(
            "CREATE TABLE kept_more () INHERITS (kept); CREATE TABLE both_of () INHERITS (other, kept_more)"
        )
        read = [await analyse(f"SELECT a FROM {name}") for name in ("other", "kept", "both_of")]
        unrelated = await analyse("SELECT b FROM other")
        connection.execute("DROP TABLE kept, other, kept_more, both_of")

    family = {"public.kept.a", "public.other.a", "public.kept_more.a", "public.both_of.a"}
    assert [set(map(str, each.reads)) for each in read] == [family] * 3
    assert set(map(str, unrelated.reads)) == {"public.other.b", "public.both_of.b"}


async def test_schema_that_changes_during_an_estimate_leaves_nothing_of_the_old_one(
    analyse: Analyse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for an estimate can take as long as somebody's ALTER TABLE holds its lock."""
    text, plan = "SELECT city FROM patients", PostgresSide.plan

    async def meanwhile(side: PostgresSide, question: Question) -> object:
        found = await plan(side, question)
        assert side.catalogue is not None
        side._adopt(replace(side.catalogue))
        return found

    with monkeypatch.context() as changing:
        changing.setattr(PostgresSide, "plan", meanwhile)
        during = await analyse(text)
    after = await analyse(text)

    assert not during.complete
    assert after.complete
    assert after.facts.estimated_rows is not None


# --- names -----------------------------------------------------------------------------------------------------------


async def test_execute_takes_over_what_was_prepared(
    analyst: PostgresAnalyst, analyse: Analyse, session_context: SessionContext
) -> None:
    prepared = await analyse("PREPARE q (int) AS SELECT ssn FROM patients WHERE id = $1")
    assert prepared.inner is not None
    assert prepared.inner.statement == Statement(
        " SELECT ssn FROM patients WHERE id = $1".strip(), parameter_types=(23,)
    )
    session_context.prepared[prepared.name] = prepared.inner

    executed = await analyse("EXECUTE q(1)")

    assert executed.complete, executed.problems
    assert (executed.kind, executed.operations) == ("EXECUTE", {Operation.READ})
    assert executed.outputs == prepared.inner.outputs


@pytest.mark.parametrize(
    ("arguments", "complete"),
    [
        ("1 + 1", True),
        ("'1'::int", True),
        ("extract(year FROM now())::int", True),
        ("$1", True),
        ("pg_read_file('x')::int", False),
        ("(SELECT id FROM patients LIMIT 1)", False),
        ("nextval('clinical_notes_id_seq')::int", False),
        ("set_config('search_path', 'x', false)::int", False),
    ],
)
async def test_arguments_of_execute_may_compute_and_no_more(
    analyse: Analyse, session_context: SessionContext, arguments: str, complete: bool
) -> None:
    prepared = await analyse("PREPARE q (int) AS SELECT ssn FROM patients WHERE id = $1")
    assert prepared.inner is not None
    session_context.prepared["q"] = prepared.inner

    try:
        executed = await analyse(f"EXECUTE q({arguments})")
    except UpstreamRejected:
        assert not complete
    else:
        assert executed.complete is complete, executed.problems


async def test_explaining_an_execution_tells_of_what_steers_it(
    analyse: Analyse, session_context: SessionContext
) -> None:
    prepared = await analyse("PREPARE q (text) AS UPDATE patients SET zip = '' WHERE ssn = $1 RETURNING id")
    assert prepared.inner is not None
    session_context.prepared["q"] = prepared.inner

    planned, run = await analyse("EXPLAIN EXECUTE q('1')"), await analyse("EXPLAIN (ANALYZE) EXECUTE q('1')")

    assert planned.complete, planned.problems
    assert (planned.kind, planned.operations, planned.tables_written) == ("EXPLAIN", {Operation.READ}, frozenset())
    assert (run.kind, run.operations) == ("EXPLAIN_ANALYZE", {Operation.READ, Operation.WRITE})
    assert run.writes
    for analysis in (planned, run):
        assert analysis.outputs is not None
        assert [str(origin.column) for origin in analysis.outputs[0].origins] == ["public.patients.ssn"]
        assert analysis.inner is not None


async def test_fetch_takes_over_what_was_declared(analyse: Analyse, session_context: SessionContext) -> None:
    declared = await analyse("DECLARE c CURSOR FOR SELECT ssn FROM patients")
    assert declared.inner is not None
    session_context.cursors[declared.name] = declared.inner

    fetched = {text: await analyse(text) for text in ("FETCH c", "FETCH 5 FROM c", "FETCH ALL IN c", "MOVE ALL IN c")}

    assert [analysis.facts.row_bound for analysis in fetched.values()] == [1, 5, None, 0]
    assert all(analysis.complete for analysis in fetched.values())
    assert fetched["FETCH c"].outputs == declared.inner.outputs
    assert fetched["MOVE ALL IN c"].outputs is None


async def test_a_cursor_declared_in_doubt_stays_in_doubt(analyse: Analyse, session_context: SessionContext) -> None:
    session_context.uncommitted_definitions = True
    declared = await analyse("DECLARE c CURSOR WITH HOLD FOR SELECT ssn FROM patients")
    session_context.uncommitted_definitions = False
    assert declared.inner is not None
    session_context.cursors["c"] = declared.inner

    assert not (await analyse("FETCH ALL FROM c")).complete


async def test_temporary_relations_end_completeness(analyse: Analyse, session_context: SessionContext) -> None:
    assert (await analyse("CREATE TEMP TABLE patients AS SELECT 1")).creates_temp
    session_context.temp_relations = True

    analysis = await analyse("SELECT ssn FROM patients WHERE id = 1")

    assert not analysis.complete
    assert all(not output.resolved for output in analysis.outputs or ())


async def test_uncommitted_definitions_end_completeness_until_the_transaction_does(
    analyse: Analyse, session_context: SessionContext
) -> None:
    session_context.uncommitted_definitions = True
    inside = await analyse("SELECT ssn FROM patients WHERE id = 1")
    rollback = await analyse("ROLLBACK")

    session_context.uncommitted_definitions = False
    after = await analyse("SELECT ssn FROM patients WHERE id = 1")

    assert (inside.complete, rollback.complete, after.complete) == (False, True, True)


async def test_definitions_changed_by_the_session_are_seen_by_its_next_statement(
    analyse: Analyse, scratch_dsn: str
) -> None:
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute("CREATE VIEW moving AS SELECT zip AS v FROM patients")
        await analyse("SELECT v FROM moving")
        change = "CREATE OR REPLACE VIEW moving AS SELECT ssn::text AS v FROM patients"
        await analyse(change)
        connection.execute(change.encode())
        after = await analyse("SELECT v FROM moving")
        connection.execute("DROP VIEW moving")

    assert after.outputs is not None
    assert "public.patients.ssn" in {str(origin.column) for origin in after.outputs[0].origins}


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TEMP TABLE t (a int)",
        "CREATE TABLE pg_temp.patients (a int)",
        'CREATE VIEW "pg_temp".v AS SELECT 1',
        "SELECT 1 INTO TEMP t",
        "SELECT 1 INTO pg_temp.t",
        "DO $$ BEGIN END $$",
    ],
)
async def test_temporary_relations_are_announced(analyse: Analyse, text: str) -> None:
    assert (await analyse(text)).creates_temp


async def test_deep_nesting_is_incomplete_not_a_crash(analyse: Analyse) -> None:
    assert not (await analyse("SELECT " + "(" * 3000 + "1" + ")" * 3000)).complete
    assert not (await analyse("SELECT " + "NOT " * 3000 + "true")).complete
    await analyse("SELECT 1" + " || 'x'" * 1500)
    await analyse("SELECT id FROM patients WHERE " + " OR ".join(["id = 1"] * 2000))


async def test_an_unreachable_database_is_incomplete(session_context: SessionContext) -> None:
    async def dsn_for(_spec: object) -> str:
        return "host=127.0.0.1 port=1 user=nobody dbname=nowhere connect_timeout=1"

    lonely = PostgresAnalyst(dsn_for)

    analysis = await lonely.analyse(session_context, Statement("SELECT 1"))

    assert not analysis.complete
    assert Operation.ADMIN in analysis.operations


@pytest.mark.parametrize(
    "changed",
    [{"sealed_credential": b"new"}, {"settings": MappingProxyType({"requirepeer": "postgres"})}, {"tls": "require"}],
    ids=["secret", "peer", "tls"],
)
async def test_what_a_connection_says_anew_holds_for_the_next_statement(
    scratch_dsn: str, session_context: SessionContext, changed: dict[str, Any]
) -> None:
    """A side keeps its connections, and dialled new ones by what the connection said when the side was made."""
    asked = []

    async def dsn_for(spec: ConnectionSpec) -> str:
        asked.append(spec)
        return scratch_dsn

    analyst = PostgresAnalyst(dsn_for)
    before = session_context.connection
    after = replace(before, **changed)
    for spec in (before, before, after):
        session_context.connection = spec
        assert (await analyst.analyse(session_context, Statement("SELECT 1"))).complete
    await analyst.close()

    assert list(dict.fromkeys(map(id, asked))) == [id(before), id(after)]


async def test_two_phase_commit_is_a_write_that_only_its_own_session_may_end(
    analyse: Analyse, session_context: SessionContext
) -> None:
    prepared = await analyse("PREPARE TRANSACTION 'x'")
    strange = await analyse("COMMIT PREPARED 'x'")
    session_context.prepared_transactions.add("x")
    own = await analyse("ROLLBACK PREPARED 'x'")

    assert (prepared.complete, prepared.operations) == (True, {Operation.WRITE})
    assert not strange.complete
    assert (own.complete, own.operations) == (True, {Operation.WRITE})


async def _recalled(analyst: PostgresAnalyst, session: SessionContext, text: str) -> Recollected:
    for _ in range(2):  # the first one reads the catalogue, the second watches it
        await analyst.analyse(session, Statement(text))
    found = analyst.recall(session, text, ())
    assert found is not None
    recollected = analyst.recollect(session, text, (), found)
    assert recollected is not None
    assert recollected.holds()
    return recollected


@pytest.mark.parametrize("change", ["role", "search_path", "temp", "uncommitted", "ddl", "schema", "stale"])
async def test_recollection_ends_with_what_it_is_about(
    analyst: PostgresAnalyst, session_context: SessionContext, change: str
) -> None:
    text = "SELECT count(*) FROM guesses"
    recollected = await _recalled(analyst, session_context, text)
    (side,) = analyst._sides.values()

    match change:
        case "role":
            session_context.role = "somebody"
        case "search_path":
            session_context.search_path = "elsewhere"
        case "temp":
            session_context.temp_relations = True
        case "uncommitted":
            session_context.uncommitted_definitions = True
        case "ddl":
            await analyst.analyse(session_context, Statement("CREATE TABLE guesses_again (a int)"))
        case "schema":
            side.forget()
        case "stale":
            side._checked_at -= 10

    assert not recollected.holds()
    assert analyst.recall(session_context, text, ()) is None


async def test_recollection_is_about_a_shape_only_where_literals_change_nothing(
    analyst: PostgresAnalyst, session_context: SessionContext
) -> None:
    bounded = "SELECT id FROM other.patients WHERE id = 7 LIMIT 5"

    assert (await _recalled(analyst, session_context, bounded)).shape == ""
    counted = await _recalled(analyst, session_context, "SELECT count(*) FROM other.patients WHERE id = 7")
    assert counted.shape == "SELECT count(*) FROM other.patients WHERE id = \0"


async def test_what_is_asked_of_every_statement_is_planned_once(scratch_dsn: str) -> None:
    connection = await psycopg.AsyncConnection.connect(scratch_dsn, autocommit=True)
    try:
        await prepare(connection)
        catalogue = await load_catalogue(connection)
        for number in range(3):
            await ask(connection, Question(f"SELECT id AS a{number} FROM patients"), catalogue)
        planned = await connection.execute(
            "SELECT name, custom_plans, generic_plans FROM pg_prepared_statements WHERE name = 'hoopweb_read_back'"
        )

        assert await planned.fetchall() == [("hoopweb_read_back", 0, 3)]
    finally:
        await connection.close()
