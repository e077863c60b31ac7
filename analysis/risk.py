"""The risk score: a transparent sum of addends a reviewer can read. It orders work; it grants nothing."""

from __future__ import annotations

from collections.abc import Callable

from analysis.making import remade
from analysis.statement import Analysis, Operation, PredicateUse, RiskAddend

BULK_ROWS = 100


def _is_bulk(analysis: Analysis) -> bool:
    facts = analysis.facts
    reads = Operation.READ in analysis.operations and bool(analysis.tables_read)
    return reads and not facts.aggregated and (facts.row_bound is None or facts.row_bound > BULK_ROWS)


_TERMS: tuple[tuple[str, int, Callable[[Analysis], bool]], ...] = (
    ("the analysis is not complete", 40, lambda a: not a.complete),
    ("administrative operation", 50, lambda a: Operation.ADMIN in a.operations),
    ("changes the schema", 30, lambda a: Operation.DDL in a.operations),
    ("writes", 20, lambda a: Operation.WRITE in a.operations),
    ("no restricting WHERE", 20, lambda a: a.facts.no_where),
    ("exports data", 30, lambda a: a.facts.export),
    ("no small bound on rows", 20, _is_bulk),
    ("calls functions nobody has classified", 30, lambda a: bool(a.opaque_functions)),
    (
        "rows chosen by computed conditions",
        10,
        lambda a: any(p.use is PredicateUse.COMPUTED for p in a.predicates),
    ),
)


def with_risk(analysis: Analysis) -> Analysis:
    """The same analysis with the score of what it says."""
    risk = assess_risk(analysis)
    return analysis if risk == analysis.risk else remade(analysis, risk=risk)


def assess_risk(analysis: Analysis) -> tuple[RiskAddend, ...]:
    return tuple(RiskAddend(reason, points) for reason, points, holds in _TERMS if holds(analysis))
