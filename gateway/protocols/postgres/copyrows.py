"""COPY … TO STDOUT rows, masked in flight (postgresql.org/docs, COPY, "File Formats").

The server sends one row per CopyData message ("always one per row", message flow, COPY operations); in binary the first
message also carries the file header and the last the trailer. Fields without a mask are copied as they are, quoting
included; a row whose fields cannot be told apart, or whose number is not the described one, is never let through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError

from gateway.protocols.postgres.datarow import ColumnMask
from gateway.protocols.postgres.frames import ProtocolViolation

MaskRow = Callable[[bytes], tuple[bytes, int]]

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_INT16 = Struct("!h")
_INT32 = Struct("!i")

_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_UNESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)


class CopyMasker:
    """Masks the rows of one COPY. `feed` takes one CopyData body and returns (masked body, rows in it)."""

    def __init__(self, *, width: int, masks: Sequence[ColumnMask], counts: list[int]) -> None:
        self._width = width
        self._masks = tuple(masks)
        self._counts = counts

    def apply(self, values: list[bytes | None]) -> dict[int, bytes | None]:
        """Return the masked values by column."""
        if len(values) != self._width:
            raise ProtocolViolation(f"a copied row of {len(values)} columns, expected {self._width}")
        masked: dict[int, bytes | None] = {}
        for column, mask, only_changed in self._masks:
            value = values[column]
            changed = mask(value)
            if only_changed and changed == value:
                continue  # the field stays as the server framed it
            masked[column] = changed
            self._counts[column] += only_changed or value is not None
        return masked


class TextCopyMasker(CopyMasker):
    def __init__(
        self,
        *,
        width: int,
        masks: Sequence[ColumnMask],
        counts: list[int],
        delimiter: str = "\t",
        null: str = "\\N",
        header: bool = False,
    ) -> None:
        super().__init__(width=width, masks=masks, counts=counts)
        self._delimiter = delimiter.encode()
        self._null = null.encode()
        self._header = header
        self._field = re.compile(rb"(?:[^\\%b]|\\.)*" % re.escape(self._delimiter), re.DOTALL)

    def feed(self, body: bytes) -> tuple[bytes, int]:
        if self._header:
            self._header = False
            return body, 0
        line = body.removesuffix(b"\n")
        fields = self._split(line)
        values = [None if field == self._null else unescape(field) for field in fields]
        for column, value in self.apply(values).items():
            fields[column] = self._null if value is None else self._escape(value)
        return self._delimiter.join(fields) + body[len(line) :], 1

    def _split(self, line: bytes) -> list[bytes]:
        fields, at = [], 0
        while True:
            match = self._field.match(line, at)
            assert match is not None  # the pattern matches the empty string
            fields.append(match[0])
            if match.end() == len(line):
                return fields
            if line[match.end() : match.end() + 1] != self._delimiter:
                raise ProtocolViolation("a copied row whose fields cannot be told apart")
            at = match.end() + 1

    def _escape(self, value: bytes) -> bytes:
        escaped = value.replace(b"\\", b"\\\\")
        for letter, raw in _ESCAPES.items():
            escaped = escaped.replace(raw, b"\\" + letter)
        return escaped if self._delimiter == b"\t" else escaped.replace(self._delimiter, b"\\" + self._delimiter)


class CsvCopyMasker(CopyMasker):
    def __init__(
        self,
        *,
        width: int,
        masks: Sequence[ColumnMask],
        counts: list[int],
        delimiter: str = ",",
        null: str = "",
        header: bool = False,
        quote: str = '"',
        escape: str = '"',
    ) -> None:
        super().__init__(width=width, masks=masks, counts=counts)
        self._delimiter, self._null = delimiter.encode(), null.encode()
        self._quote, self._escape = quote.encode(), escape.encode()
        self._header = header

    def feed(self, body: bytes) -> tuple[bytes, int]:
        if self._header:
            self._header = False
            return body, 0
        line = body.removesuffix(b"\n")
        fields = self._split(line)
        values = [None if raw == self._null else value for raw, value in fields]
        raws = [raw for raw, _ in fields]
        for column, value in self.apply(values).items():
            raws[column] = self._null if value is None else self._quoted(value)
        return self._delimiter.join(raws) + body[len(line) :], 1

    def _split(self, line: bytes) -> list[tuple[bytes, bytes]]:
        """Return (raw, value) of each field; a quoted field's raw form keeps its quotes, so it never equals NULL."""
        fields, at = [], 0
        while True:
            start = at
            value, at = self._quoted_value(line, at) if line.startswith(self._quote, at) else self._bare(line, at)
            fields.append((line[start:at], value))
            if at == len(line):
                return fields
            if line[at : at + 1] != self._delimiter:
                raise ProtocolViolation("a copied row whose fields cannot be told apart")
            at += 1

    def _bare(self, line: bytes, at: int) -> tuple[bytes, int]:
        end = line.find(self._delimiter, at)
        end = len(line) if end < 0 else end
        return line[at:end], end

    def _quoted_value(self, line: bytes, at: int) -> tuple[bytes, int]:
        value = bytearray()
        at += 1
        while at < len(line):
            here, following = line[at : at + 1], line[at + 1 : at + 2]
            if here == self._escape and following in {self._quote, self._escape}:
                value += following
                at += 2
            elif here == self._quote:
                return bytes(value), at + 1
            else:
                value += here
                at += 1
        raise ProtocolViolation("a copied row whose quotes do not close")

    def _quoted(self, value: bytes) -> bytes:
        """Quote where the server would: for framing characters, for what reads as NULL or as the end of data."""
        framing = (self._delimiter, self._quote, b"\n", b"\r")
        if value not in {self._null, b"\\."} and not any(character in value for character in framing):
            return value
        doubled = value.replace(self._escape, self._escape * 2)
        if self._escape != self._quote:
            doubled = doubled.replace(self._quote, self._escape + self._quote)
        return self._quote + doubled + self._quote


class BinaryCopyMasker(CopyMasker):
    def __init__(self, *, width: int, masks: Sequence[ColumnMask], counts: list[int]) -> None:
        super().__init__(width=width, masks=masks, counts=counts)
        self._started = False

    def feed(self, body: bytes) -> tuple[bytes, int]:
        at = 0
        if not self._started:
            self._started = True
            at = self._header_end(body)
        out, rows = [body[:at]], 0
        while at < len(body):
            if body[at : at + 2] == b"\xff\xff":  # trailer: a field count of -1
                if at + 2 != len(body):
                    raise ProtocolViolation("binary COPY data after its trailer")
                out.append(body[at:])
                break
            values, at = _tuple(body, at)
            for column, value in self.apply(values).items():
                values[column] = value
            out.append(_INT16.pack(len(values)))
            out.extend(b"\xff\xff\xff\xff" if v is None else _INT32.pack(len(v)) + v for v in values)
            rows += 1
        return b"".join(out), rows

    def _header_end(self, body: bytes) -> int:
        if not body.startswith(_SIGNATURE) or len(body) < len(_SIGNATURE) + 8:
            raise ProtocolViolation("binary COPY data without its header")
        extension = _INT32.unpack_from(body, len(_SIGNATURE) + 4)[0]
        end: int = len(_SIGNATURE) + 8 + extension
        if extension < 0 or end > len(body):
            raise ProtocolViolation("binary COPY data with a broken header")
        return end


def unescape(field: bytes) -> bytes:
    r"""Return the value of a text-format field.

    >>> unescape(rb"a\tb\\c")
    b'a\tb\\c'
    """
    return _UNESCAPE.sub(_unescaped, field) if b"\\" in field else field


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes([int(match[1], 16)])
    if match[2]:
        return bytes([int(match[2], 8) & 0xFF])
    return _ESCAPES.get(match[3], match[3])


def _tuple(body: bytes, at: int) -> tuple[list[bytes | None], int]:
    values: list[bytes | None] = []
    try:
        count = _INT16.unpack_from(body, at)[0]
        at += 2
        for _ in range(count):
            size = _INT32.unpack_from(body, at)[0]
            at += 4
            values.append(None if size == -1 else body[at : at + size])
            at += max(size, 0)
            if at > len(body) or size < -1:
                raise ProtocolViolation("a binary COPY row that is cut off")
    except StructError:
        raise ProtocolViolation("a binary COPY row that is cut off") from None
    return values, at
