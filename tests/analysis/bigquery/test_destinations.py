"""What jobs write besides what their text says, and what that takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.bigquery.destinations import load_analysis
from analysis.bigquery.dryrun import TablePath
from analysis.statement import Destination, Operation, Statement
from tests.analysis.bigquery.warehouse import DEFINITIONS, PROJECT, analyse

PATIENTS = f"{PROJECT}.clinic.patients"
APPEND = "WRITE_APPEND"
WRITE, DDL, ADMIN = Operation.WRITE, Operation.DDL, Operation.ADMIN


def load(table: str = PATIENTS, columns: tuple[str, ...] = ("id",), **more: object):  # type: ignore[no-untyped-def]
    destination = replace(Destination(table, APPEND, columns=columns), **more)  # type: ignore[arg-type]
    return load_analysis(Statement("LOAD DATA …", dialect="bigquery", destination=destination), DEFINITIONS)


def test_a_load_writes_the_columns_it_names_and_reads_nothing() -> None:
    analysis = load(columns=("id", "ssn"))

    assert analysis.complete
    assert analysis.operations == {WRITE}
    assert {str(column) for column in analysis.writes} == {"clinic.patients.id", "clinic.patients.ssn"}
    assert (analysis.reads, analysis.outputs, analysis.facts.export) == (frozenset(), None, False)


def test_a_load_that_names_no_column_may_write_each() -> None:
    assert "clinic.patients.ssn" in {str(column) for column in load(columns=("*",)).writes}


def test_a_record_is_written_with_all_its_fields() -> None:
    written = {str(column) for column in load(columns=("PERSON",)).writes}

    assert {"clinic.patients.person", "clinic.patients.person.ssn"} <= written


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        ({}, {WRITE}),
        ({"disposition": "WRITE_EMPTY"}, {WRITE}),
        ({"disposition": "WRITE_TRUNCATE_DATA"}, {WRITE}),
        ({"disposition": "WRITE_TRUNCATE"}, {WRITE, DDL}),  # the table's definition is replaced with it
        ({"changes_schema": True}, {WRITE, DDL}),
        ({"columns": ("new",)}, {WRITE, DDL}),
        ({"table": f"{PROJECT}.clinic.unknown"}, {WRITE, DDL}),
        ({"outside": True}, {WRITE, ADMIN}),  # files the service fetches by itself
    ],
)
def test_what_a_load_takes(asked: dict[str, object], needed: set[Operation]) -> None:
    assert load(**asked).operations == needed  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "table", [f"{PROJECT}._hidden.t", "elsewhere.clinic.t", f"{PROJECT}.clinic.t*", f"{PROJECT}.clinic.t$20260101"]
)
def test_destinations_that_are_never_plainly_allowed(table: str) -> None:
    for analysis in (load(table), analyse("SELECT 1 AS id", destination=Destination(table))):
        assert not analysis.complete
        assert DDL in analysis.operations or ADMIN in analysis.operations


def test_a_destination_that_exists_needs_no_definition() -> None:
    into = Destination(PATIENTS, APPEND)
    analysis = analyse("SELECT id, ssn FROM clinic.patients", destination=into)

    assert analysis.operations == {Operation.READ, WRITE}
    assert analysis.facts.export
    assert TablePath(PROJECT, "clinic", "patients") in DEFINITIONS.tables


@pytest.mark.parametrize(
    "text", ["ALTER TABLE clinic.patients RENAME COLUMN ssn TO harmless", "ALTER TABLE clinic.patients RENAME TO other"]
)
def test_another_name_for_protected_columns_is_a_write_of_them(text: str) -> None:
    """Under the new name no rule knows them: policies over writes of protected columns must hold it."""
    assert "clinic.patients.ssn" in {str(column) for column in analyse(text).writes}
