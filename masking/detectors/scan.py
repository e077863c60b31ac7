"""The detectors as masks of result columns: text is rewritten span by span, JSON inside its strings.

How deep a column is searched depends on what it is: free text with every detector, ordinary values only for what has
the shape of an identifier (see `structured`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from masking.detectors.document import mask_json
from masking.detectors.spans import Span, apply
from masking.detectors.structured import detect_structured
from masking.detectors.text import detect
from masking.engines.compiled import compiled_scan
from masking.engines.types import REDACTED, Family, MaskValue, Target

# Columns repeat their values (cities, departments): the findings of short ones are remembered within one result. Not
# across results, where the time a value takes would tell one session what another has read.
_REMEMBERED_VALUES = 4096
_LONGEST_REMEMBERED = 200


Detect = Callable[[str], list[Span]]


class Depth(Enum):
    """Which detectors read the values of a column."""

    FULL = "full"  # free text: names, places and dates too
    STORED = "stored"  # ordinary stored text: shapes, and digits alone where they have an identifier's length
    DERIVED = "derived"  # the result of an expression: shapes only, since numbers and times turn into digits


def compile_scan(target: Target, depth: Depth = Depth.FULL) -> MaskValue | None:
    """Return the scanning mask of a column, or None for types that cannot carry free text."""
    mask = _scanner(target, depth)
    if mask is None:
        return None
    remembering = _remembering(mask)
    return remembering if depth is Depth.FULL else compiled_scan(remembering, target)


def detector(depth: Depth) -> Detect:
    """Return what finds the identifiers of one value at this depth."""
    if depth is Depth.FULL:
        return detect
    bare_digits = depth is Depth.STORED
    return lambda text: detect_structured(text, bare_digits=bare_digits)


def _remembering(mask: MaskValue) -> MaskValue:
    known: dict[bytes, bytes | None] = {}

    def remembered(value: bytes | None) -> bytes | None:
        if value is None or len(value) > _LONGEST_REMEMBERED:
            return mask(value)
        try:
            return known[value]
        except KeyError:
            masked = mask(value)
        if len(known) < _REMEMBERED_VALUES:
            known[value] = masked
        return masked

    return remembered


def _scanner(target: Target, depth: Depth) -> MaskValue | None:
    find = detector(depth)
    if target.family is Family.TEXT:
        return lambda value: _scan_text(value, find)
    if target.family is Family.JSON or (target.family is Family.JSONB and not target.binary):
        return lambda value: _scan_json(value, find)
    if target.family is Family.JSONB:
        return lambda value: _scan_jsonb(value, find)
    if target.family is Family.BYTES:
        opaque = _scan_opaque if target.binary else _scan_hex_bytes
        return lambda value: opaque(value, find)
    return (lambda value: _scan_opaque(value, find)) if target.family is Family.UNKNOWN else None


def _scan_text(value: bytes | None, find: Detect) -> bytes | None:
    """Text that is not UTF-8 cannot be read, hence not be shown."""
    if value is None:
        return None
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return REDACTED
    spans = find(text)
    return apply(text, spans).encode("utf-8") if spans else value


def _scan_json(value: bytes | None, find: Detect) -> bytes | None:
    if value is None:
        return None
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    masked = mask_json(text, find)
    return value if masked is text else masked.encode("utf-8")


def _scan_jsonb(value: bytes | None, find: Detect) -> bytes | None:
    if value is None or value[:1] != b"\x01":
        return None  # another jsonb version: unreadable, hence not shown
    body = value[1:]
    masked = _scan_json(body, find)
    if masked is None or masked is body:
        return value if masked is body else None
    return b"\x01" + masked


def _scan_opaque(value: bytes | None, find: Detect) -> bytes | None:
    """NULL for any finding: a rewritten value of an unknown type (array, enum, composite) need not be valid."""
    if value is None:
        return None
    return None if find(value.decode("utf-8", errors="replace")) else value


def _scan_hex_bytes(value: bytes | None, find: Detect) -> bytes | None:
    if value is None:
        return None
    try:
        raw = bytes.fromhex(value[2:].decode("ascii")) if value[:2] == b"\\x" else value
    except ValueError:
        raw = value
    return None if _scan_opaque(raw, find) is None else value
