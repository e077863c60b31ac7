"""Relations made of a query: what their columns take in is known, and what they are made of counts as read."""

from __future__ import annotations

import pytest

from analysis.statement import NOT_YET, Operation
from gateway.session.context import SessionContext
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.analysis.conftest import Analyse

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def analyst(lasting_analyst: PostgresAnalyst) -> PostgresAnalyst:
    return lasting_analyst


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("CREATE TABLE loot AS SELECT id, ssn FROM patients", {"public.loot.ssn"}),
        ("CREATE UNLOGGED TABLE loot AS SELECT reverse(ssn) FROM patients", {"public.loot.reverse"}),
        ("CREATE TABLE IF NOT EXISTS other.loot (a, b) AS SELECT id, ssn FROM patients", {"other.loot.b"}),
        ('CREATE TABLE "L" (a) AS SELECT ssn, ssn AS z FROM patients WITH NO DATA', {"public.L.a", "public.L.z"}),
        ("CREATE TABLE loot TABLESPACE pg_default AS TABLE patients", {"public.loot.ssn"}),
        ("SELECT ssn AS y, 1 AS one INTO loot FROM patients", {"public.loot.y"}),
        ("SELECT ssn INTO UNLOGGED TABLE other.loot FROM patients", {"other.loot.ssn"}),
        ("CREATE MATERIALIZED VIEW v (a) AS SELECT max(ssn) FROM patients", {"public.v.a"}),
        ("CREATE VIEW v AS SELECT ssn FROM patients", set()),
        ("CREATE TABLE loot AS SELECT 1 AS ssn", set()),
    ],
)  # fmt: skip
async def test_relation_made_of_a_query_takes_in_what_the_query_shows(
    analyse: Analyse, text: str, taken: set[str]
) -> None:
    found = await analyse(text)

    assert found.complete or "TABLESPACE" in text
    assert Operation.DDL in found.operations
    assert {str(flow.column) for flow in found.flows if flow.origin.column.column == "ssn"} == taken
    assert {flow.relation for flow in found.flows} <= {NOT_YET}


async def test_relation_is_made_where_the_session_makes_its_own(
    analyse: Analyse, session_context: SessionContext
) -> None:
    session_context.search_path = "other, public"

    found = await analyse("CREATE TABLE loot AS SELECT ssn FROM public.patients")

    assert {str(flow.column) for flow in found.flows} == {"other.loot.ssn"}


@pytest.mark.parametrize(
    "text",
    [
        "CREATE VIEW v AS SELECT ssn AS x FROM patients",
        "CREATE VIEW v AS SELECT id FROM patients WHERE ssn LIKE '5%'",
        "CREATE VIEW v AS SELECT count(ssn) AS n FROM patients",
        "CREATE VIEW v AS SELECT to_jsonb(p) AS j FROM patients p",
        "CREATE VIEW v AS SELECT p AS whole FROM patients p",
        "CREATE VIEW v AS SELECT id FROM patients ORDER BY ssn",
        "CREATE TABLE t AS TABLE patients",
        "CREATE TABLE t AS SELECT (SELECT max(ssn) FROM patients) AS m",
        "CREATE TABLE t AS WITH s AS (SELECT * FROM patients) SELECT reverse(s.ssn) AS r FROM s",
        "SELECT p.id INTO t FROM patients p JOIN patients q USING (ssn)",
        "CREATE MATERIALIZED VIEW v AS SELECT id FROM patients GROUP BY id, ssn",
        "CREATE TABLE t AS SELECT id FROM claims WHERE EXISTS (SELECT FROM patients WHERE ssn = 'x')",
    ],
)
async def test_whatever_it_is_made_of_counts_as_read(analyse: Analyse, text: str) -> None:
    found = await analyse(text)

    met = found.reads | {predicate.column for predicate in found.predicates}
    assert "public.patients.ssn" in set(map(str, met))


@pytest.mark.parametrize("path", ["pg_temp, public", "nowhere", ""])
async def test_relation_that_nobody_else_may_see_is_not_read(
    analyse: Analyse, session_context: SessionContext, path: str
) -> None:
    session_context.search_path = path or '""'

    assert not (await analyse("CREATE TABLE t AS SELECT id FROM public.claims")).complete
    assert not (await analyse("CREATE VIEW t AS SELECT id FROM public.claims")).complete
    assert (await analyse("CREATE TABLE public.t AS SELECT id FROM public.claims")).complete
