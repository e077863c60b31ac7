"""What a database's columns probably hold, by their names, and the masking rules that follow when a person agrees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from analysis.statement import ColumnRef
from masking.detectors.column_names import class_of_name
from masking.domain.load import load_masking_rules
from masking.domain.rules import rules_for
from masking.domain.safe_harbor import class_told_by, technique_for

# Data class → technique that keeps what an analyst may have (docs/hipaa.md, Safe Harbor). Others are redacted.
USUAL = {"mrn": "hash", "health_plan": "hash", "account": "hash", "licence": "hash", "date": "year", "zip": "zip3",
         "note": "scan", "device": "hash", "age": "null"}  # fmt: skip
SAFE_HARBOR = "safe-harbor"
OTHER = "other"  # the class of what a person protects though nothing tells of it
TECHNIQUES = ("redact", "null", "partial", "hash", "year", "zip3", "scan")


@dataclass(frozen=True, slots=True)
class Column:
    """A column that probably holds a data class. `field` names it in the form; `covered_by`: a rule it has already."""

    field: str
    column: str
    data_class: str
    technique: str
    covered_by: str = ""


def proposals(*, connection: str, tables: Sequence[Mapping[str, Any]], profile: str = "") -> list[Column]:
    """The proposals for every column, those with a rule included, in the order of their names.

    `profile`: `safe-harbor` proposes what satisfies 45 CFR 164.514(b)(2); otherwise tokens where analysts need them.
    """
    refs = _references(tables)
    covered = _covered(connection, refs)
    told = class_told_by if profile == SAFE_HARBOR else class_of_name
    classes = {
        column: data_class
        for column, ref in refs.items()
        if (data_class := told(ref.column.rsplit(".", 1)[-1])) is not None
    }
    return [
        Column(
            field=_field(column),
            column=column,
            data_class=data_class,
            technique=usual_technique(data_class, profile),
            covered_by=covered.get(column, ""),
        )
        for column, data_class in sorted(classes.items())
    ]


def others(*, connection: str, tables: Sequence[Mapping[str, Any]], proposed: Sequence[Column]) -> list[Column]:
    """The columns whose names tell nothing: a person may know better. Those a rule covers are not asked about."""
    refs = _references(tables)
    known = {column.column for column in proposed} | set(_covered(connection, refs))
    return [Column(_field(name), name, OTHER, "redact") for name in sorted(set(refs) - known)]


def usual_technique(data_class: str, profile: str) -> str:
    return technique_for(data_class).value if profile == SAFE_HARBOR else USUAL.get(data_class, "redact")


def chosen(found: Sequence[Column], posted: Mapping[str, Any]) -> list[tuple[Column, str]]:
    """The uncovered columns a person ticked, each with the technique they picked. Names come from us, not from them."""
    return [
        (column, technique if (technique := posted.get(f"{column.field}-technique", "")) in TECHNIQUES else "redact")
        for column in found
        if not column.covered_by and posted.get(column.field)
    ]


def _references(tables: Sequence[Mapping[str, Any]]) -> dict[str, ColumnRef]:
    return {
        f"{table['schema']}.{table['name']}.{name}": ColumnRef(table["schema"], table["name"], name)
        for table in tables
        for name in table["column_names"]
    }


def _covered(connection: str, refs: Mapping[str, ColumnRef]) -> dict[str, str]:
    """Column → the rule that covers it."""
    scope = rules_for(load_masking_rules(), connection)
    return {column: rule.name for column, ref in refs.items() if (rule := scope.rule_for(ref)) is not None}


def _field(column: str) -> str:
    """A column's name in the form. Not its place: the table may have another column by the time the form comes back."""
    return f"column-{sha256(column.encode()).hexdigest()[:16]}"


def rule_name(connection: str, data_class: str, technique: str) -> str:
    return f"{connection}-{data_class.replace('_', '-')}-{technique}"[:63]


def masking_rules(connection: str, columns: Sequence[tuple[Column, str]]) -> list[dict[str, Any]]:
    """The `masking` section: one rule for each data class and technique, with the columns it had before."""
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for column, technique in columns:
        grouped[(column.data_class, technique)].append(column.column)
    had = {rule.name: rule.columns for rule in load_masking_rules() if rule.connections == (connection,)}
    return [
        {
            "name": (name := rule_name(connection, data_class, technique)),
            "connections": [connection],
            "columns": sorted({*names, *had.get(name, ())}),
            "technique": technique,
            "inference": "guarded",
            "data_class": data_class.replace("_", "-"),
        }
        for (data_class, technique), names in sorted(grouped.items())
    ]
