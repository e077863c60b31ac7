from __future__ import annotations

import pytest

from analysis.alternative import alternatives


def proposed(text: str, *, rows: int | None = 1000) -> list[str]:
    return list(alternatives(text, dialect="postgres", protected={"ssn", "dob"}, most_rows=rows))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT ssn FROM p", ["SELECT ssn FROM p LIMIT 1000"]),
        ("SELECT a FROM p LIMIT 5000", ["SELECT a FROM p LIMIT 1000"]),
        ("SELECT a FROM p LIMIT 5", []),
        ("COPY (SELECT a FROM p) TO STDOUT", ["SELECT a FROM p", "SELECT a FROM p LIMIT 1000"]),
        (
            "SELECT a FROM p WHERE ssn LIKE '9%' AND b = 1",
            [
                "SELECT a FROM p WHERE ssn LIKE '9%' AND b = 1 LIMIT 1000",
                "SELECT a FROM p WHERE b = 1",
                "SELECT a FROM p WHERE b = 1 LIMIT 1000",
            ],
        ),
        (
            "SELECT a FROM p WHERE p.DOB > '2000-01-01' LIMIT 9",
            ["SELECT a FROM p LIMIT 9"],
        ),
        ("SELECT a FROM p UNION SELECT b FROM q", ["SELECT a FROM p UNION SELECT b FROM q LIMIT 1000"]),
    ],
)
def test_proposals_leave_as_much_as_possible(text: str, expected: list[str]):
    assert proposed(text) == expected


@pytest.mark.parametrize(
    "text", ["UPDATE p SET a = 1", "DROP TABLE p", "SELECT 1; SELECT 2", "SELECT (", "", "SELECT " + "1," * 9000 + "1"]
)
def test_nothing_is_proposed_for_what_is_no_single_query(text: str):
    assert proposed(text) == []


def test_a_limit_is_proposed_where_no_policy_names_one():
    assert proposed("SELECT a FROM p", rows=None) == ["SELECT a FROM p LIMIT 100"]
