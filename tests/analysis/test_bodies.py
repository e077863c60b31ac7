"""User functions on a real PostgreSQL: followed where the database keeps their body, believed where a person speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import psycopg
import pytest
import pytest_asyncio

from analysis.classified import parse_classified
from analysis.statement import Analysis, ColumnRef, Operation, PredicateUse, Statement, Transform
from gateway.session.context import SessionContext
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from gateway.upstreams.postgres_definitions import CODE_QUERY
from tests.analysis.conftest import analyst_of

FUNCTIONS = """
DROP SCHEMA IF EXISTS f CASCADE;
CREATE SCHEMA f;
CREATE FUNCTION f.slug(t text) RETURNS text LANGUAGE sql RETURN lower(trim(t));
CREATE FUNCTION f.ssn_of(i int) RETURNS text LANGUAGE sql RETURN (SELECT ssn FROM public.patients WHERE id = i);
CREATE FUNCTION f.deeper(i int) RETURNS text LANGUAGE sql RETURN f.slug(f.ssn_of(i));
CREATE FUNCTION f.is_known(s text) RETURNS boolean LANGUAGE sql
    BEGIN ATOMIC SELECT EXISTS (SELECT 1 FROM public.patients WHERE ssn = s); END;
CREATE FUNCTION f.people() RETURNS SETOF public.patients LANGUAGE sql BEGIN ATOMIC SELECT * FROM public.patients; END;
CREATE FUNCTION f.cities(s text) RETURNS TABLE (a text, b text) LANGUAGE sql
    BEGIN ATOMIC SELECT city, state FROM public.patients WHERE ssn > s; END;
CREATE FUNCTION f.everything() RETURNS text LANGUAGE sql RETURN (SELECT string_agg(city, ',') FROM public.patients);
CREATE FUNCTION f.forget(i int) RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM public.guesses; END;
CREATE FUNCTION f.twice(i int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;
CREATE FUNCTION f.texted(i int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.patients WHERE id = $1';
CREATE FUNCTION f.hidden(i int) RETURNS text LANGUAGE sql RETURN f.texted(i);
CREATE FUNCTION f.defaulted(t text DEFAULT f.texted(1)) RETURNS text LANGUAGE sql RETURN t;
CREATE FUNCTION f.coded(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN t; END $$;
CREATE FUNCTION f.coded(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN f.texted(i); END $$;
CREATE FUNCTION f.label(i int) RETURNS text LANGUAGE sql AS 'SELECT guess FROM guesses';
CREATE FUNCTION f.fixed(i int) RETURNS text LANGUAGE sql SET search_path = public, pg_temp
    AS 'SELECT guess FROM guesses';
CREATE VIEW f.states AS SELECT id, state AS s FROM public.patients;
CREATE FUNCTION f.outer(i int) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN RETURN F.Inner(i) || (SELECT s FROM f.states); END $$;
CREATE FUNCTION f.inner(i int) RETURNS text LANGUAGE sql AS $$ SELECT 'a' || 'b' $$;
CREATE FUNCTION f.files() RETURNS text LANGUAGE sql RETURN pg_read_file('/etc/hostname');
CREATE FUNCTION f.stats() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM pg_stats);
CREATE FUNCTION f.same(a text, b text) RETURNS boolean LANGUAGE sql RETURN a = b;
CREATE OPERATOR f.~~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = f.same);
CREATE FUNCTION f.tested(i int) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN RETURN (SELECT guess OPERATOR(f.~~~) 'a' FROM public.guesses); END $$;
CREATE VIEW f.shown AS SELECT id, f.slug(ssn) AS s FROM public.patients;
"""
SSN = ColumnRef("public", "patients", "ssn")
PATIENT_ID = ColumnRef("public", "patients", "id")


@pytest.fixture(scope="module")
def functions_dsn(scratch_dsn: str) -> Iterator[str]:
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute(FUNCTIONS)
        yield scratch_dsn
        connection.execute("DROP SCHEMA f CASCADE")


class Asker:
    def __init__(self, analyst: PostgresAnalyst, context: SessionContext) -> None:
        self._analyst, self.context = analyst, context

    async def __call__(self, text: str, *, functions: str = "") -> Analysis:
        self.context.connection = replace(self.context.connection, settings={"functions": functions})
        return await self._analyst.analyse(self.context, Statement(text))


@pytest_asyncio.fixture
async def ask(functions_dsn: str, session_context: SessionContext) -> AsyncIterator[Asker]:
    analyst = analyst_of(functions_dsn)
    yield Asker(analyst, session_context)
    await analyst.close()


def origins(analysis: Analysis) -> dict[ColumnRef, str]:
    (output,) = analysis.outputs or ()
    return {origin.column: origin.transform for origin in output.origins}


async def test_function_that_only_computes_is_no_more_than_its_arguments(ask: Asker) -> None:
    found = await ask("SELECT f.slug(state) FROM patients")

    assert found.complete, found.problems
    assert origins(found) == {ColumnRef("public", "patients", "state"): Transform.DERIVED}
    assert found.functions >= {"f.slug"}
    assert not found.opaque_functions


@pytest.mark.parametrize(
    "call", ["f.ssn_of(1)", "f.deeper(1)", "f.is_known('536')", "(SELECT f.ssn_of(id) FROM claims)"]
)
async def test_call_is_made_of_every_column_behind_it(ask: Asker, call: str) -> None:
    found = await ask(f"SELECT {call}")

    assert found.complete, found.problems
    assert origins(found)[SSN] == Transform.DERIVED
    assert SSN in found.reads
    assert any(table.table == "patients" for table in found.tables_read)
    assert any(p.column == SSN and p.use is PredicateUse.COMPUTED for p in found.predicates)


@pytest.mark.parametrize(
    "text",
    ["SELECT b FROM f.cities('5')", "SELECT c FROM f.cities('5') c", "SELECT (f.cities('5')).a", "SELECT f.people()"],
)
async def test_rows_of_a_function_are_made_of_all_it_reads(ask: Asker, text: str) -> None:
    found = await ask(text)

    assert found.complete, found.problems
    assert SSN in origins(found)


async def test_view_over_a_function_is_followed(ask: Asker) -> None:
    found = await ask("SELECT s FROM f.shown")

    assert found.complete, found.problems
    assert SSN in origins(found)


async def test_condition_on_a_function_asks_about_its_columns(ask: Asker) -> None:
    found = await ask("SELECT id FROM claims WHERE f.is_known('536-71-9284')")

    assert any(predicate.column == SSN for predicate in found.predicates)


@pytest.mark.parametrize(
    "call",
    ["f.texted(1)", "f.hidden(1)", "f.defaulted()", "f.coded('x')", "f.files()", "f.stats()", "f.twice(1)",
     "f.forget(1)", "f.everything()", "ssn FROM f.people()", "'a' OPERATOR(f.~~~) 'b'",
     "f.same('a', 'b') AND 'a' OPERATOR(f.~~~) 'b'"],
)  # fmt: skip
async def test_what_cannot_be_followed_stays_opaque(ask: Asker, call: str) -> None:
    found = await ask(f"SELECT {call}")

    assert not found.complete


async def test_body_that_changes_is_read_again(ask: Asker, functions_dsn: str) -> None:
    with psycopg.connect(functions_dsn, autocommit=True) as connection:
        connection.execute("CREATE FUNCTION f.changing() RETURNS text LANGUAGE sql RETURN 'harmless'::text")
        before = await ask("SELECT f.changing()")
        body = "(SELECT max(ssn) FROM public.patients)"
        connection.execute(f"CREATE OR REPLACE FUNCTION f.changing() RETURNS text LANGUAGE sql RETURN {body}")
        ask.context.uncommitted_definitions = True  # look at once, as after a statement that may have changed it
        await ask("SELECT 1")
        ask.context.uncommitted_definitions = False
        after = await ask("SELECT f.changing()")

    assert origins(before) == {}
    assert SSN in origins(after)


def word(dsn: str, function: str, columns: str = "") -> str:
    """What a person would say of a function as it is now."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        digests = {label: digest for _, label, _, digest, *_ in connection.execute(CODE_QUERY.encode())}
    return f"{function} = {digests[function]}: {columns};"


async def test_persons_word_makes_a_function_known(ask: Asker, functions_dsn: str) -> None:
    unclassified = await ask("SELECT f.coded(state), f.texted(1) FROM patients")
    words = word(functions_dsn, "f.coded(text)") + word(
        functions_dsn, "f.texted(int4)", "public.patients.ssn, public.patients.id"
    )
    found = await ask("SELECT f.coded(state), f.texted(1) FROM patients", functions=words)

    assert not unclassified.complete
    assert found.complete, found.problems
    coded, texted = found.outputs or ()
    assert {origin.column.column for origin in coded.origins} == {"state"}
    assert {origin.column for origin in texted.origins} == {SSN, PATIENT_ID}
    assert found.operations == {Operation.READ}


@pytest.mark.parametrize("column", ["public.patients.gone", "f.shown.s"])
async def test_word_about_columns_that_are_not_stored_counts_for_nothing(
    ask: Asker, functions_dsn: str, column: str
) -> None:
    found = await ask("SELECT f.coded('x')", functions=word(functions_dsn, "f.coded(text)", column))

    assert not found.complete


async def test_word_is_about_one_of_several_functions_of_a_name(ask: Asker, functions_dsn: str) -> None:
    words = word(functions_dsn, "f.coded(text)")

    assert (await ask("SELECT f.coded('x')", functions=words)).complete
    assert not (await ask("SELECT f.coded(1)", functions=words)).complete


SAME = "CREATE OR REPLACE FUNCTION f.inner(i int) RETURNS text LANGUAGE sql AS $$ SELECT 'a' || 'b' $$"


@pytest.mark.parametrize(
    ("said", "change", "undo"),
    [
        (
            ("f.outer(1)", "f.outer(int4)"),
            "CREATE OR REPLACE FUNCTION f.inner(i int) RETURNS text LANGUAGE sql AS "
            "$$ SELECT ssn FROM public.patients WHERE id = i $$",
            SAME,
        ),
        (("f.inner(1)", "f.inner(int4)"), "ALTER FUNCTION f.inner(int) SET search_path = f", SAME),
        (("f.inner(1)", "f.inner(int4)"), "ALTER FUNCTION f.inner(int) SECURITY DEFINER", SAME),
        (
            ("f.outer(1)", "f.outer(int4)"),
            "CREATE OR REPLACE VIEW f.states AS SELECT id, ssn::text AS s FROM public.patients",
            "CREATE OR REPLACE VIEW f.states AS SELECT id, state AS s FROM public.patients",
        ),
        (
            ("f.outer(1)", "f.outer(int4)"),
            "CREATE FUNCTION f.inner(i bigint) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.patients'",
            "DROP FUNCTION f.inner(bigint)",
        ),
        (
            ("f.tested(1)", "f.tested(int4)"),
            "CREATE OR REPLACE FUNCTION f.same(a text, b text) RETURNS boolean LANGUAGE sql RETURN a <> b",
            "CREATE OR REPLACE FUNCTION f.same(a text, b text) RETURNS boolean LANGUAGE sql RETURN a = b",
        ),
    ],
    ids=["called", "configuration", "security", "view", "overload", "operator"],
)
async def test_word_ends_with_the_code_it_was_about(
    ask: Asker, functions_dsn: str, said: tuple[str, str], change: str, undo: str
) -> None:
    called, function = said
    words = word(functions_dsn, function)
    before = await ask(f"SELECT {called}", functions=words)
    with psycopg.connect(functions_dsn, autocommit=True) as connection:
        connection.execute(change.encode())
        ask.context.connection = replace(ask.context.connection, name="looks-anew")
        after = await ask(f"SELECT {called}", functions=words)
        connection.execute(undo.encode())
        ask.context.connection = replace(ask.context.connection, name="looks-once-more")
        again = await ask(f"SELECT {called}", functions=words)

    assert before.complete, before.problems
    assert not after.complete
    assert any("is not what a person classified" in problem for problem in after.problems)
    assert again.complete, "the same code again, expected the same word to hold"


async def test_words_of_text_hold_where_names_mean_what_they_usually_mean(ask: Asker, functions_dsn: str) -> None:
    words = word(functions_dsn, "f.label(int4)") + word(functions_dsn, "f.fixed(int4)")
    usual = await ask("SELECT f.label(1), f.fixed(1)", functions=words)
    ask.context.search_path = "f, public"

    assert usual.complete, usual.problems
    assert not (await ask("SELECT f.label(1)", functions=words)).complete
    assert (await ask("SELECT f.fixed(1)", functions=words)).complete


@pytest.mark.parametrize(
    "text",
    ["public.slug(text):", "public.slug = " + "0" * 64 + ":", "a.b() = 12:", *(
        f"a.b() = {'0' * 64}:{rest}" for rest in (f"; a.b() = {'0' * 64}:", " c.d", " c.d.e.f", " c..e"))],
)  # fmt: skip
def test_unclear_words_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_classified(text)
