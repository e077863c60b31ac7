"""A small warehouse as BigQuery would describe it, and the dry run an honest service gives of a statement over it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis.bigquery.agree import agree
from analysis.bigquery.dryrun import DryRun, FieldSchema, Routine, TablePath, TableSchema
from analysis.bigquery.names import Defaults, Definitions
from analysis.bigquery.read import TextReading, read_text
from analysis.statement import Analysis, Destination, Output, Statement

PROJECT = "demo-project"
DEFAULTS = Defaults(PROJECT, "clinic", PROJECT)


def column(name: str, kind: str = "STRING", mode: str = "NULLABLE", *fields: FieldSchema) -> FieldSchema:
    return FieldSchema(name, kind, mode, fields)


def path(table: str, dataset: str = "clinic", project: str = PROJECT) -> TablePath:
    return TablePath(project, dataset, table)


PATIENTS = TableSchema(
    (
        column("id", "INT64", "REQUIRED"),
        column("mrn"),
        column("ssn"),
        column("last_name"),
        column("state"),
        column("dob", "DATE"),
        column("person", "STRUCT", "NULLABLE", column("ssn"), column("city")),
        column("tags", "STRING", "REPEATED"),
        column("contacts", "STRUCT", "REPEATED", column("kind"), column("phone")),
        column("doc", "JSON"),
    )
)
CLAIMS = TableSchema(
    (column("claim_id", "INT64"), column("patient_id", "INT64"), column("amount", "NUMERIC"), column("member_ssn"))
)
VIEW = TableSchema(
    (column("label"), column("id", "INT64")),
    kind="VIEW",
    query=f"SELECT ssn AS label, id FROM `{PROJECT}.clinic.patients` WHERE state = 'CA'",
)
EVENTS = TableSchema((column("person_ssn"), column("n", "INT64")), kind="WILDCARD")
COLUMNS = TableSchema((column("table_name"), column("column_name")), kind="SYSTEM")

DEFINITIONS = Definitions(
    home=PROJECT,
    tables={
        path("patients"): PATIENTS,
        path("claims"): CLAIMS,
        path("labels"): VIEW,
        path("events_*"): EVENTS,
        path("INFORMATION_SCHEMA.COLUMNS"): COLUMNS,
    },
    shards={path("events_*"): ("events_2025", "events_2026")},
    routines={
        path("backwards"): Routine("SCALAR_FUNCTION", "SQL", "REVERSE(x)", ("x",)),
        path("anyone"): Routine("SCALAR_FUNCTION", "SQL", f"(SELECT MAX(ssn) FROM `{PROJECT}.clinic.patients`)", ()),
        path("scripted"): Routine("SCALAR_FUNCTION", "JAVASCRIPT", "return x", ("x",)),
    },
)


def read(text: str, definitions: Definitions = DEFINITIONS) -> TextReading:
    return read_text(text, definitions, DEFAULTS)


def honest(text: TextReading, definitions: Definitions = DEFINITIONS) -> dict[str, DryRun]:
    """What a service that understood every part as we did would answer."""
    runs: dict[str, DryRun] = {}
    for part in text.parts:
        if part.probe is None:
            continue
        rows = part.act.rows
        runs[part.probe] = DryRun(
            statement_type=min(part.act.expected, default=""),
            referenced_tables=frozenset(part.beneath | part.written),
            schema=None
            if rows is None
            else tuple(_described(definitions, name, value) for name, value in rows.columns),
            bytes_processed=1_000,
        )
    return runs


def _described(definitions: Definitions, name: str, value: object) -> FieldSchema:
    fields = getattr(value, "fields", None)
    if fields is not None:
        parts = zip(getattr(value, "names", ()), fields, strict=False)
        return FieldSchema(name, "STRUCT", fields=tuple(_described(definitions, *part) for part in parts))
    origins = sorted(getattr(value, "origins", ()))
    known = [definitions.types[origin.column] for origin in origins if origin.column in definitions.types]
    return FieldSchema(name or "f0_", known[0] if known else "STRING")


def analyse(
    text: str, *, definitions: Definitions = DEFINITIONS, destination: Destination | None = None, **changes: Any
) -> Analysis:
    """The analysis under an honest dry run, `changes` apart."""
    found = read(text, definitions)
    runs = {probe: replace(run, **changes) for probe, run in honest(found, definitions).items()}
    statement = Statement(text, dialect="bigquery", destination=destination)
    return agree(statement=statement, text=found, runs=runs, definitions=definitions)


def summary(output: Output) -> str:
    """`name<column:transform …` with the transform's first letter; records as `name{…}`."""
    if output.fields:
        return f"{output.name}{{{' '.join(map(summary, output.fields))}}}"
    origins = (f"{_short(str(origin.column))}:{origin.transform.value[0]}" for origin in output.origins)
    return f"{output.name}<{','.join(origins)}"


def _short(column: str) -> str:
    return column.removeprefix("clinic.").removeprefix("patients.")
