"""COPY … TO STDOUT rows, masked in flight (postgresql.org/docs, COPY, "File Formats").

The server sends one row per CopyData message ("always one per row", message flow, COPY operations); in binary the first
message also carries the file header and the last the trailer. Fields without a mask are copied as they are, quoting
included; a row whose fields cannot be told apart, or whose number is not the described one, is never let through.

`runs_of` gives what masks a whole run of messages: compiled where `_copyrows` has been (tests hold the two equal), the
masker's own `run` otherwise.
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError

from gateway.protocols.postgres.datarow import ColumnMask
from gateway.protocols.postgres.frames import ProtocolViolation, frame

COPY_DATA = 0x64
# (data, at, end): mask the run of CopyData at `at`; returns (where it ends, rows, the masked frames).
Run = Callable[[bytes, int, int], tuple[int, int, bytes]]

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_INT16 = Struct("!h")
_INT32 = Struct("!i")
_UINT32 = Struct("!I").unpack_from

_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_UNESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)


def count_copied(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return (where the run of CopyData starting at `at` ends, how many messages it has). Frames are whole."""
    rows = 0
    while at < end and data[at] == COPY_DATA:
        at = _stop(data, at, end)
        rows += 1
    return at, rows


def _stop(data: bytes, at: int, end: int) -> int:
    stop: int = at + 1 + _UINT32(data, at + 1)[0] if end - at >= 5 else end + 1
    if stop > end or stop - at < 5:
        raise ProtocolViolation("a copied row that is not whole")
    return stop


class CopyMasker(ABC):
    """Masks the rows of one COPY. `counts[i]` grows by the values column i had masked."""

    def __init__(self, *, width: int, masks: Sequence[ColumnMask], counts: list[int]) -> None:
        self.width = width
        self.masks = tuple(masks)
        self.counts = counts

    @abstractmethod
    def feed(self, body: bytes) -> tuple[bytes, int]:
        """Take one CopyData body; returns (masked body, rows in it)."""

    def run(self, data: bytes, at: int, end: int) -> tuple[int, int, bytes]:
        """A `Run`, message by message."""
        out, rows = [], 0
        while at < end and data[at] == COPY_DATA:
            stop = _stop(data, at, end)
            masked, more = self.feed(data[at + 5 : stop])
            out.append(frame(b"d", masked))
            rows += more
            at = stop
        return at, rows, b"".join(out)

    def apply(self, values: list[bytes | None]) -> dict[int, bytes | None]:
        """Return the masked values by column."""
        if len(values) != self.width:
            raise ProtocolViolation(f"a copied row of {len(values)} columns, expected {self.width}")
        masked: dict[int, bytes | None] = {}
        for column, mask, only_changed in self.masks:
            value = values[column]
            changed = mask(value)
            if only_changed and changed == value:
                continue  # the field stays as the server framed it
            masked[column] = changed
            self.counts[column] += only_changed or value is not None
        return masked


class FieldCopyMasker(CopyMasker, ABC):
    """Of the formats whose fields stand between delimiters."""

    def __init__(
        self,
        *,
        width: int,
        masks: Sequence[ColumnMask],
        counts: list[int],
        delimiter: str,
        null: str,
        header: bool = False,
    ) -> None:
        super().__init__(width=width, masks=masks, counts=counts)
        self.delimiter, self.null = delimiter.encode(), null.encode()
        self._header = header

    @property
    @abstractmethod
    def special(self) -> bytes:
        """The bytes that a field may hold otherwise than its value does."""

    @abstractmethod
    def value_of(self, raw: bytes) -> bytes:
        """Return what a field that is not NULL says."""

    @abstractmethod
    def spelled(self, value: bytes) -> bytes:
        """Return how the format writes a value."""


class TextCopyMasker(FieldCopyMasker):
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
        super().__init__(width=width, masks=masks, counts=counts, delimiter=delimiter, null=null, header=header)
        self._field = re.compile(rb"(?:[^\\%b]|\\.)*" % re.escape(self.delimiter), re.DOTALL)

    @property
    def special(self) -> bytes:
        return b"\\" + b"".join(_ESCAPES.values()) + self.delimiter

    def feed(self, body: bytes) -> tuple[bytes, int]:
        if self._header:
            self._header = False
            return body, 0
        line = body.removesuffix(b"\n")
        fields = self._split(line)
        values = [None if field == self.null else self.value_of(field) for field in fields]
        for column, value in self.apply(values).items():
            fields[column] = self.null if value is None else self.spelled(value)
        return self.delimiter.join(fields) + body[len(line) :], 1

    def value_of(self, raw: bytes) -> bytes:
        return unescape(raw)

    def _split(self, line: bytes) -> list[bytes]:
        fields, at = [], 0
        while True:
            match = self._field.match(line, at)
            assert match is not None  # the pattern matches the empty string
            fields.append(match[0])
            if match.end() == len(line):
                return fields
            if line[match.end() : match.end() + 1] != self.delimiter:
                raise ProtocolViolation("a copied row whose fields cannot be told apart")
            at = match.end() + 1

    def spelled(self, value: bytes) -> bytes:
        escaped = value.replace(b"\\", b"\\\\")
        for letter, raw in _ESCAPES.items():
            escaped = escaped.replace(raw, b"\\" + letter)
        return escaped if self.delimiter == b"\t" else escaped.replace(self.delimiter, b"\\" + self.delimiter)


def value_like_null(*, delimiter: str, null: str) -> bytes | None:
    r"""Return the value that text format writes as it writes NULL; None: there is none, as for `\N`."""
    value = unescape(null.encode())
    masker = TextCopyMasker(width=1, masks=(), counts=[0], delimiter=delimiter, null=null)
    return value if masker.spelled(value) == masker.null else None


class CsvCopyMasker(FieldCopyMasker):
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
        super().__init__(width=width, masks=masks, counts=counts, delimiter=delimiter, null=null, header=header)
        self.quote, self.escape = quote.encode(), escape.encode()

    @property
    def special(self) -> bytes:
        return self.delimiter + self.quote + b"\n\r\\"

    def feed(self, body: bytes) -> tuple[bytes, int]:
        if self._header:
            self._header = False
            return body, 0
        line = body.removesuffix(b"\n")
        fields = self._split(line)
        values = [None if raw == self.null else value for raw, value in fields]
        raws = [raw for raw, _ in fields]
        for column, value in self.apply(values).items():
            raws[column] = self.null if value is None else self.spelled(value)
        return self.delimiter.join(raws) + body[len(line) :], 1

    def value_of(self, raw: bytes) -> bytes:
        return self._quoted_value(raw, 0)[0] if raw.startswith(self.quote) else raw

    def _split(self, line: bytes) -> list[tuple[bytes, bytes]]:
        """Return (raw, value) of each field; a quoted field's raw form keeps its quotes, so it never equals NULL."""
        fields, at = [], 0
        while True:
            start = at
            value, at = self._quoted_value(line, at) if line.startswith(self.quote, at) else self._bare(line, at)
            fields.append((line[start:at], value))
            if at == len(line):
                return fields
            if line[at : at + 1] != self.delimiter:
                raise ProtocolViolation("a copied row whose fields cannot be told apart")
            at += 1

    def _bare(self, line: bytes, at: int) -> tuple[bytes, int]:
        end = line.find(self.delimiter, at)
        end = len(line) if end < 0 else end
        return line[at:end], end

    def _quoted_value(self, line: bytes, at: int) -> tuple[bytes, int]:
        value = bytearray()
        at += 1
        while at < len(line):
            here, following = line[at : at + 1], line[at + 1 : at + 2]
            if here == self.escape and following in {self.quote, self.escape}:
                value += following
                at += 2
            elif here == self.quote:
                return bytes(value), at + 1
            else:
                value += here
                at += 1
        raise ProtocolViolation("a copied row whose quotes do not close")

    def spelled(self, value: bytes) -> bytes:
        """Quote where the server would: for framing characters, for what reads as NULL or as the end of data."""
        framing = (self.delimiter, self.quote, b"\n", b"\r")
        if value not in {self.null, b"\\."} and not any(character in value for character in framing):
            return value
        doubled = value.replace(self.escape, self.escape * 2)
        if self.escape != self.quote:
            doubled = doubled.replace(self.quote, self.escape + self.quote)
        return self.quote + doubled + self.quote


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


def runs_of(masker: CopyMasker) -> Run:
    """Return what masks the runs of this COPY, from its first message on."""
    if not _is_compiled:
        return masker.run
    if isinstance(masker, BinaryCopyMasker):
        return BinaryRun(masker, masker.masks, masker.counts, masker.width).run
    if isinstance(masker, CsvCopyMasker) and _are_bytes(masker.delimiter, masker.quote, masker.escape):
        return CsvRun(masker, masker.masks, masker.counts, masker.width).run
    if isinstance(masker, TextCopyMasker) and _are_bytes(masker.delimiter):
        return TextRun(masker, masker.masks, masker.counts, masker.width).run
    return masker.run


def _are_bytes(*each: bytes) -> bool:
    return all(len(one) == 1 for one in each)


count_copied_python = count_copied
_is_compiled = False
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from gateway.protocols.postgres._copyrows import BinaryRun, CsvRun, TextRun, count_copied

    _is_compiled = True
