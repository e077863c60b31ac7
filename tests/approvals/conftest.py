"""People of the approvals tests, and a data plane that analyses modified statements."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from approvals.domain import hooks
from approvals.domain.facts import review_facts
from approvals.domain.hooks import Reanalysis
from approvals.domain.request import Allow, Binding, Decision, Deny, Principal
from tests.approvals.factories import person, write_request


class DataPlane:
    """Stands where the gateway registers itself: denies DROP, refuses what does not parse, allows the rest."""

    def __init__(self) -> None:
        self.decision: Decision = Allow(rule="agents")
        self.enabled = True
        self.risk = 10

    def reanalyse(self, *, binding: Binding, principal: Principal) -> Reanalysis:
        if binding.statement.startswith("SELEKT"):
            return Reanalysis(problem="syntax error")
        denied = Deny(code="access-denied", rule="access", reason="no access rule gives demo-agent ddl statements")
        decision = denied if binding.statement.startswith("DROP") else self.decision
        request = write_request(text=binding.statement, risk=self.risk)
        return Reanalysis(facts=review_facts(request), risk=request.analysis.risk_score, decision=decision)

    def requester_enabled(self, binding: Binding) -> bool:
        return self.enabled


@pytest.fixture(autouse=True)
def data_plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[DataPlane]:
    """A registered data plane, alone: what the gateway app registered is put back afterwards."""
    monkeypatch.setattr(hooks, "_registry", hooks._Registry())
    plane = DataPlane()
    hooks.register(reanalyse=plane.reanalyse, requester_enabled=plane.requester_enabled)
    return plane


@pytest.fixture
def reviewer(db):
    return person("reviewer", "privacy-officers")


@pytest.fixture
def reviewer2(db):
    return person("reviewer2", "privacy-officers")


@pytest.fixture
def admin(db):
    """Owner of the demo agent, and a privacy officer as well: still never a judge in their own cause."""
    return person("admin", "privacy-officers", is_superuser=True, is_staff=True)
