"""Query parameters: one canonical value for approval and record, names and types for analysis, and from plain JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Parameters = Sequence[Mapping[str, Any]]


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def bound(parameters: Parameters) -> tuple[bytes, ...]:
    """What an approval is bound to and the record keeps: everything, values included."""
    return (canonical(list(parameters)),) if parameters else ()


def declared(parameters: Parameters) -> str:
    """Names and types without values; empty when there are none."""
    if not parameters:
        return ""
    return canonical(
        [{key: value for key, value in each.items() if key in ("name", "parameterType")} for each in parameters]
    ).decode()


def positional(values: Iterable[Any]) -> list[dict[str, Any]]:
    """`QueryParameter` resources of plain JSON values; one that is such a resource already stays as it is."""
    return [value if _is_resource(value) else _positional(value) for value in values]


def _is_resource(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("parameterType"), dict)


def _positional(value: Any) -> dict[str, Any]:
    type_, text = _typed(value)
    return {"parameterType": {"type": type_}, "parameterValue": {"value": text}}


def _typed(value: Any) -> tuple[str, str | None]:
    match value:
        case None:
            return "STRING", None
        case bool():
            return "BOOL", str(value).lower()
        case int():
            return "INT64", str(value)
        case float():
            return "FLOAT64", repr(value)
        case str():
            return "STRING", value
    return "JSON", json.dumps(value)
