"""Messages a client sends (frontend), both ways: decoded from clients, encoded for upstreams.

Formats: postgresql.org/docs/current/protocol-message-formats.html. Decoders raise ProtocolViolation on anything that
does not parse to its last byte; text is UTF-8, the only client encoding this gateway speaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error

from analysis.making import quickly_made
from gateway.protocols.postgres.frames import ProtocolViolation, frame

QUERY, PARSE, BIND, DESCRIBE, EXECUTE, CLOSE = b"QPBDEC"
FLUSH, SYNC, TERMINATE, PASSWORD, FUNCTION_CALL = b"HSXpF"
COPY_DATA, COPY_DONE, COPY_FAIL = b"dcf"

# PostgreSQL's own ceiling: parameter counts travel as uint16.
MAX_PARAMETERS = 65535

_UINT16 = Struct("!H")
_INT16 = Struct("!h")
_INT32 = Struct("!i")
_UINT32 = Struct("!I")

SYNC_FRAME = frame(b"S")
FLUSH_FRAME = frame(b"H")
TERMINATE_FRAME = frame(b"X")


@quickly_made
@dataclass(frozen=True, slots=True)
class Parse:
    name: str
    text: str
    types: tuple[int, ...]


@quickly_made
@dataclass(frozen=True, slots=True)
class Bind:
    portal: str
    statement: str
    parameter_formats: tuple[int, ...]
    parameters: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What Describe and Close name: `kind` is "S" (statement) or "P" (portal)."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Execute:
    portal: str
    max_rows: int


class Reader:
    """Walks one message body; every read is bounds-checked, `finish` refuses trailing bytes."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def text(self) -> str:
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise ProtocolViolation("a string without its terminator")
        raw = self._body[self._at : end]
        self._at = end + 1
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ProtocolViolation("text that is not UTF-8") from None

    def take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._body):
            raise ProtocolViolation("a message shorter than it says")
        raw = self._body[self._at : end]
        self._at = end
        return raw

    def number(self, form: Struct) -> int:
        try:
            value: int = form.unpack_from(self._body, self._at)[0]
        except error:
            raise ProtocolViolation("a message shorter than it says") from None
        self._at += form.size
        return value

    def numbers(self, form: Struct) -> tuple[int, ...]:
        count = self.number(_UINT16)
        return tuple(self.number(form) for _ in range(count))

    def value(self) -> bytes | None:
        size = self.number(_INT32)
        return None if size == -1 else self.take(size)

    def finish(self) -> None:
        if self._at != len(self._body):
            raise ProtocolViolation("a message longer than it says")


def decode_query(body: bytes) -> str:
    reader = Reader(body)
    text = reader.text()
    reader.finish()
    return text


def decode_parse(body: bytes) -> Parse:
    reader = Reader(body)
    message = Parse(name=reader.text(), text=reader.text(), types=reader.numbers(_UINT32))
    reader.finish()
    return message


def decode_bind(body: bytes) -> Bind:
    reader = Reader(body)
    portal, statement = reader.text(), reader.text()
    formats = reader.numbers(_INT16)
    parameters = tuple(reader.value() for _ in range(reader.number(_UINT16)))
    result_formats = reader.numbers(_INT16)
    reader.finish()
    if len(formats) > 1 and len(formats) != len(parameters):
        raise ProtocolViolation(f"bind message has {len(formats)} parameter formats but {len(parameters)} parameters")
    if not {*formats, *result_formats} <= {0, 1}:
        raise ProtocolViolation("a format code other than 0 and 1")
    return Bind(portal, statement, formats, parameters, result_formats)


def decode_target(body: bytes) -> Target:
    reader = Reader(body)
    kind = reader.take(1)
    name = reader.text()
    reader.finish()
    if kind not in {b"S", b"P"}:
        raise ProtocolViolation("a target that is neither statement nor portal")
    return Target(kind.decode(), name)


def decode_execute(body: bytes) -> Execute:
    reader = Reader(body)
    message = Execute(portal=reader.text(), max_rows=reader.number(_INT32))
    reader.finish()
    return message


def encode_parse(message: Parse) -> bytes:
    types = b"".join(_UINT32.pack(oid) for oid in message.types)
    return frame(b"P", _z(message.name) + _z(message.text) + _UINT16.pack(len(message.types)) + types)


def encode_bind(message: Bind) -> bytes:
    parts = [_z(message.portal), _z(message.statement), _int16s(message.parameter_formats)]
    parts.append(_UINT16.pack(len(message.parameters)))
    for value in message.parameters:
        parts.append(_INT32.pack(-1) if value is None else _INT32.pack(len(value)) + value)
    parts.append(_int16s(message.result_formats))
    return frame(b"B", b"".join(parts))


def encode_describe(target: Target) -> bytes:
    return frame(b"D", target.kind.encode() + _z(target.name))


def encode_close(target: Target) -> bytes:
    return frame(b"C", target.kind.encode() + _z(target.name))


def encode_execute(message: Execute) -> bytes:
    return frame(b"E", _z(message.portal) + _INT32.pack(message.max_rows))


def encode_copy_fail(reason: str) -> bytes:
    return frame(b"f", _z(reason))


def _z(text: str) -> bytes:
    return text.encode("utf-8") + b"\0"


def _int16s(values: tuple[int, ...]) -> bytes:
    return _UINT16.pack(len(values)) + b"".join(_INT16.pack(value) for value in values)
