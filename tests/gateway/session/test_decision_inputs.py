"""What decisions were made of is stored behind them, together, and again where that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from analysis.statement import Operation
from approvals.domain.inputs import Document
from gateway.session import decision_inputs
from gateway.session.decision_inputs import DecisionInputs
from tests.approvals.factories import access_request

pytestmark = pytest.mark.asyncio
READ, WRITE, DDL = (access_request(operation) for operation in (Operation.READ, Operation.WRITE, Operation.DDL))


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The digests of every trip to the database."""
    trips: list[set[str]] = []

    def store(documents: Mapping[str, Document]) -> None:
        trips.append(set(documents))

    monkeypatch.setattr(decision_inputs, "store_inputs", store)
    monkeypatch.setattr(decision_inputs, "GATHER_S", 0.02)
    return trips


async def test_what_gathers_within_a_moment_goes_together_and_once(stored: list[set[str]]) -> None:
    inputs = DecisionInputs()

    digests = [inputs.keep(request, 1) for request in (READ, WRITE, READ)]
    assert stored == []
    await asyncio.sleep(0.2)
    later = inputs.keep(DDL, 1)
    await asyncio.sleep(0.2)

    assert stored == [set(digests), {later}]
    assert inputs.keep(WRITE, 1) == digests[1]
    await asyncio.sleep(0.2)
    assert len(stored) == 2


async def test_a_stop_stores_what_waits_at_once(stored: list[set[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_inputs, "GATHER_S", 60)
    inputs = DecisionInputs()
    digest = inputs.keep(READ, 1)
    await asyncio.sleep(0)

    await asyncio.wait_for(inputs.close(), 5)

    assert stored == [{digest}]


async def test_what_could_not_be_stored_is_stored_when_it_is_met_again(
    stored: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise OSError("no database")

    inputs = DecisionInputs()
    with monkeypatch.context() as unlucky:
        unlucky.setattr(decision_inputs, "store_inputs", fails)
        digest = inputs.keep(READ, 1)
        await asyncio.sleep(0.2)
    inputs.keep(READ, 1)
    await asyncio.sleep(0.2)

    assert stored == [{digest}]
