"""A result that turns out larger than the planner made believe ends before the row nobody allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from analysis.statement import Analysis, Operation, Statement
from approvals.domain.conditions import Condition
from approvals.domain.decide import Action, PolicyRule
from approvals.domain.request import ReviewerGroup
from gateway.domain.snapshot import Snapshot
from gateway.session.context import SessionContext
from tests.gateway.listeners.harness import Gateway, TableAnalyst

CAP = 100
BULK = PolicyRule(
    "bulk",
    ("people",),
    Action.REQUIRE_APPROVAL,
    Condition(operation=frozenset({Operation.READ}), rows_over=CAP),
    reviewers=(ReviewerGroup("privacy-officers"),),
)


class FooledAnalyst(TableAnalyst):
    """Expects five rows of everything, as the planner does of BETWEEN $1 AND $2."""

    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        found = await super().analyse(session, statement)
        return replace(found, facts=replace(found.facts, estimated_rows=5))

    def recall(self, session: SessionContext, text: str, parameter_types: tuple[int, ...]) -> Analysis | None:
        return None


class CappedGateway(Gateway):
    def snapshot(self) -> Snapshot:
        rules = super().snapshot()
        return replace(rules, policies=(*rules.policies, BULK))


@pytest.fixture
async def fooled() -> AsyncIterator[Gateway]:
    running = await CappedGateway().start()
    running.services.analysts["postgres"] = FooledAnalyst()
    yield running
    await running.stop()


async def test_more_rows_than_the_cap_end_the_result(fooled: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(fooled.dsn(), autocommit=True) as connection:
        with pytest.raises(psycopg.Error, match="more than the 100 rows that need no reviewer"):
            await connection.execute("SELECT id FROM people WHERE id BETWEEN %s AND %s", (1, 1000))

    completed = fooled.record.of("statement.completed")[0].body
    assert completed["status"] == "failed"
    assert completed["rows"] <= CAP


async def test_as_many_rows_as_the_cap_pass(fooled: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(fooled.dsn(), autocommit=True) as connection:
        answer = await connection.execute("SELECT id FROM people WHERE id BETWEEN %s AND %s", (1, CAP))

        assert len(await answer.fetchall()) == CAP


async def test_control_without_the_policy_the_same_statement_passes_whole(gateway: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(gateway.dsn(), autocommit=True) as connection:
        answer = await connection.execute("SELECT id FROM people WHERE id BETWEEN %s AND %s", (1, 1000))

        assert len(await answer.fetchall()) == 1000
