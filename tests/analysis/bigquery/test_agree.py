"""The dry run as second reading: whatever it says otherwise, or does not say, leaves the analysis incomplete."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.bigquery.agree import agree
from analysis.bigquery.dryrun import DryRun, DryRunError, FieldSchema, TableSchema
from analysis.bigquery.names import Definitions
from analysis.statement import Destination, Operation, Statement
from tests.analysis.bigquery.warehouse import DEFINITIONS, PATIENTS, PROJECT, analyse, honest, path, read, summary

QUERY = "SELECT id, ssn FROM patients"
INT, TEXT = FieldSchema("id", "INT64"), FieldSchema("ssn", "STRING")


def test_two_readings_that_agree_are_complete() -> None:
    analysis = analyse(QUERY)

    assert analysis.complete, analysis.problems
    assert analysis.facts.estimated_bytes == 1_000


@pytest.mark.parametrize(
    "changes",
    [
        {"statement_type": "INSERT"},
        {"statement_type": ""},
        {"referenced_tables": None},
        {"referenced_tables": frozenset()},
        {"referenced_tables": frozenset({path("claims")})},
        {"referenced_tables": frozenset({path("patients"), path("claims")})},
        {"referenced_tables": frozenset({path("patients", project="elsewhere")})},
        {"schema": None},
        {"schema": (INT,)},
        {"schema": (INT, TEXT, TEXT)},
        {"schema": (TEXT, INT)},
        {"schema": (INT, FieldSchema("ssn", "DATE"))},
        {"schema": (INT, FieldSchema("mrn", "STRING"))},
        {"error": DryRunError("invalidQuery", "…")},
    ],
    ids=lambda change: "-".join(change),  # sets print in no fixed order
)
def test_a_dry_run_that_disagrees_leaves_it_incomplete(changes: dict[str, Any]) -> None:
    analysis = analyse(QUERY, **changes)

    assert not analysis.complete
    assert analysis.problems
    assert [output.resolved for output in analysis.outputs or ()] == [False, False]


def test_without_a_dry_run_nothing_is_complete() -> None:
    analysis = agree(statement=Statement(QUERY, "bigquery"), text=read(QUERY), runs={}, definitions=DEFINITIONS)

    assert not analysis.complete


def test_unknown_bytes_are_no_fact() -> None:
    assert analyse(QUERY, bytes_processed=None).facts.estimated_bytes is None


def test_a_view_agrees_by_itself_or_by_its_tables() -> None:
    text = "SELECT label FROM labels"

    assert analyse(text, referenced_tables=frozenset({path("labels")})).complete
    assert analyse(text, referenced_tables=frozenset({path("patients")})).complete
    assert not analyse(text, referenced_tables=frozenset({path("claims")})).complete


def test_a_view_that_was_redefined_over_another_table_is_noticed() -> None:
    analysis = analyse("SELECT label FROM labels", referenced_tables=frozenset({path("labels"), path("claims")}))

    assert not analysis.complete


def test_a_wildcard_agrees_by_any_of_its_tables() -> None:
    text = "SELECT n FROM `clinic.events_*`"

    assert analyse(text, referenced_tables=frozenset({path("events_2025"), path("events_2026")})).complete
    assert not analyse(text, referenced_tables=frozenset({path("patients")})).complete


def test_a_wildcard_whose_tables_nobody_listed_is_incomplete() -> None:
    definitions = Definitions(home=PROJECT, tables=DEFINITIONS.tables)

    assert not analyse("SELECT n FROM `clinic.events_*`", definitions=definitions).complete


def test_a_foreign_project_is_read_once_the_connection_names_it() -> None:
    foreign = {path("patients", project="partner"): PATIENTS}
    text = "SELECT ssn FROM partner.clinic.patients"
    named = Definitions(home=PROJECT, projects=frozenset({"partner"}), tables=foreign)

    assert not analyse(text, definitions=Definitions(home=PROJECT, tables=foreign)).complete
    assert [summary(o) for o in analyse(text, definitions=named).outputs or ()] == ["ssn<partner.clinic.patients.ssn:i"]


def test_what_only_the_service_understood_is_named_by_it_and_never_complete() -> None:
    text = "FROM clinic.patients |> SELECT ssn"
    run = DryRun("SELECT", frozenset({path("patients")}), (TEXT,), 5)
    analysis = agree(statement=Statement(text, "bigquery"), text=read(text), runs={text: run}, definitions=DEFINITIONS)

    assert (analysis.kind, analysis.complete, analysis.operations) == ("SELECT", False, frozenset({Operation.READ}))
    assert [(output.name, output.resolved) for output in analysis.outputs or ()] == [("ssn", False)]
    assert {str(table) for table in analysis.tables_read} == {"clinic.patients"}


def test_a_destination_table_is_a_write() -> None:
    analysis = analyse(QUERY, destination=Destination(f"{PROJECT}.scratch.copy"))

    assert Operation.WRITE in analysis.operations
    assert {str(table) for table in analysis.tables_written} == {"scratch.copy"}
    assert {str(column) for column in analysis.writes} == {"scratch.copy.id", "scratch.copy.ssn"}
    assert analysis.facts.export


def test_every_part_of_a_script_is_asked_about_with_its_functions() -> None:
    text = "CREATE TEMP FUNCTION f(x STRING) AS (REVERSE(x)); SELECT f(ssn) AS s FROM patients"
    probes = [probe for probe in honest(read(text)) if "SELECT" in probe]

    assert probes == ["CREATE TEMP FUNCTION f(x STRING) AS (REVERSE(x));\nSELECT f(ssn) AS s FROM patients"]
    assert analyse(text).complete


def test_a_column_that_stands_in_the_text_must_stand_in_the_tree() -> None:
    """A clause the parser passes over would hide what it reads: the names in the text are counted against the tree."""
    hidden = Definitions(
        home=PROJECT, tables={path("patients"): TableSchema((INT, TEXT, FieldSchema("kind", "STRING")))}
    )
    found = read("SELECT id FROM patients WINDOW kind AS (ORDER BY id)", hidden)

    assert not found.reading.problems  # met as the window's name
    assert not analyse("SELECT JSON_VALUE(doc, '$.x') FROM patients").problems
    assert analyse("SELECT JSON_VALUE(doc, '$.x', ssn) FROM patients").problems


@pytest.mark.parametrize(
    ("text", "uncounted"),
    [
        ("DELETE FROM patients WHERE id = 1", False),
        ("SELECT id FROM patients; SELECT id FROM patients", False),
        ("DELETE FROM patients WHERE id = 1; SELECT id FROM patients", True),
        ("BEGIN DELETE FROM patients WHERE id = 1; END", True),
        ("TRUNCATE TABLE patients", True),
        ("EXPORT DATA OPTIONS (uri = 'gs://b/*', format = 'CSV') AS SELECT id FROM patients", True),
    ],
)
def test_changes_no_job_statistics_count_are_told(text: str, uncounted: bool) -> None:
    assert analyse(text).facts.uncounted is uncounted


def test_rows_written_to_a_destination_are_not_counted() -> None:
    assert analyse(QUERY, destination=Destination(f"{PROJECT}.scratch.copy")).facts.uncounted
    assert not analyse(QUERY).facts.uncounted  # control
