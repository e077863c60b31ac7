"""Masks over BigQuery's JSON rows: nested, repeated, type-valid, and nothing at all where the shape is another."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from masking.bigquery import RowMasker, ShapeMismatch, TimestampFormat, result_columns
from masking.bigquery_job import WITHHELD, without_literals, without_values
from masking.domain.field import MaskingPlan, ResultColumn
from masking.domain.plan import build_plan, touch
from masking.domain.rules import MaskingRule, Technique
from tests.analysis.bigquery.warehouse import analyse

SECRET = "123-45-6789"


def rule(name: str, column: str, technique: Technique = Technique.REDACT) -> MaskingRule:
    return MaskingRule(name, ("warehouse",), (column,), technique)


SSN = rule("ssn", "clinic.patients.ssn", Technique.PARTIAL)
NESTED = rule("nested", "clinic.patients.person.ssn")
PHONES = rule("phones", "clinic.patients.contacts.phone")
PERSON = rule("person", "clinic.patients.person")


def masker(text: str, schema: list[dict[str, Any]], *rules: MaskingRule, scans: bool = False, **more: Any) -> RowMasker:
    columns = result_columns({"fields": schema})
    plan = build_plan(
        analysis=analyse(text),
        columns=columns,
        rules=rules,
        connection="warehouse",
        groups=frozenset(),
        phi=True,
        scan_text=scans,
    )
    return RowMasker(plan, columns, **more)


def row(*values: Any) -> dict[str, Any]:
    return {"f": [{"v": value} for value in values]}


def text(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "STRING", **more}


def test_a_column_is_masked_by_its_rule_under_any_name() -> None:
    rows = [row("1", SECRET), row("2", None)]
    schema = [{"name": "id", "type": "INTEGER"}, text("x")]

    bare = masker("SELECT id, ssn AS x FROM patients", schema)
    masked = masker("SELECT id, ssn AS x FROM patients", schema, SSN)

    assert bare.mask_rows(rows) == rows
    assert masked.mask_rows(rows) == [row("1", "****6789"), row("2", None)]
    assert masked.counts() == (("x", "ssn", "partial", 1),)


def test_a_field_of_a_record_is_masked_and_its_neighbour_is_not() -> None:
    schema = [{"name": "person", "type": "RECORD", "fields": [text("ssn"), text("city")]}]
    found = masker("SELECT person FROM patients", schema, NESTED)

    assert found.mask_rows([row(row(SECRET, "Oslo")), row(None)]) == [row(row("[REDACTED]", "Oslo")), row(None)]
    assert found.counts() == (("person.ssn", "nested", "redact", 1),)


def test_a_rule_over_a_record_covers_its_fields() -> None:
    schema = [{"name": "person", "type": "RECORD", "fields": [text("ssn"), text("city")]}]

    found = masker("SELECT person FROM patients", schema, PERSON)
    city = masker("SELECT person.city FROM patients", [text("city")], PERSON)

    assert found.mask_rows([row(row(SECRET, "Oslo"))]) == [row(row("[REDACTED]", "[REDACTED]"))]
    assert city.mask_rows([row("Oslo")]) == [row("[REDACTED]")]


def test_repeated_records_and_values_are_masked_element_by_element() -> None:
    schema = [
        {"name": "contacts", "type": "RECORD", "mode": "REPEATED", "fields": [text("kind"), text("phone")]},
        text("tags", mode="REPEATED"),
    ]
    found = masker("SELECT contacts, tags FROM patients", schema, PHONES, rule("tags", "clinic.patients.tags"))
    contacts = [{"v": row("home", "555-0100")}, {"v": row("work", None)}]

    shown = found.mask_rows([row(contacts, [{"v": "a"}, {"v": "b"}]), row([], [])])

    hidden = [{"v": row("home", "[REDACTED]")}, {"v": row("work", None)}]
    assert shown == [row(hidden, [{"v": "[REDACTED]"}, {"v": "[REDACTED]"}]), row([], [])]


def test_anything_derived_is_hidden_whole_nulls_and_lengths_included() -> None:
    schema = [text("r"), {"name": "a", "type": "STRING", "mode": "REPEATED"}, {"name": "n", "type": "INTEGER"}]
    statement = "SELECT REVERSE(ssn) AS r, [ssn] AS a, LENGTH(ssn) AS n FROM patients"
    rows = [row("9876-54-321", [{"v": SECRET}], "11"), row(None, [], None)]

    assert masker(statement, schema).mask_rows(rows) == rows
    assert masker(statement, schema, SSN).mask_rows(rows) == [row("[REDACTED]", [], None)] * 2


def test_a_record_of_unknown_parts_is_hidden_whole() -> None:
    schema = [{"name": "p", "type": "RECORD", "fields": [text("ssn"), text("city")]}]
    found = masker("SELECT ANY_VALUE(person) AS p FROM patients", schema, NESTED)

    assert found.mask_rows([row(row(SECRET, "Oslo"))]) == [row(None)]


def test_an_incomplete_analysis_shows_nothing() -> None:
    schema = [{"name": "ssn", "type": "STRING"}, {"name": "n", "type": "INTEGER"}]
    found = masker("FROM patients |> SELECT ssn, 1 AS n", schema, rule("other", "x.y.z"))

    assert found.mask_rows([row(SECRET, "1")]) == [row("[REDACTED]", None)]


TYPES = [
    ("INTEGER", "42", None, "0"),
    ("FLOAT", "1.5", None, "0.0"),
    ("NUMERIC", "1.5", None, "0"),
    ("BOOLEAN", "true", None, "false"),
    ("DATE", "1980-05-06", None, "0001-01-01"),
    ("DATETIME", "1980-05-06T07:08:09", None, "0001-01-01T00:00:00"),
    ("TIME", "07:08:09", None, "00:00:00"),
    ("TIMESTAMP", "3.26E8", None, "0.0"),
    ("BYTES", base64.b64encode(SECRET.encode()).decode(), None, base64.b64encode(b"[REDACTED]").decode()),
    ("JSON", '{"a":1}', '"[REDACTED]"', '"[REDACTED]"'),
    ("STRING", SECRET, "[REDACTED]", "[REDACTED]"),
    ("GEOGRAPHY", "POINT(1 2)", None, "GEOMETRYCOLLECTION EMPTY"),
    ("INTERVAL", "0-0 1 0:0:0", None, "0-0 0 0:0:0"),
    ("RANGE", "[2020-01-01, UNBOUNDED)", None, "[UNBOUNDED, UNBOUNDED)"),
]


@pytest.mark.parametrize(("kind", "value", "nullable", "required"), TYPES, ids=[kind for kind, *_ in TYPES])
@pytest.mark.parametrize("technique", [Technique.REDACT, Technique.NULL])
def test_masks_are_valid_for_every_type(
    kind: str, value: str, nullable: str | None, required: str, technique: Technique
) -> None:
    any_rule = rule("any", "clinic.patients.ssn", technique)
    expected = None if technique is Technique.NULL else nullable

    for mode, hidden in (("NULLABLE", expected), ("REQUIRED", required if expected is None else expected)):
        columns = result_columns({"fields": [{"name": "x", "type": kind, "mode": mode}]})
        plan = build_plan(
            # The type is the wire's to describe; the analysis only says which column it is.
            analysis=analyse("SELECT ssn AS x FROM patients"),
            columns=columns,
            rules=(any_rule,),
            connection="warehouse",
            groups=frozenset(),
            phi=True,
            scan_text=False,
        )
        assert RowMasker(plan, columns).mask_rows([row(value)]) == [row(hidden)]


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        (TimestampFormat.FLOAT, "326444889.5", "315532800.0"),
        (TimestampFormat.INT64, "326444889500000", "315532800000000"),
        (TimestampFormat.ISO8601, "1980-05-06T07:08:09.500000Z", None),
        (TimestampFormat.FLOAT, "not a number", None),
    ],
)
def test_a_timestamp_keeps_its_form(form: TimestampFormat, value: str, shown: str | None) -> None:
    year = rule("year", "clinic.patients.dob", Technique.YEAR)
    found = masker("SELECT dob AS x FROM patients", [{"name": "x", "type": "DATE"}], year)
    assert found.mask_rows([row("1980-05-06")]) == [row("1980-01-01")]

    columns = (ResultColumn("x", type_name="TIMESTAMP"),)
    plan = build_plan(
        analysis=analyse("SELECT dob AS x FROM patients"),
        columns=columns,
        rules=(year,),
        connection="warehouse",
        groups=frozenset(),
        phi=True,
        scan_text=False,
    )
    got = RowMasker(plan, columns, timestamps=form).mask_rows([row(value)])[0]["f"][0]["v"]
    assert got == shown or (form is TimestampFormat.ISO8601 and got is not None and got.startswith("1980-01-01"))


def test_text_that_no_rule_covers_is_searched_wherever_it_is() -> None:
    schema = [
        text("state"),
        {"name": "doc", "type": "JSON"},
        {"name": "contacts", "type": "RECORD", "mode": "REPEATED", "fields": [text("kind"), text("phone")]},
        {"name": "b", "type": "BYTES"},
    ]
    statement = "SELECT state, doc, contacts, CAST(state AS BYTES) AS b FROM patients"
    secret = base64.b64encode(SECRET.encode()).decode()
    rows = [row(f"ssn {SECRET}", f'{{"note":"ssn {SECRET}"}}', [{"v": row(SECRET, None)}], secret)]

    assert SECRET in str(masker(statement, schema).mask_rows(rows))
    shown = str(masker(statement, schema, scans=True).mask_rows(rows))
    assert SECRET not in shown
    assert secret not in shown


@pytest.mark.parametrize(
    "bad",
    [{"f": [{"v": "x"}]}, {"f": [{"v": "x"}, {"v": "y"}, {"v": "z"}]}, {}, None, {"f": ["x", "y"]}, row("1", ["x"])],
)
def test_a_row_of_another_shape_is_refused(bad: Any) -> None:
    schema = [{"name": "id", "type": "INTEGER"}, text("ssn")]
    found = masker("SELECT id, ssn FROM patients", schema, SSN)

    with pytest.raises(ShapeMismatch):
        found.mask_rows([bad])


def test_a_plan_for_other_columns_is_refused() -> None:
    with pytest.raises(ShapeMismatch):
        RowMasker(MaskingPlan(()), result_columns({"fields": [text("a")]}))


def test_a_nested_rule_counts_as_touched() -> None:
    met = touch(
        analysis=analyse("SELECT TO_JSON_STRING(p) AS j FROM patients p"),
        rules=(NESTED,),
        connection="warehouse",
        groups=frozenset(),
    )

    assert {str(column) for column in met.columns_returned} == {"clinic.patients.person.ssn"}


# --- messages and statistics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Unrecognized name: nope at [1:8]", "Unrecognized name: nope at [1:8]"),
        ("Unrecognized name: ssn123456789 at [1:8]", "Unrecognized name: a name at [1:8]"),
        (f"Bad int64 value: {SECRET}", "A value could not be converted"),
        (f'Could not cast literal "{SECRET}" to type INT64 at [1:8]', "A value could not be converted"),
        (f"Division by zero: {SECRET} / 0", "Division by zero"),
        (SECRET, WITHHELD),
        (f"anything; {SECRET}", WITHHELD),
        ("Not found: Table demo-project:clinic.nope was not found in location US", "Not found: Table clinic.nope"),
        ('Syntax error: Unexpected string literal "123-45-6789" at [1:8]', "Syntax error"),
    ],
)
def test_messages_lose_their_values(message: str, shown: str) -> None:
    found = without_values(message, "SELECT nope FROM clinic.nope")

    assert found == shown
    assert SECRET not in found


def test_plans_lose_their_steps() -> None:
    statistics = {
        "totalBytesProcessed": "10",
        "query": {
            "statementType": "SELECT",
            "queryPlan": [
                {
                    "name": "S00",
                    "recordsRead": "5",
                    "steps": [{"kind": "FILTER", "substeps": [f"equal($1, '{SECRET}')"]}],
                }
            ],
            "undeclaredQueryParameters": [{"parameterValue": {"value": SECRET}}],
        },
        "scriptStatistics": {"evaluationKind": "STATEMENT", "stackFrames": [{"text": f"SELECT '{SECRET}'"}]},
    }

    assert without_literals(statistics) == {
        "totalBytesProcessed": "10",
        "query": {"statementType": "SELECT", "queryPlan": [{"name": "S00", "recordsRead": "5"}]},
        "scriptStatistics": {"evaluationKind": "STATEMENT"},
    }
