"""Relations made of a query: never complete, but where a person lets one be made its columns are known."""

from __future__ import annotations

import pytest

from analysis.statement import NOT_YET
from gateway.session.context import SessionContext
from tests.analysis.conftest import Analyse


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

    assert not found.complete
    assert {str(flow.column) for flow in found.flows if flow.origin.column.column == "ssn"} == taken
    assert {flow.relation for flow in found.flows} <= {NOT_YET}


async def test_relation_is_made_where_the_session_makes_its_own(
    analyse: Analyse, session_context: SessionContext
) -> None:
    session_context.search_path = "other, public"

    found = await analyse("CREATE TABLE loot AS SELECT ssn FROM public.patients")

    assert {str(flow.column) for flow in found.flows} == {"other.loot.ssn"}
