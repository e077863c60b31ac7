"""Statements the service reads otherwise than a careless reading, with tables and result types that would agree."""

from __future__ import annotations

import pytest

from analysis.statement import PredicateUse
from tests.analysis.bigquery.warehouse import analyse, summary

# To Python, U+212A KELVIN SIGN is a `k` in lower case; to a service that folds ASCII alone it is another name.
KELVIN = "\u212a"


@pytest.mark.parametrize(
    "text",
    [
        # The CTE of this very name, which a reading that splits quoted paths takes for the table.
        "WITH `clinic.patients` AS (SELECT ssn AS state FROM clinic.patients) SELECT state FROM `clinic.patients`",
        f"WITH k AS (SELECT ssn AS v FROM patients) SELECT v FROM (WITH `{KELVIN}` AS (SELECT 'a' AS v) "
        "SELECT v FROM k)",
        r"WITH x AS (SELECT 'a' AS v) SELECT v FROM (WITH `\x78` AS (SELECT ssn AS v FROM patients) SELECT v FROM x)",
    ],
    ids=["dot", "case", "escape"],
)
def test_names_that_may_be_compared_otherwise_are_never_complete(text: str) -> None:
    assert not analyse(text).complete


def test_quoted_names_of_ascii_and_of_caseless_letters_are_understood() -> None:
    assert analyse("SELECT `ssn` AS `größe` FROM `clinic.patients` AS `p`").complete


@pytest.mark.parametrize("index", ["OFFSET(0)", "ORDINAL(1)", "0"])
def test_a_field_by_its_place_is_no_element_of_an_array(index: str) -> None:
    """`record[OFFSET(0)].b` is field b of the record's first field, not the record's own field b."""
    record = "STRUCT(STRUCT('q' AS a, ssn AS b) AS a, STRUCT('x' AS a, 'y' AS b) AS b)"

    (output,) = analyse(f"SELECT TO_JSON_STRING({record}[{index}].b) AS x FROM patients").outputs or ()

    assert summary(output) == "x<ssn:d"


@pytest.mark.parametrize(
    "expression",
    [
        "TIMESTAMP(CONCAT('2000-01-', SUBSTR(ssn, 1, 2)))",
        "TIMESTAMP(ssn)",
        "DATE(CURRENT_TIMESTAMP(), CONCAT('+', SUBSTR(ssn, 1, 2), ':00'))",
        "DATETIME(CURRENT_TIMESTAMP(), CONCAT('+', SUBSTR(ssn, 1, 2), ':00'))",
        "CURRENT_DATE(CONCAT('+', SUBSTR(ssn, 1, 2), ':00'))",
        "CURRENT_DATETIME(ssn)",
        "CURRENT_TIME(ssn)",
        "FORMAT_TIMESTAMP('%c', CURRENT_TIMESTAMP(), CONCAT('+', SUBSTR(ssn, 1, 2), ':00'))",
        "FORMAT(CONCAT('%', SUBSTR(ssn, 1, 1)), 1)",
        "SUBSTR('x', 1, LENGTH(ssn))",
        r"'a' LIKE CONCAT('\\', TRIM(SUBSTR(ssn, 1, 1), '1'))",
        "SPLIT(ssn, '1')[OFFSET(1)]",
        "SPLIT(ssn, '1')[ORDINAL(2)]",
        "[NULLIF(ssn, '123-45-6789')]",
        "ARRAY(SELECT NULLIF(ssn, '123-45-6789'))",
        "ARRAY_AGG(NULLIF(ssn, '123-45-6789'))",
    ],
)
def test_what_answers_a_question_by_failing_steers_the_statement(expression: str) -> None:
    """Masking the value hides nothing here: that there was an error is the answer."""
    analysis = analyse(f"SELECT {expression} AS x FROM patients")

    assert ("ssn", PredicateUse.COMPUTED) in {(found.column.column, found.use) for found in analysis.predicates}


@pytest.mark.parametrize(
    "expression",
    [
        "SUBSTR(ssn, 1, 2)",
        "SUBSTR(ssn, STRPOS(ssn, '-'))",
        "FORMAT('%s', ssn)",
        "DATE(dob)",
        "TIMESTAMP(dob)",
        "FORMAT_DATE('%Y', dob)",
        "SPLIT(ssn, '-')[OFFSET(0)]",
        "SPLIT(ssn, '-')[SAFE_OFFSET(1)]",
        "[ssn, mrn]",
        "ARRAY_AGG(ssn)",
        "contacts[OFFSET(0)].phone",
        "doc[0]",
    ],
)
def test_what_cannot_fail_steers_nothing(expression: str) -> None:
    analysis = analyse(f"SELECT {expression} AS x FROM patients")

    assert analysis.complete, analysis.problems
    assert not analysis.predicates
