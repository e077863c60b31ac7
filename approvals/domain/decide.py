"""The decision point: pure, deterministic, over frozen rules. Deny beats approval beats allow; no rule is a deny."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from analysis.statement import Operation
from approvals.domain.request import ReviewerGroup


class Action(StrEnum):
    ALLOW = "allow"
    REQUIRE_APPROVAL = "require_approval"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Groups that may use connections (globs) for these operations. Necessary for every statement, never sufficient."""

    groups: frozenset[str]
    connections: tuple[str, ...]
    operations: frozenset[Operation]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """All given parts must hold; an absent (None) part is not asked. Unknown facts count as the dangerous value."""

    operation: frozenset[Operation] | None = None
    touches_phi: bool | None = None
    tables: tuple[str, ...] | None = None  # globs over schema.table, read or written
    columns: tuple[str, ...] | None = None  # globs over schema.table.column
    classes: frozenset[str] | None = None
    no_where: bool | None = None
    export: bool | None = None
    rows_over: int | None = None  # true when rows are not known to be at most this many
    incomplete: bool | None = None
    inference: bool | None = None  # a guarded or strict rule's predicate limits are exceeded
    risk_at_least: int | None = None
    principals: tuple[str, ...] | None = None  # globs over subjects
    groups: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class PolicyRule:
    name: str
    connections: tuple[str, ...]
    action: Action
    when: Condition = field(default_factory=Condition)
    reviewers: tuple[ReviewerGroup, ...] = ()
    decide_within_s: int = 3600
    execute_within_s: int = 600
