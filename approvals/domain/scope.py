"""How far an approval reaches: one exact request, or, for a while, a statement's shape, its tables, a connection. Pure.

A wider grant never covers what could not be fully read, what changes definitions or rights, nor a decision that would
ask anyone who has not approved. Whose it is, where, as which role and under which rules is compared elsewhere, by
digest (`approvals.domain.binding.requester_digest`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from analysis.estimate import UNKNOWN, RowsExpected
from analysis.statement import Analysis, Operation
from approvals.domain.conditions import is_doubtful
from approvals.domain.request import AccessRequest, RequireApproval, ReviewerGroup


class Scope(StrEnum):
    """From narrow to wide."""

    ONCE = "once"
    SHAPE = "shape"
    TABLES = "tables"
    CONNECTION = "connection"


WORDS = {
    Scope.ONCE: "this statement, once",
    Scope.SHAPE: "this statement with other values",
    Scope.TABLES: "statements on these tables",
    Scope.CONNECTION: "the whole connection",
}
_REACHABLE = {str(Operation.READ), str(Operation.WRITE), str(Operation.SESSION)}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a statement that looks for a grant is, as far as a wider one depends on it."""

    fingerprint: str
    readable: bool
    operations: frozenset[str]
    tables_read: frozenset[str]
    tables_written: frozenset[str]
    rules: frozenset[str]  # what it is held for
    reviewers: tuple[ReviewerGroup, ...]
    rows: int | None  # bound or estimate, None when not known
    changes: int = 0  # the planner expects to change so many
    uncounted: bool = False  # its rows cannot be counted afterwards

    @classmethod
    def by(cls, request: AccessRequest, decision: RequireApproval, expected: RowsExpected = UNKNOWN) -> Asked:
        analysis = request.analysis
        return cls(
            fingerprint=analysis.fingerprint,
            readable=not is_doubtful(request) and analysis.inner is None,
            operations=frozenset(map(str, analysis.operations)),
            tables_read=frozenset(map(str, analysis.tables_read)),
            tables_written=frozenset(map(str, analysis.tables_written)),
            rules=rules_of(decision.rule),
            reviewers=decision.reviewers,
            rows=_rows_expected(analysis),
            changes=expected.changed or 0,
            uncounted=analysis.facts.uncounted or is_doubtful(request),
        )

    @property
    def room(self) -> int:
        """Rows a wider grant must have left to be good for this, as far as anybody knows before."""
        return max(self.rows or 0, self.changes)


def _rows_expected(analysis: Analysis) -> int | None:
    """Rows returned, as far as they are known. How many rows a writing statement changes nobody knows before."""
    if Operation.WRITE in analysis.operations:
        return None
    return analysis.facts.row_bound if analysis.facts.row_bound is not None else analysis.facts.estimated_rows


def narrowest(scopes: Iterable[str]) -> Scope:
    """The scope that everybody who approved agreed to."""
    order = list(Scope)
    return min((Scope(scope) for scope in scopes), key=order.index, default=Scope.ONCE)


def rules_of(rule: str) -> frozenset[str]:
    """The names in a decision's `rule`."""
    return frozenset(rule.split(", "))


def reach_of(scope: Scope, *, facts: dict[str, Any], rule: str, reviewers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What a grant of `scope` over a statement with these facts covers, as JSON without a literal."""
    return {
        "scope": scope.value,
        "fingerprint": facts["fingerprint"] if scope is Scope.SHAPE else "",
        "operations": sorted(set(facts["operations"]) & _REACHABLE),
        "tables_read": [] if scope is Scope.CONNECTION else facts["tables_read"],
        "tables_written": [] if scope is Scope.CONNECTION else facts["tables_written"],
        "rules": [] if scope is Scope.CONNECTION else sorted(rules_of(rule)),
        "reviewers": list(reviewers),
    }


def may_be_wide(facts: dict[str, Any], *, max_rows: int | None = None) -> bool:
    """Whether anything wider than once may be given over a statement with these facts, under a cap on rows or none."""
    readable = facts["complete"] and not facts["opaque_functions"] and bool(facts["operations"])
    countable = max_rows is None or not facts.get("uncounted")
    return readable and countable and set(facts["operations"]) <= _REACHABLE


def covers(reach: dict[str, Any], asked: Asked) -> bool:
    """Whether a grant of this reach is good for what is asked. Anything not plainly inside it is outside."""
    if not asked.readable or not asked.operations or not asked.operations <= set(reach["operations"]):
        return False
    if not asked_of(reach["reviewers"], asked.reviewers):
        return False
    match Scope(reach["scope"]):
        case Scope.SHAPE:
            return bool(asked.fingerprint) and asked.fingerprint == reach["fingerprint"] and _inside(reach, asked)
        case Scope.TABLES:
            return bool(asked.tables_read | asked.tables_written) and _inside(reach, asked)
        case Scope.CONNECTION:
            return True
    return False


def asked_of(given: Iterable[dict[str, Any]], needed: Iterable[ReviewerGroup]) -> bool:
    """Whether every group that is needed now was needed, in sufficient number, when the approval was given."""
    quorums = {(group["group"], group.get("choice", "")): group["quorum"] for group in given}
    return all(quorums.get((group.group, group.choice), 0) >= group.quorum for group in needed)


def _inside(reach: dict[str, Any], asked: Asked) -> bool:
    tables = asked.tables_read <= set(reach["tables_read"]) and asked.tables_written <= set(reach["tables_written"])
    return tables and asked.rules <= set(reach["rules"])
