"""A recording as columns and rows again, a page at a time. Pure.

`pgwire` is PostgreSQL backend messages as the client got them (protocol 3.0, "Message Formats"): RowDescription begins
a result, DataRow and CopyData are its rows, anything else is passed over. `jsonl` is one JSON value a line: an object
`{"columns": [{"name": …}]}` begins a result, an array is a row.

Values come back as text. A binary value of a type that is not read here is shown as its bytes in hexadecimal.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MAX_MESSAGE_BYTES = 1 << 30  # PostgreSQL's own limit of a message
COPY_COLUMN = "COPY"


class ReplayProblem(ValueError):
    """The recording is not what its format says."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type_oid: int = 0
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Rows `offset` to `offset + len(rows)` of a recording. A value of None is NULL."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | None, ...], ...]
    offset: int
    more: bool


@dataclass(frozen=True, slots=True)
class _Result:
    columns: tuple[Column, ...]


@dataclass(slots=True)
class _Frames:
    """Cuts a stream of pieces into messages; keeps one unfinished message at most."""

    buffer: bytearray = field(default_factory=bytearray)

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        self.buffer += piece
        at = 0
        while len(self.buffer) - at >= 5:
            (length,) = struct.unpack_from("!i", self.buffer, at + 1)
            if not 4 <= length <= MAX_MESSAGE_BYTES:
                raise ReplayProblem(f"message length is {length}, expected 4 to {MAX_MESSAGE_BYTES}")
            if len(self.buffer) - at < length + 1:
                break
            yield bytes(self.buffer[at : at + 1]), bytes(self.buffer[at + 5 : at + 1 + length])
            at += length + 1
        del self.buffer[:at]


def read_page(pieces: Iterable[bytes], *, format: str, offset: int = 0, limit: int = 100) -> Page:
    """Return up to `limit` rows from row `offset` (from 0). Reads only as far as needed. Raises ReplayProblem."""
    columns: tuple[Column, ...] = ()
    rows: list[tuple[str | None, ...]] = []
    seen = 0
    for item in _decoder(format)(pieces):
        if isinstance(item, _Result):
            if seen <= offset or not columns:
                columns = item.columns
            continue
        if len(rows) == limit:
            return Page(columns, tuple(rows), offset, more=True)
        if seen >= offset:
            rows.append(item)
        seen += 1
    return Page(columns, tuple(rows), offset, more=False)


def _decoder(format: str) -> Callable[[Iterable[bytes]], Iterator[_Result | tuple[str | None, ...]]]:
    decoders = {"pgwire": _pgwire, "jsonl": _jsonl}
    if format not in decoders:
        raise ReplayProblem(f"recording format is {format!r}, expected one of {', '.join(decoders)}")
    return decoders[format]


def _pgwire(pieces: Iterable[bytes]) -> Iterator[_Result | tuple[str | None, ...]]:
    frames = _Frames()
    columns: tuple[Column, ...] = ()
    for piece in pieces:
        for kind, body in frames.feed(piece):
            if kind == b"T":
                columns = _row_description(body)
                yield _Result(columns)
            elif kind == b"D":
                yield _data_row(body, columns)
            elif kind == b"H":  # CopyOutResponse
                columns = (Column(COPY_COLUMN),)
                yield _Result(columns)
            elif kind == b"d":
                yield (_text(body).rstrip("\n"),)


def _row_description(body: bytes) -> tuple[Column, ...]:
    try:
        (count,) = struct.unpack_from("!H", body)
        at, columns = 2, []
        for _ in range(count):
            end = body.index(b"\x00", at)
            type_oid, _, _, format = struct.unpack_from("!IhiH", body, end + 7)
            columns.append(Column(_text(body[at:end]), type_oid, format == 1))
            at = end + 19
    except (struct.error, ValueError):
        raise ReplayProblem("malformed RowDescription") from None
    return tuple(columns)


def _data_row(body: bytes, columns: tuple[Column, ...]) -> tuple[str | None, ...]:
    try:
        (count,) = struct.unpack_from("!H", body)
        at, values = 2, []
        for index in range(count):
            (length,) = struct.unpack_from("!i", body, at)
            at += 4
            raw = None if length < 0 else body[at : at + length]
            at += max(0, length)
            column = columns[index] if index < len(columns) else Column("?")
            values.append(None if raw is None else _shown(raw, column))
    except struct.error:
        raise ReplayProblem("malformed DataRow") from None
    return tuple(values)


def _shown(raw: bytes, column: Column) -> str:
    if not column.binary:
        return _text(raw)
    reader = _BINARY.get(column.type_oid)
    try:
        return reader(raw) if reader is not None else f"\\x{raw.hex()}"
    except (struct.error, ValueError, IndexError):
        return f"\\x{raw.hex()}"


def _number(layout: str) -> Callable[[bytes], str]:
    return lambda raw: str(struct.unpack(layout, raw)[0])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


_BINARY: Mapping[int, Callable[[bytes], str]] = {  # by type OID (pg_type.dat)
    16: lambda raw: "t" if raw[0] else "f",
    20: _number("!q"),
    21: _number("!h"),
    23: _number("!i"),
    26: _number("!I"),
    700: _number("!f"),
    701: _number("!d"),
    **dict.fromkeys((18, 19, 25, 114, 1042, 1043), _text),
    2950: lambda raw: str(uuid.UUID(bytes=raw)),
    3802: lambda raw: _text(raw[1:]),
}


def _jsonl(pieces: Iterable[bytes]) -> Iterator[_Result | tuple[str | None, ...]]:
    for line in _lines(pieces):
        try:
            value = json.loads(line)
        except ValueError:
            raise ReplayProblem("malformed line of JSON") from None
        if isinstance(value, dict):
            yield _Result(tuple(Column(str(column["name"])) for column in value.get("columns", ())))
        else:
            yield tuple(None if item is None else item if isinstance(item, str) else json.dumps(item) for item in value)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line for line in whole if line)
    if rest:
        yield rest
