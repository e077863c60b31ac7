"""Ordinary short values pass as they are; identifiers planted among them do not."""

from __future__ import annotations

import time

import pytest

from analysis.statement import Analysis, ColumnRef, Origin, Output, Statement, Transform
from hoopweb.demo.generate import COLUMNS, generate
from masking.detectors.structured import detect_structured, is_prose
from masking.domain.field import ResultColumn
from masking.domain.plan import build_plan

PROTECTED = {
    "patients": ["mrn", "first_name", "last_name", "ssn", "dob", "email", "phone", "address", "city", "zip"],
    "encounters": ["provider_npi"],
    "clinical_notes": ["author", "note"],
    "claims": ["member_id", "claim_number"],
}
CLINIC = generate(patients=300)
OPEN_COLUMNS = [
    (table, column)
    for table, columns, _rows in CLINIC.tables()
    for column in columns
    if column not in PROTECTED.get(table, ())
]
PLANTED = {
    "SSN": "541-82-6637",
    "SSN with blanks": "541 82 6637",
    "SSN without separators": "541826637",
    "last four of an SSN": "***-**-6637",
    "e-mail": "maria.garcia@example.org",
    "phone": "(415) 555-0123",
    "phone with dots": "415.555.0123",
    "phone abroad": "+44 20 7946 0958",
    "phone without separators": "4155550123",
    "MRN": "MRN0012345",
    "MBI": "1EG4-TE5-MK73",
    "NPI": "1234567893",
    "DEA": "AB1234563",
    "VIN": "1M8GDM9AXKP042788",
    "card": "4111 1111 1111 1111",
    "card without blanks": "4111111111111111",
    "IBAN": "DE89 3704 0044 0532 0130 00",
    "URL of a person": "https://portal.example.org/patients/88123",
    "URL with a query": "https://example.org/?id=maria",
    "IPv4": "203.0.113.7",
    "IPv6": "2001:db8::8a2e:370:7334",
    "MAC": "00:1B:44:11:3A:B7",
    "MAC of letters": "aa:bb:cc:dd:ee:ff",
    "full-width digits": "５４１-８２-６６３７",  # noqa: RUF001
    "zero-width joiners": "541-8\u200b2-6637",
}


def scanned(value: str, *origins: Origin, type_oid: int = 25) -> str:
    analysis = Analysis(Statement("…"), "SELECT", "f", complete=True, outputs=(Output("c", origins),))
    plan = build_plan(
        analysis=analysis,
        columns=[ResultColumn("c", type_oid)],
        rules=(),
        connection="clinic",
        groups=frozenset(),
        phi=True,
        scan_text=True,
    )
    mask = plan.fields[0].mask
    result = value.encode() if mask is None else mask(value.encode())
    assert result is not None
    return result.decode()


def stored(table: str, column: str) -> Origin:
    return Origin(ColumnRef("public", table, column), Transform.IDENTITY)


def derived(table: str, column: str) -> Origin:
    return Origin(ColumnRef("public", table, column), Transform.DERIVED)


@pytest.mark.parametrize(("table", "column"), OPEN_COLUMNS)
def test_open_column_of_the_demo_passes_unchanged(table: str, column: str) -> None:
    at = COLUMNS[table].index(column)
    values = {str(row[at]) for row in getattr(CLINIC, table) if row[at] is not None}

    changed = {value for value in values if scanned(value, stored(table, column)) != value}

    assert changed == set()


@pytest.mark.parametrize(("table", "column"), OPEN_COLUMNS)
def test_cast_of_an_open_column_of_the_demo_passes_unchanged(table: str, column: str) -> None:
    at = COLUMNS[table].index(column)
    values = {str(row[at]) for row in getattr(CLINIC, table) if row[at] is not None}

    changed = {value for value in values if scanned(value, derived(table, column)) != value}

    assert changed == set()


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("column", ["payer", "department", "description", "status"])
def test_identifier_planted_in_an_open_column_is_found(kind: str, column: str) -> None:
    masked = scanned(PLANTED[kind], stored("claims", column))

    assert not set("0123456789") & set(masked)
    assert "garcia" not in masked.lower()


@pytest.mark.parametrize("kind", [kind for kind in PLANTED if "without" not in kind and kind != "NPI"])
def test_identifier_with_a_shape_is_found_in_derived_text_too(kind: str) -> None:
    assert scanned(f"x: {PLANTED[kind]}", derived("claims", "payer")) != f"x: {PLANTED[kind]}"


@pytest.mark.parametrize(
    "value",
    [
        "Blue Harbor Health",
        "2022-05",
        "2022-05-17",
        "2026-05-16 19:05:00+00",
        "open",
        "true",
        "1700000000.123456",
        "1234567893",
        "2147483647",
        "541826637",
        "12345.67",
        "-17",
        "00:12:30",
        "3 days 04:05:06",
        "Johnson",
        "4548-4",
        "S93.401A",
        "99213",
        "0093-7214-01",
        "mg/dL",
        "PostgreSQL 18.6",
        "Q3 2024",
        "1,234,567.00",
        "10/12",
        "{1,2,3}",
        "http://loinc.org",
        "urn:oid:2.16.840.1.113883.6.96",
        "(Monday)",
        "N/A",
        "50%",
        "I10 I48.91 E11.9",
    ],
)
def test_ordinary_derived_text_passes(value: str) -> None:
    assert scanned(value, derived("claims", "submitted_on")) == value


@pytest.mark.parametrize("code", ["195967001", "73211009", "1234567893", "4155550123"])
def test_bare_digits_in_a_column_of_codes_pass(code: str) -> None:
    assert scanned(code, stored("conditions", "snomed_code")) == code
    assert scanned(code, stored("conditions", "other")) != code or code == "73211009"


@pytest.mark.parametrize("column", ["patient_name", "author", "signed_by", "home_city", "attending", "guarantor"])
def test_short_names_are_found_where_the_column_speaks_of_people(column: str) -> None:
    assert "Garcia" not in scanned("Maria Garcia, Boston", stored("visits", column))


def test_unexpected_narrative_in_any_column_is_read_with_every_detector() -> None:
    text = "the patient Maria Garcia was seen for chest pain and will return on March 3rd, 2024"

    masked = scanned(text, stored("claims", "status"))

    assert is_prose(text)
    assert "Garcia" not in masked
    assert "March" not in masked


def test_what_stands_beside_an_identifier_is_masked_with_it() -> None:
    assert scanned("Maria Garcia 541-82-6637", stored("claims", "status")) == "[NAME] [SSN]"
    assert scanned("Maria Garcia", stored("claims", "status")) == "Maria Garcia"


def test_nothing_is_scanned_without_a_stored_column() -> None:
    assert scanned("541-82-6637") == "541-82-6637"


def test_the_systems_own_columns_are_not_scanned() -> None:
    settings = Origin(ColumnRef("pg_catalog", "pg_settings", "setting"), Transform.DERIVED)

    assert scanned('{"max": 2147483647, "ip": "203.0.113.7"}', settings, type_oid=114).endswith('"203.0.113.7"}')


def test_json_built_from_open_columns_keeps_their_values() -> None:
    text = (
        '{"payer": "Blue Harbor Health", "at": "2022-05-17T10:00:00", "n": 2147483647, "patient_name": "Maria Garcia"}'
    )

    masked = scanned(text, derived("claims", "payer"), derived("claims", "submitted_on"), type_oid=114)

    assert masked == text.replace("Maria Garcia", "[NAME]")


def test_array_of_open_values_passes_and_of_identifiers_does_not() -> None:
    plan_of = {"{Blue Harbor Health,Cedar Mutual}": False, "{541-82-6637}": True}

    for value, masked in plan_of.items():
        assert bool(detect_structured(value)) is masked


@pytest.mark.parametrize("value", ["a" * 100_000 + "1", "1-" * 50_000, "ab:" * 33_000, "A1" * 50_000])
def test_long_value_without_prose_does_not_stall(value: str) -> None:
    began = time.process_time()

    detect_structured(value)

    assert time.process_time() - began < 5
