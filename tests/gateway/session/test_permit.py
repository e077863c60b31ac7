"""What an execution says of itself when it is over."""

from __future__ import annotations

import pytest

from analysis.statement import Analysis, Facts, Operation, Statement
from gateway.session.permit import Outcome, rows_counted


@pytest.mark.parametrize(
    ("tag", "returned", "moved"),
    [
        ("SELECT 3", 3, 3),
        ("UPDATE 12000", 0, 12000),
        ("DELETE 7", 0, 7),
        ("INSERT 0 250", 0, 250),
        ("MERGE 9", 0, 9),
        ("COPY 40", 0, 40),
        ("UPDATE 5", 5, 5),  # RETURNING
        ("CREATE TABLE", 0, 0),
        ("", 4, 4),
        ("UPDATE \u0661", 0, 0),
        ("UPDATE " + "9" * 400, 0, 0),
    ],
)
def test_rows_moved_are_those_returned_or_changed(tag: str, returned: int, moved: int) -> None:
    assert Outcome(status="completed", rows=returned, command_tag=tag).rows_moved == moved


def _analysis(operation: Operation, *, complete: bool = True, **facts: bool) -> Analysis:
    return Analysis(
        statement=Statement("text"),
        kind="KIND",
        fingerprint="f",
        complete=complete,
        operations=frozenset({operation}),
        facts=Facts(**facts),
    )


@pytest.mark.parametrize(
    ("analysis", "outcome", "counted"),
    [
        (_analysis(Operation.WRITE), Outcome("completed", command_tag="DELETE 7"), 7),
        (_analysis(Operation.WRITE), Outcome("failed"), 0),
        (_analysis(Operation.WRITE), Outcome("unfinished"), None),  # it may have happened
        (_analysis(Operation.READ), Outcome("unfinished", rows=3), 3),
        (_analysis(Operation.WRITE, uncounted=True), Outcome("completed", rows=1, command_tag="SELECT 1"), None),
        (_analysis(Operation.READ, complete=False), Outcome("completed", rows=1, command_tag="SELECT 1"), None),
        (_analysis(Operation.WRITE), Outcome("completed", untold=True), None),
        (_analysis(Operation.READ), Outcome("completed", rows=5, untold=True), 5),
    ],
)
def test_rows_nobody_can_tell_are_no_number(analysis: Analysis, outcome: Outcome, counted: int | None) -> None:
    assert rows_counted(analysis, outcome) == counted
