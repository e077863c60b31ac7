"""An estimate rests on statistics of real values: a decision that showed it would answer questions about them."""

from __future__ import annotations

from analysis.statement import Facts
from analysis.touch import ProtectedTouch
from approvals.domain.conditions import Condition, evaluate
from tests.approvals.factories import READ, SSN, access_request

BULK = Condition(operation=frozenset({READ}), touches_phi=True, rows_over=1000)
ASKING = ProtectedTouch(
    columns_read=frozenset({SSN}),
    classes=frozenset({"ssn"}),
    inference_violations=("ssn: comparison (rule ssn, guarded)",),
)


def test_the_decision_does_not_tell_how_many_rows_match_a_condition_on_protected_values() -> None:
    few, many = (
        evaluate(BULK, access_request(facts=Facts(estimated_rows=rows), touch=ASKING)) for rows in (1, 1_000_000)
    )

    assert few is many is True


def test_a_proven_bound_is_no_statistic() -> None:
    assert evaluate(BULK, access_request(facts=Facts(row_bound=1), touch=ASKING)) is False
