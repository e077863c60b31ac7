"""DataRow ('D'): int16 column count, then per column an int32 length (-1 is NULL) and that many bytes.

These two functions are the inner loop of every result: they walk a run of frames once, copy unmasked stretches whole,
and rebuild only lengths and masked values. They are plain functions over bytes: where `_fast` has been compiled, its
twins replace them one for one (tests hold the two equal).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from struct import Struct

from gateway.protocols.postgres.frames import ProtocolViolation

DATA_ROW = 0x44

_UINT32 = Struct("!I").unpack_from
_INT32 = Struct("!i").unpack_from
_PACK_INT32 = Struct("!i").pack
_ROW_HEAD = Struct("!IH").unpack_from
_PACK_HEAD = Struct("!cIH").pack
_NULL = b"\xff\xff\xff\xff"

# (column index, masking function, whether only changed values are counted), ascending by index.
ColumnMask = tuple[int, Callable[[bytes | None], bytes | None], bool]


def count_rows(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return (where the run of DataRows starting at `at` ends, how many rows it has). Frames are whole."""
    rows = 0
    while at < end and data[at] == DATA_ROW:
        at = _row_end(data, at, end)
        rows += 1
    return at, rows


def _row_end(data: bytes, at: int, end: int) -> int:
    stop: int = at + 1 + _UINT32(data, at + 1)[0] if end - at >= 5 else end + 1
    if stop > end or stop - at < 5:
        raise ProtocolViolation("a row that is not whole")
    return stop


def mask_rows(
    data: bytes, at: int, end: int, *, width: int, masks: Sequence[ColumnMask], counts: list[int]
) -> tuple[int, int, bytes]:
    """Mask the run of DataRows starting at `at`: (where it ends, rows, the masked frames).

    `counts[i]` grows by the values column i had masked. A row that has not exactly `width` columns, or whose lengths
    do not add up, raises ProtocolViolation and nothing of it is returned.
    """
    out: list[bytes] = []
    rows = 0
    while at < end and data[at] == DATA_ROW:
        stop = _row_end(data, at, end)
        out.append(_mask_row(data, at, stop, width=width, masks=masks, counts=counts))
        at = stop
        rows += 1
    return at, rows, b"".join(out)


def _mask_row(data: bytes, at: int, stop: int, *, width: int, masks: Sequence[ColumnMask], counts: list[int]) -> bytes:
    if stop - at < 7 or _ROW_HEAD(data, at + 1)[1] != width:
        raise ProtocolViolation("a row does not have the columns that were described")
    parts: list[bytes] = []
    kept = cursor = at + 7  # `kept`: start of the stretch not yet copied
    index = 0
    for column, mask, only_changed in masks:
        while index < column:
            cursor = _skip_value(data, cursor, stop)
            index += 1
        parts.append(data[kept:cursor])
        after = _skip_value(data, cursor, stop)
        value = None if _INT32(data, cursor)[0] < 0 else data[cursor + 4 : after]
        masked = mask(value)
        if masked != value if only_changed else value is not None:
            counts[column] += 1
        parts.append(_NULL if masked is None else _PACK_INT32(len(masked)) + masked)
        kept = cursor = after
        index += 1
    while index < width:
        cursor = _skip_value(data, cursor, stop)
        index += 1
    if cursor != stop:
        raise ProtocolViolation("the lengths of a row's values do not add up")
    parts.append(data[kept:stop])
    body = b"".join(parts)
    return _PACK_HEAD(b"D", len(body) + 6, width) + body


def _skip_value(data: bytes, cursor: int, stop: int) -> int:
    if cursor + 4 > stop:
        raise ProtocolViolation("the lengths of a row's values do not add up")
    length: int = _INT32(data, cursor)[0]
    cursor += 4 if length < 0 else 4 + length
    if length < -1 or cursor > stop:
        raise ProtocolViolation("the lengths of a row's values do not add up")
    return cursor


def row_values(body: bytes) -> list[bytes | None]:
    """Return the values of one DataRow body.

    >>> row_values(b"\\x00\\x02\\x00\\x00\\x00\\x01a\\xff\\xff\\xff\\xff")
    [b'a', None]
    """
    if len(body) < 2:
        raise ProtocolViolation("a row without a column count")
    width = int.from_bytes(body[:2], "big")
    values: list[bytes | None] = []
    cursor = 2
    for _ in range(width):
        after = _skip_value(body, cursor, len(body))
        values.append(None if _INT32(body, cursor)[0] < 0 else body[cursor + 4 : after])
        cursor = after
    if cursor != len(body):
        raise ProtocolViolation("the lengths of a row's values do not add up")
    return values


count_rows_python, mask_rows_python = count_rows, mask_rows
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from gateway.protocols.postgres._fast import count_rows, mask_rows
