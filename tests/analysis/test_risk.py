from __future__ import annotations

from dataclasses import replace

from analysis.risk import with_risk
from analysis.statement import Analysis, Operation, RiskAddend, Statement

HARMLESS = Analysis(statement=Statement("SELECT 1"), kind="SELECT", fingerprint="", complete=True)


def test_with_risk_says_what_the_analysis_comes_to() -> None:
    doubted = with_risk(replace(HARMLESS, complete=False, operations=frozenset({Operation.DDL})))

    assert doubted.risk == (
        RiskAddend("the analysis is not complete", 40),
        RiskAddend("changes the schema", 30),
    )


def test_with_risk_believes_no_earlier_score() -> None:
    doubted = with_risk(replace(HARMLESS, complete=False))

    assert with_risk(replace(doubted, complete=True)) == HARMLESS


def test_with_risk_leaves_alone_what_has_its_score() -> None:
    assert with_risk(HARMLESS) is HARMLESS
