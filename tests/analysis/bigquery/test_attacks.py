"""The catalogue of attacks (tests/bigquery/attacks.txt), read under a dry run that agrees with whatever was read.

So this holds what the emulator cannot run, too. Whatever the service says, a statement that is after a protected column
must not be read as one that has nothing to do with any.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from analysis.bigquery.dryrun import TableSchema
from analysis.bigquery.names import Definitions
from analysis.statement import Analysis, Operation, Output
from tests.analysis.bigquery.warehouse import COLUMNS, PATIENTS, PROJECT, analyse, column, path

SHARD = TableSchema((column("id", "INT64"), column("ssn")))
LABELS = TableSchema(
    (column("label"), column("id", "INT64")),
    kind="VIEW",
    query=f"SELECT ssn AS label, id FROM `{PROJECT}.vault.patients`",
)
VAULT = {
    "patients": TableSchema((*PATIENTS.fields, column("note"))),
    "shard_a": SHARD,
    "shard_b": SHARD,
    "d": TableSchema((column("z"),)),
    "labels": LABELS,
    "shard_*": TableSchema(SHARD.fields, kind="WILDCARD"),
    "shard*": TableSchema(SHARD.fields, kind="WILDCARD"),
    "INFORMATION_SCHEMA.COLUMNS": COLUMNS,
}
DEFINITIONS = Definitions(
    home=PROJECT,
    tables={path(name, "vault"): schema for name, schema in VAULT.items()},
    shards={path(name, "vault"): ("shard_a", "shard_b") for name in ("shard_*", "shard*")},
)
MARK = re.compile(r"^![sfvn] ")
PROTECTED = {"ssn", "person", "contacts", "tags", "doc", "note", "label"}


def attacks() -> list[Any]:
    file = Path(__file__).parents[2] / "bigquery" / "attacks.txt"
    lines = [MARK.sub("", line) for line in file.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    rows = [line.split("|", 1) for line in lines]
    return [pytest.param(text.strip().replace("@", "x"), id=name.strip()) for name, text in rows]


def touched(analysis: Analysis) -> set[str]:
    """First names of the columns a complete reading says it meets."""
    columns = analysis.reads | analysis.writes | {predicate.column for predicate in analysis.predicates}
    columns |= {origin.column for output in analysis.outputs or () for origin in _origins(output)}
    return {column.column.partition(".")[0] for column in columns}


def _origins(output: Output) -> list[Any]:
    return [*output.origins, *(origin for part in output.fields for origin in _origins(part))]


@pytest.mark.parametrize("text", attacks())
def test_no_attack_is_read_as_harmless(text: str) -> None:
    analysis = analyse(text, definitions=DEFINITIONS)

    assert not analysis.complete or Operation.ADMIN in analysis.operations or touched(analysis) & PROTECTED


def test_harmless_questions_are_read_as_such() -> None:
    analysis = analyse("SELECT id, state FROM vault.patients WHERE id > 3", definitions=DEFINITIONS)

    assert analysis.complete
    assert touched(analysis) == {"id", "state"}
