"""The planner's estimate of a statement's rows, read from `EXPLAIN (FORMAT JSON)`. An estimate is no proof."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.statement import Analysis, Operation

WORTH_ASKING = 100  # with a proven bound up to here no policy worth having asks for an estimate
PLANNED_KINDS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})
SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})

# What a reviewer is told the size of besides: COPY … TO is planned by its query, TRUNCATE as a read of its table.
_SIZED_KINDS = PLANNED_KINDS | {"COPY_TO", "EXPLAIN_ANALYZE", "TRUNCATE"}
_RETURNING_KINDS = PLANNED_KINDS | {"COPY_TO"}

Plan = Mapping[str, Any]
# Nodes whose one row may be made of many.
_COLLECTORS = frozenset({"Aggregate", "WindowAgg", "Recursive Union"})


@dataclass(frozen=True, slots=True)
class RowsExpected:
    """How large a statement will turn out, as the planner sees it; None where nobody can tell.

    `changed` are rows inserted, updated, deleted and merged, inside WITH as well; never those of triggers and cascades.
    """

    returned: int | None = None
    changed: int | None = None


UNKNOWN = RowsExpected()


def wants_estimate(analysis: Analysis) -> bool:
    """Whether a decision may turn on how many rows of user tables the statement returns."""
    facts = analysis.facts
    bounded = facts.row_bound is not None and facts.row_bound <= WORTH_ASKING
    return (
        analysis.complete
        and analysis.kind in PLANNED_KINDS
        and Operation.READ in analysis.operations
        and analysis.outputs is not None
        and not (bounded or facts.aggregated)
        and any(table.schema not in SYSTEM_SCHEMAS for table in analysis.tables_read)
    )


def may_be_sized(analysis: Analysis) -> bool:
    """Whether planning tells something about how large a held statement is, and runs nothing that is not known."""
    facts = analysis.facts
    known = facts.row_bound is not None or facts.estimated_rows is not None or facts.aggregated
    return (
        analysis.complete
        and not analysis.opaque_functions  # planning evaluates what is declared immutable
        and analysis.kind in _SIZED_KINDS
        and (analysis.kind != "TRUNCATE" or len(analysis.tables_written) == 1)
        and (Operation.WRITE in analysis.operations or not known)
    )


def estimated_rows(explained: object, *, collects: bool) -> int | None:
    """Rows returned, or collected into what is returned; None when the answer is not a plan as we know them."""
    plan = _plan_in(explained)
    if plan is None:
        return None
    try:
        return math.ceil(_carried(plan) if collects else _rows(plan))
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def rows_expected(explained: object, analysis: Analysis) -> RowsExpected:
    """Read how many rows `analysis`'s statement returns and changes off its plan."""
    plan = _plan_in(explained)
    if plan is None:
        return UNKNOWN
    if analysis.kind == "TRUNCATE":
        return RowsExpected(changed=estimated_rows(explained, collects=False))
    returns = analysis.kind in _RETURNING_KINDS and (analysis.outputs is not None or analysis.copy is not None)
    return RowsExpected(
        returned=estimated_rows(explained, collects=analysis.facts.collects) if returns else None,
        changed=_changed(plan) if Operation.WRITE in analysis.operations else None,
    )


def _plan_in(explained: object) -> Plan | None:
    if not isinstance(explained, Sequence) or len(explained) != 1 or not isinstance(explained[0], Mapping):
        return None
    plan = explained[0].get("Plan")
    return plan if isinstance(plan, Mapping) else None


def _changed(plan: Plan) -> int | None:
    """The rows fed into every ModifyTable: one a table, wherever it stands (before PostgreSQL 14 one a partition)."""
    try:
        fed = [
            _rows(below)
            for node in _nodes(plan)
            if node["Node Type"] == "ModifyTable"
            for below in node.get("Plans", ())
            if below.get("Parent Relationship") in ("Outer", "Member")
        ]
        return math.ceil(sum(fed)) if fed else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _rows(plan: Plan) -> float:
    return float(plan["Plan Rows"])


def _carried(plan: Plan) -> float:
    """The rows of a node, or those that were collected into them below."""
    most = _rows(plan)
    for below in plan.get("Plans", ()):
        if below.get("Parent Relationship") in ("SubPlan", "InitPlan") and not _is_cte(below):
            most = max(most, _rows(plan) * _carried(below))
        elif plan["Node Type"] in _COLLECTORS or any(node["Node Type"] in _COLLECTORS for node in _nodes(below)):
            most = max(most, _carried(below))
    return most


def _is_cte(plan: Plan) -> bool:
    return str(plan.get("Subplan Name", "")).startswith("CTE ")


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
