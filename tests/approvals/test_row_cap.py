"""An estimate opens the door only as far as the policy would have: the cap behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.statement import Facts, TableRef
from analysis.touch import ProtectedTouch
from approvals.domain.conditions import Condition, evaluate, row_cap
from approvals.domain.decide import Action, decide
from tests.approvals.factories import READ, SSN, WRITE, access_request, access_rule, policy

PHI = ProtectedTouch(columns_read=frozenset({SSN}), classes=frozenset({"ssn"}))
BULK = Condition(operation=frozenset({READ}), touches_phi=True, rows_over=1000)
GUESSED = Facts(estimated_rows=5)


@pytest.mark.parametrize(
    ("facts", "cap"),
    [
        (GUESSED, 1000),
        (Facts(row_bound=5000, estimated_rows=5), 1000),
        (Facts(row_bound=5), None),
        (Facts(row_bound=5, estimated_rows=5), None),
        (Facts(aggregated=True, estimated_rows=5), None),
        (Facts(), None),
        (Facts(estimated_rows=1001), None),
    ],
)
def test_row_cap_stands_behind_estimates_only(facts: Facts, cap: int | None) -> None:
    assert row_cap([BULK], access_request(facts=facts, touch=PHI)) == cap


def test_estimate_of_collected_rows_is_not_believed() -> None:
    """`SELECT string_agg(…) WHERE n * 2 = n + n`: one row carries all of them, and no cap would count them."""
    collected = Facts(estimated_rows=5, collects=True)
    proven = replace(collected, row_bound=7)

    assert evaluate(BULK, access_request(facts=collected, touch=PHI)) is True
    assert evaluate(BULK, access_request(facts=proven, touch=PHI)) is False
    assert evaluate(BULK, access_request(facts=GUESSED, touch=PHI)) is False


def test_row_cap_is_the_smallest_of_the_policies_that_were_spared() -> None:
    nested = Condition(any_of=(Condition(rows_over=50), Condition(all_of=(Condition(rows_over=20),))))
    elsewhere = Condition(operation=frozenset({WRITE}), rows_over=1)

    assert row_cap([BULK, nested, elsewhere], access_request(facts=GUESSED, touch=PHI)) == 20


def test_row_cap_is_none_where_no_policy_counts_rows() -> None:
    assert row_cap([Condition(touches_phi=True)], access_request(facts=GUESSED)) is None
    assert row_cap([BULK], access_request(facts=GUESSED)) is None


def test_catalogue_reads_are_never_bulk() -> None:
    catalogue = frozenset({TableRef("pg_catalog", "pg_class"), TableRef("information_schema", "columns")})
    bulk = Condition(rows_over=10)

    assert evaluate(bulk, access_request(facts=Facts(), tables_read=catalogue)) is False
    assert evaluate(bulk, access_request(facts=Facts(), tables_read=catalogue | {TableRef("public", "t")})) is True
    assert evaluate(bulk, access_request(facts=Facts(), tables_read=catalogue, complete=False)) is None


def test_decision_carries_the_cap_of_policies_that_would_have_restricted() -> None:
    held = policy(Action.REQUIRE_APPROVAL, when=BULK)
    skipped = replace(held, skip_groups=frozenset({"ai-agents"}))
    guessed, known = (access_request(facts=facts, touch=PHI) for facts in (GUESSED, Facts(row_bound=5)))
    rules = [access_rule(READ)]

    assert decide(guessed, access_rules=rules, policies=[held]).row_cap == 1000
    assert decide(known, access_rules=rules, policies=[held]).row_cap is None
    assert decide(guessed, access_rules=rules, policies=[skipped]).row_cap is None
