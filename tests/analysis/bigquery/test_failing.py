"""Statements that show nothing and end in an error, or do not: each such answer counts as a condition."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.bigquery.dryrun import TableSchema
from analysis.statement import PredicateUse
from tests.analysis.bigquery.warehouse import DEFINITIONS, PATIENTS, analyse, column, path

WITH_NUMBERS = replace(
    DEFINITIONS,
    tables={
        **DEFINITIONS.tables,
        path("patients"): TableSchema((*PATIENTS.fields, column("ward", "INT64"), column("raw", "BYTES"))),
    },
)
SECRET = frozenset({"ssn", "dob", "ward", "doc"})


def asked(text: str) -> set[str]:
    """The columns whose values the statement asks about by what it computes of them."""
    analysis = analyse(text.format(p="clinic.patients"), definitions=WITH_NUMBERS)
    assert analysis.complete, analysis.problems
    return {found.column.column for found in analysis.predicates if found.use is PredicateUse.COMPUTED} & SECRET


@pytest.mark.parametrize(
    "text",
    [
        # Whether a part is run at all.
        "SELECT IFNULL(NULLIF(ssn, 'a'), ERROR('x')) AS y FROM {p}",
        "SELECT COALESCE(NULLIF(SUBSTR(ssn, 1, 1), '5'), CAST(1 / 0 AS STRING)) AS y FROM {p}",
        "SELECT COALESCE(SPLIT(ssn, '7')[SAFE_OFFSET(1)], CHR(-1)) AS y FROM {p}",
        "SELECT COALESCE(NULLIF(ssn, 'a'), SUBSTR('a', 1, -1)) AS y FROM {p}",
        "SELECT COALESCE(NULLIF(ssn, 'a'), (SELECT last_name FROM {p})) AS y FROM {p}",
        "SELECT COALESCE(NULLIF(ssn, 'a'), b) AS y FROM (SELECT ssn, ERROR('x') AS b FROM {p})",
        "SELECT COALESCE(NULLIF(ssn, 'a'), CAST(raw AS STRING)) AS y FROM {p}",
        "SELECT (ssn = 'a') AND id / 0 > 1 AS y FROM {p}",
        "SELECT id / 0 > 1 OR (STARTS_WITH(ssn, '5')) AS y FROM {p}",
        "SELECT ssn BETWEEN '5' AND ERROR('x') AS y FROM {p}",
        # What an expression picks, a function cannot take.
        "SELECT ABS(COALESCE(NULLIF(ward, 5), -9223372036854775808)) AS y FROM {p}",
        "SELECT ROUND(GREATEST(ward, 5)) AS y FROM {p}",
        "SELECT ROUND(NUMERIC '1.5', ward) AS y FROM {p}",
        "SELECT ASCII(COALESCE(NULLIF(ssn, 'a'), 'é')) AS y FROM {p}",
        "SELECT SUM(v) AS y FROM (SELECT ward AS v FROM {p} UNION ALL SELECT 9223372036854775800)",
        "SELECT SUM(v) OVER () AS y FROM (SELECT ward AS v FROM {p} UNION ALL SELECT 9223372036854775800)",
        "SELECT SUM(v) AS y FROM (SELECT ward AS v FROM {p} UNION ALL SELECT patient_id FROM clinic.claims)",
        "SELECT AVG(IFNULL(ward, 5)) AS y FROM {p}",
        "SELECT INSTR('aaa', 'a', STRPOS(ssn, '078')) AS y FROM {p}",
        "SELECT INSTR('aaa', 'a', 1, ward) AS y FROM {p}",
        "SELECT FORMAT('%*d', ward, 1) AS y FROM {p}",
        "SELECT INTERVAL ward YEAR AS y FROM {p}",
        "SELECT JSON_OBJECT(NULLIF(ssn, 'a'), 1) AS y FROM {p}",
        "SELECT TO_JSON(IFNULL(ward, 5)) AS y FROM {p}",
        "SELECT JSON_ARRAY(IFNULL(ward, 5)) AS y FROM {p}",
        "SELECT JSON_VALUE_ARRAY(TO_JSON_STRING(STRUCT(NULLIF(ssn, 'a')))) AS y FROM {p}",
        # Half of all bytes are no text.
        "SELECT CAST(SUBSTR(MD5(CONCAT(ssn, '1')), 1, 1) AS STRING) AS y FROM {p}",
        "SELECT CAST(SUBSTR(b, 1, 1) AS STRING) AS y FROM (SELECT SHA256(ssn) AS b FROM {p})",
        "SELECT CAST(CONCAT(CAST(ssn AS BYTES), b'a') AS STRING) AS y FROM {p}",
    ],
)
def test_an_error_that_somebody_chose_is_an_answer(text: str) -> None:
    assert asked(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT IFNULL(ssn, ERROR('x')) AS y FROM {p}",  # whether a stored value is NULL is no secret
        "SELECT COALESCE(NULLIF(TRIM(ssn), ''), last_name, 'unknown') AS y FROM {p}",
        "SELECT (ssn = 'a') AND id > 1 AS y FROM {p}",
        "SELECT ABS(ward) AS y, ROUND(ward, 2) AS z, ASCII(ssn) AS a FROM {p}",
        "SELECT SUM(ward) AS y, AVG(ward) AS z FROM {p}",
        "SELECT SUM(ward) OVER (PARTITION BY state) AS y FROM {p}",
        "SELECT INSTR(ssn, '-') AS y, STRPOS(ssn, '-') AS z FROM {p}",
        "SELECT FORMAT('%s %d', ssn, ward) AS y FROM {p}",
        "SELECT JSON_OBJECT('a', ssn, 'b', ward) AS y FROM {p}",
        "SELECT TO_JSON(q) AS y, TO_JSON_STRING(q) AS z, JSON_ARRAY(ssn, ward) AS a FROM {p} AS q",
        "SELECT CAST(ssn AS STRING) AS y, CAST(ward AS STRING) AS z, CAST(CONCAT(ssn, last_name) AS STRING) FROM {p}",
        "SELECT MD5(ssn) AS y, TO_BASE64(SHA256(ssn)) AS z FROM {p}",
    ],
)
def test_what_cannot_fail_by_choice_is_none(text: str) -> None:
    assert asked(text) == set()
