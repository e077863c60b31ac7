"""Dry runs: recorded, and no oracle over the planner's statistics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.statement import Analysis, ColumnRef, Predicate, PredicateUse
from approvals.domain.decide import Action, Condition, PolicyRule
from approvals.domain.request import ReviewerGroup
from gateway.listeners.explain import explain_statement
from gateway.listeners.relay_transport import Frame, RelayRequest
from tests.gateway.session.doors import CITY, SSN, World, analysed, snapshot

BULK = PolicyRule(
    name="bulk-reads",
    connections=("clinic",),
    action=Action.REQUIRE_APPROVAL,
    when=Condition(rows_over=1000),
    reviewers=(ReviewerGroup("privacy-officers"),),
)


def world_expecting(rows: int, column: ColumnRef) -> World:
    world = World()
    world.rules.value = snapshot(policies=(BULK,))

    def answer(text: str) -> Analysis:
        found = analysed(text, column=column)
        asked = Predicate(column, PredicateUse.COMPARISON)
        return replace(found, facts=replace(found.facts, estimated_rows=rows), predicates=(asked,))

    world.analyst.answer = answer
    return world


async def explained(world: World) -> Frame:
    spec = world.rules.value.connections["clinic"]
    request = RelayRequest(connection="clinic", statement="select city from patients where ssn < 'x'")
    return await explain_statement(world.services, world.session.principal, spec, request)


async def test_dry_run_over_protected_columns_does_not_depend_on_the_planners_estimate() -> None:
    few, many = world_expecting(3, CITY), world_expecting(3000, CITY)
    told = [await explained(few), await explained(many)]
    assert [frame["facts"]["estimated_rows"] for frame in told] == [3, 3000]  # the estimate is there to be told
    assert [frame["decision"]["action"] for frame in told] == ["allow", "require_approval"]

    protected = [await explained(world_expecting(rows, SSN)) for rows in (3, 3000)]

    assert protected[0] == protected[1]
    assert protected[0]["facts"]["estimated_rows"] is None


async def test_dry_run_is_recorded_with_its_text() -> None:
    world = world_expecting(3, SSN)

    await explained(world)

    entry = world.log.entries[-1]
    assert (entry.kind, entry.body["subject"]) == ("statement.explained", world.session.principal.subject)
    assert entry.sensitive == {"statement": "select city from patients where ssn < 'x'"}


async def test_dry_run_that_cannot_be_recorded_is_not_answered() -> None:
    world = world_expecting(3, SSN)
    world.log.broken = True

    with pytest.raises(OSError, match="no space"):
        await explained(world)
