"""Values of BigQuery's JSON rows ({"f": [{"v": …}]}) as plain JSON, by the schema of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Fields = Sequence[Mapping[str, Any]]
_RECORDS = frozenset({"RECORD", "STRUCT"})


def plain_row(row: Mapping[str, Any], fields: Fields) -> list[Any]:
    """One value a column: text as the service spells it, records as objects, repeated fields as lists."""
    cells = row["f"]
    return [_plain(cell.get("v"), field) for cell, field in zip(cells, fields, strict=True)]


def _plain(value: Any, field: Mapping[str, Any]) -> Any:
    if value is None:
        return None
    if str(field.get("mode", "")).upper() == "REPEATED" and isinstance(value, list):
        return [_single(item.get("v") if isinstance(item, Mapping) else item, field) for item in value]
    return _single(value, field)


def _single(value: Any, field: Mapping[str, Any]) -> Any:
    if str(field.get("type", "")).upper() in _RECORDS and isinstance(value, Mapping):
        names = [str(child["name"]) for child in field.get("fields", ())]
        return dict(zip(names, plain_row(value, field.get("fields", ())), strict=True))
    return value
