"""A masked value that comes back in a write would destroy the real one: refused, whatever the policies say."""

from __future__ import annotations

import pytest

from analysis.statement import ColumnRef, Operation
from gateway.session.context import StatementRequest
from gateway.session.pipeline import run_statement
from tests.gateway.session.doors import CITY, SSN, World, analysed

LITERAL = StatementRequest("update patients set ssn = '[REDACTED]' where id = 1")
PARAMETER = StatementRequest("update patients set ssn = $1 where id = 1", parameters=(b"****6637",))
REAL = StatementRequest("update patients set ssn = '541-82-6637' where id = 1")


async def denials(request: StatementRequest, column: ColumnRef) -> list[str]:
    world = World()
    world.analyst.answer = lambda text: analysed(text, column=column, operation=Operation.WRITE)
    await run_statement(world.services, world.session, request, world.client)
    assert bool(world.client.executed) is not bool(world.client.denials)
    return [denial.code for denial in world.client.denials]


@pytest.mark.parametrize("request_", [LITERAL, PARAMETER], ids=["literal", "parameter"])
async def test_masked_value_is_not_written_into_a_protected_column(request_: StatementRequest) -> None:
    assert await denials(request_, SSN) == ["masked-value-write"]


async def test_the_same_write_elsewhere_and_a_real_value_pass() -> None:
    assert await denials(LITERAL, CITY) == []
    assert await denials(REAL, SSN) == []
