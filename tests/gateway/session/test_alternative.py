"""The alternative a held or denied client is given was decided to be allowed; nothing of it reaches the record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.statement import Analysis
from approvals.domain.decide import Action, Condition, PolicyRule
from approvals.domain.request import ReviewerGroup
from gateway.session.context import StatementRequest
from gateway.session.pipeline import run_statement
from tests.gateway.session.doors import World, analysed, snapshot

BULK = PolicyRule(
    name="bulk",
    connections=("clinic",),
    action=Action.REQUIRE_APPROVAL,
    when=Condition(rows_over=50),
    reviewers=(ReviewerGroup("privacy-officers"),),
)
SQL = "SELECT city FROM patients WHERE city = 'canary-city'"


def bounded(text: str) -> Analysis:
    """At most as many rows as its LIMIT says."""
    found = analysed(text)
    limit = text.rpartition("LIMIT ")[2]
    return replace(found, facts=replace(found.facts, row_bound=int(limit) if limit.isdigit() else None))


def world_with(policy: PolicyRule) -> World:
    world = World()
    world.rules.value = snapshot(policies=(policy,))
    world.analyst.answer = bounded
    return world


@pytest.mark.parametrize("action", [Action.REQUIRE_APPROVAL, Action.DENY])
async def test_alternative_would_run(action: Action) -> None:
    world = world_with(replace(BULK, action=action, reviewers=BULK.reviewers if action is not Action.DENY else ()))
    await run_statement(world.services, world.session, StatementRequest(SQL), world.client)
    [told] = world.client.pending or world.client.denials
    assert told.permitted_statement == f"{SQL} LIMIT 50"

    permit = await run_statement(
        world.services, world.session, StatementRequest(told.permitted_statement), world.client
    )

    assert permit is not None
    assert "canary-city" not in repr([entry.body for entry in world.log.entries])


async def test_nothing_is_told_where_no_smaller_statement_is_allowed() -> None:
    world = world_with(replace(BULK, when=Condition()))

    await run_statement(world.services, world.session, StatementRequest(SQL), world.client)

    assert [told.permitted_statement for told in world.client.pending] == [""]


async def test_bound_values_have_no_alternative() -> None:
    world = world_with(BULK)
    request = StatementRequest("SELECT city FROM patients WHERE id = $1", parameters=(b"1",), parameter_types=(23,))

    await run_statement(world.services, world.session, request, world.client)

    assert [told.permitted_statement for told in world.client.pending] == [""]
