"""Messages a server sends (backend), both ways: encoded for clients, decoded from upstreams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from analysis.making import quickly_made
from gateway.protocols.postgres.client import Reader
from gateway.protocols.postgres.frames import ProtocolViolation, frame

AUTHENTICATION, PARAMETER_STATUS, KEY_DATA, READY, ERROR, NOTICE, NOTIFICATION = b"RSKZENA"
PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE, NO_DATA, PORTAL_SUSPENDED, EMPTY_QUERY = b"123nsI"
ROW_DESCRIPTION, PARAMETER_DESCRIPTION, COMMAND_COMPLETE = b"TtC"
COPY_IN, COPY_OUT, COPY_BOTH, COPY_DATA, COPY_DONE = b"GHWdc"

_INT16 = Struct("!h")
_UINT16 = Struct("!H")
_INT32 = Struct("!i")
_UINT32 = Struct("!I")
_FIELD = Struct("!IhIhih")  # table OID, attribute, type OID, type size, type modifier, format

AUTHENTICATION_OK = frame(b"R", _INT32.pack(0))
CLEARTEXT_PASSWORD = frame(b"R", _INT32.pack(3))
PARSE_COMPLETE_FRAME = frame(b"1")
BIND_COMPLETE_FRAME = frame(b"2")
CLOSE_COMPLETE_FRAME = frame(b"3")
EMPTY_QUERY_FRAME = frame(b"I")


@quickly_made
@dataclass(frozen=True, slots=True)
class Field:
    """One column of a RowDescription."""

    name: str
    table_oid: int
    attribute: int
    type_oid: int
    format: int


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """CopyInResponse or CopyOutResponse: overall format and one format per column."""

    format: int
    columns: tuple[int, ...]


def decode_row_description(body: bytes) -> tuple[Field, ...]:
    reader = Reader(body)
    fields = []
    for _ in range(reader.number(_UINT16)):
        name = reader.text()
        table, attribute, oid, _size, _modifier, form = _FIELD.unpack(reader.take(_FIELD.size))
        fields.append(Field(name, table, attribute, oid, form))
    reader.finish()
    return tuple(fields)


def decode_copy_response(body: bytes) -> CopyResponse:
    reader = Reader(body)
    response = CopyResponse(format=reader.take(1)[0], columns=reader.numbers(_INT16))
    reader.finish()
    return response


def decode_error(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse or NoticeResponse by their one-letter codes."""
    fields: dict[str, str] = {}
    for part in body.split(b"\0"):
        if part:
            fields[chr(part[0])] = part[1:].decode("utf-8", "replace")
    return fields


def decode_parameter_status(body: bytes) -> tuple[str, str]:
    name, value, rest = _two_strings(body)
    if rest:
        raise ProtocolViolation("a parameter status longer than it says")
    return name, value


def decode_key_data(body: bytes) -> tuple[int, bytes]:
    """Return (process id, secret): 4 bytes of secret in protocol 3.0, up to 256 in 3.2."""
    if not 8 <= len(body) <= 260:
        raise ProtocolViolation(f"backend key data of {len(body)} bytes, expected 8 to 260")
    return int(_INT32.unpack_from(body)[0]), body[4:]


def encode_error(fields: Mapping[str, str], *, notice: bool = False) -> bytes:
    body = b"".join(
        code.encode() + value.replace("\0", "").encode("utf-8") + b"\0" for code, value in fields.items() if value
    )
    return frame(b"N" if notice else b"E", body + b"\0")


def error(
    *, sqlstate: str, message: str, detail: str = "", hint: str = "", position: int = 0, severity: str = "ERROR"
) -> bytes:
    """Return an ErrorResponse of ours."""
    fields = _fields(severity=severity, sqlstate=sqlstate, message=message, detail=detail, hint=hint)
    return encode_error({**fields, "P": str(position) if position else ""})


def notice(*, message: str, detail: str = "", hint: str = "", sqlstate: str = "00000") -> bytes:
    fields = _fields(severity="NOTICE", sqlstate=sqlstate, message=message, detail=detail, hint=hint)
    return encode_error(fields, notice=True)


def _fields(*, severity: str, sqlstate: str, message: str, detail: str, hint: str) -> dict[str, str]:
    return {"S": severity, "V": severity, "C": sqlstate, "M": message, "D": detail, "H": hint}


def encode_parameter_status(name: str, value: str) -> bytes:
    return frame(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def encode_key_data(process_id: int, secret: bytes) -> bytes:
    return frame(b"K", _INT32.pack(process_id) + secret)


def encode_sasl(mechanisms: bytes) -> bytes:
    return frame(b"R", _INT32.pack(10) + mechanisms)


def encode_sasl_continue(challenge: bytes) -> bytes:
    return frame(b"R", _INT32.pack(11) + challenge)


def encode_ready(status: str) -> bytes:
    return frame(b"Z", status.encode())


def encode_negotiation(*, minor: int, unknown: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: the newest minor we speak and the `_pq_.` options we do not know."""
    options = b"".join(name.encode() + b"\0" for name in unknown)
    return frame(b"v", _UINT32.pack(3 << 16 | minor) + _INT32.pack(len(unknown)) + options)


def encode_row_description(fields: Sequence[Field]) -> bytes:
    """Used for tests and for answers of our own; type size and modifier are left open (-1)."""
    parts = [_UINT16.pack(len(fields))]
    for f in fields:
        parts.append(f.name.encode() + b"\0")
        parts.append(_FIELD.pack(f.table_oid, f.attribute, f.type_oid, -1, -1, f.format))
    return frame(b"T", b"".join(parts))


def encode_data_row(values: Sequence[bytes | None]) -> bytes:
    parts = [_UINT16.pack(len(values))]
    for value in values:
        parts.append(_INT32.pack(-1) if value is None else _INT32.pack(len(value)) + value)
    return frame(b"D", b"".join(parts))


def notification_with(body: bytes, payload_for: Callable[[str, str], str]) -> bytes:
    """Return the NotificationResponse with the payload that `payload_for` makes of (channel, payload)."""
    reader = Reader(body)
    process_id, channel, payload = reader.take(4), reader.text(), reader.text()
    shown = payload_for(channel, payload).replace("\0", "")
    return frame(b"A", process_id + channel.encode() + b"\0" + shown.encode() + b"\0")


def _two_strings(body: bytes) -> tuple[str, str, bytes]:
    parts = body.split(b"\0", 2)
    if len(parts) != 3:
        raise ProtocolViolation("a string without its terminator")
    try:
        return parts[0].decode("utf-8"), parts[1].decode("utf-8"), parts[2]
    except UnicodeDecodeError:
        raise ProtocolViolation("text that is not UTF-8") from None
