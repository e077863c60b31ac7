"""Values of BigQuery's JSON rows ({"f": [{"v": …}]}) as plain JSON, by the schema of the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Fields = Sequence[Mapping[str, Any]]
_RECORDS = frozenset({"RECORD", "STRUCT"})


def plain_row(row: Mapping[str, Any], fields: Fields) -> list[Any]:
    """One value a column: text as the service spells it, records as objects, repeated fields as lists."""
    cells = row["f"]
    return [_plain(cell.get("v"), field) for cell, field in zip(cells, fields, strict=True)]


def values_at(value: Any, path: Sequence[int]) -> Iterator[bytes | None]:
    """The scalars at a place in a cell's value, field by field through records and all along arrays.

    None once where there is none, or where one of several is NULL.
    """
    found = list(_at(value, path))
    yield from (scalar.encode() for scalar in found if scalar is not None)
    if not found or None in found:
        yield None


def _at(value: Any, path: Sequence[int]) -> Iterator[str | None]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item.get("v") if isinstance(item, Mapping) else item, path)
    elif not path:
        yield value if isinstance(value, str) else None
    elif isinstance(value, Mapping):
        yield from _at(value["f"][path[0]].get("v"), path[1:])
    else:
        yield None


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
