"""PostgreSQL values to and from JSON for the relay: numbers and booleans typed, everything else its text form."""

from __future__ import annotations

import json
import math
from typing import Any

from psycopg.postgres import types as _builtin_types

_INT_OIDS = frozenset({20, 21, 23, 26})
_FLOAT_OIDS = frozenset({700, 701})
_BOOL_OID = 16
_JSON_OIDS = frozenset({114, 3802})


def type_name(oid: int) -> str:
    """The type's own name for built-in types, `oid <n>` for others."""
    info = _builtin_types.get(oid)
    return info.name if info is not None else f"oid {oid}"


def json_value(value: str | None, oid: int, *, masked: bool = False) -> Any:
    """A text-format value as JSON. A numeric keeps its text, since JSON numbers lose digits."""
    if value is None:
        return None
    if oid in _INT_OIDS:
        return int(value)
    if oid in _FLOAT_OIDS:
        number = float(value)
        return number if math.isfinite(number) else value
    if oid == _BOOL_OID:
        return value == "t"
    if oid in _JSON_OIDS:
        return _document(value, masked=masked)
    return value


def _document(value: str, *, masked: bool) -> Any:
    """A masked document may be a document still (an array searched for text), or the mask alone.

    PostgreSQL keeps documents that readers of JSON have no values for: numbers beyond all floats or of thousands of
    digits, arrays a thousand deep. They are given as their text.
    """
    try:
        return json.loads(value, parse_float=_finite)
    except RecursionError:
        return value
    except ValueError as error:
        if masked or not isinstance(error, json.JSONDecodeError):
            return value
        raise


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond all floats")
    return number


def wire_parameter(value: Any) -> bytes | None:
    """A JSON value as a text-format parameter."""
    match value:
        case None:
            return None
        case bool():
            return b"true" if value else b"false"
        case str():
            return value.encode()
        case int() | float():
            return repr(value).encode()
        case _:
            return json.dumps(value).encode()
