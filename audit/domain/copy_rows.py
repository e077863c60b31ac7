"""Rows as PostgreSQL's COPY takes them in its binary format (its documentation, COPY, "Binary Format"). Pure.

A column is its length and its bytes. Columns that many rows share are spelled once and joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)  # no flags, no extension
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

_TEXT_OID = 25
_EPOCH_US = 946_684_800_000_000  # PostgreSQL counts microseconds from 2000-01-01

_LENGTH = Struct("!i").pack
_COUNT = Struct("!h").pack
_INT4 = Struct("!ii").pack
_INT8 = Struct("!iq").pack
_ARRAY = Struct("!iiiii").pack


def row_head(columns: int) -> bytes:
    """What every row of so many columns begins with."""
    return _COUNT(columns)


def raw(value: bytes) -> bytes:
    """A bytea column."""
    return _LENGTH(len(value)) + value


def text(value: str) -> bytes:
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


def int4(value: int) -> bytes:
    return _INT4(4, value)


def int8(value: int) -> bytes:
    return _INT8(8, value)


def boolean(value: bool) -> bytes:
    return b"\x00\x00\x00\x01\x01" if value else b"\x00\x00\x00\x01\x00"


def moment(at_us: int) -> bytes:
    """A timestamptz column of Unix microseconds."""
    return _INT8(8, at_us - _EPOCH_US)


def jsonb(document: str) -> bytes:
    encoded = document.encode()
    return _LENGTH(len(encoded) + 1) + b"\x01" + encoded


def text_array(values: Sequence[str]) -> bytes:
    """A one-dimensional text[] column without NULLs."""
    if not values:
        return raw(_LENGTH(0) + _LENGTH(0) + _LENGTH(_TEXT_OID))
    return raw(_ARRAY(1, 0, _TEXT_OID, len(values), 1) + b"".join(map(text, values)))


def document(rows: Iterable[bytes]) -> bytes:
    """The whole of a COPY's data."""
    return b"".join((HEADER, *rows, TRAILER))
