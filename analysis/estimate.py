"""The planner's estimate of a statement's rows, read from `EXPLAIN (FORMAT JSON)`. An estimate is no proof."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.statement import Analysis, Operation

WORTH_ASKING = 100  # with a proven bound up to here no policy worth having asks for an estimate
PLANNED_KINDS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})
SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})

Plan = Mapping[str, Any]
# Nodes whose one row may be made of many.
_COLLECTORS = frozenset({"Aggregate", "WindowAgg", "Recursive Union"})


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


def estimated_rows(explained: object, *, collects: bool) -> int | None:
    """Rows returned, or collected into what is returned; None when the answer is not a plan as we know them."""
    if not isinstance(explained, Sequence) or len(explained) != 1 or not isinstance(explained[0], Mapping):
        return None
    plan = explained[0].get("Plan")
    if not isinstance(plan, Mapping):
        return None
    try:
        return math.ceil(_carried(plan) if collects else _rows(plan))
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
