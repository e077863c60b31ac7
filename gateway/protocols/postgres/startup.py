"""The untyped packets before authentication: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.

They have a length and a code but no type byte. What a client may set at startup is an allow-list: settings that change
what a statement means (search_path, role, …) are refused, because they would take effect before the first decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct

from gateway.protocols.postgres.frames import ProtocolViolation

# libpq's own limit (MAX_STARTUP_PACKET_LENGTH): nobody needs more before saying who they are.
MAX_STARTUP_BYTES = 10_000

SSL_REQUEST_CODE = 80877103
GSSENC_REQUEST_CODE = 80877104
CANCEL_REQUEST_CODE = 80877102
NEWEST_MINOR = 2  # 3.2 differs from 3.0 in the length of cancel keys only; 3.1 was never spoken

# Harmless to the meaning of a statement: formats of output, limits of time, a name for the record.
ALLOWED_SETTINGS = frozenset(
    {
        "application_name",
        "bytea_output",
        "client_min_messages",
        "datestyle",
        "default_transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "extra_float_digits",
        "geqo",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "intervalstyle",
        "jit",
        "lock_timeout",
        "statement_timeout",
        "timezone",
    }
)
# Taken and answered with our own value: clients send what their locale says, the gateway speaks UTF-8 only.
IGNORED_SETTINGS = frozenset({"client_encoding", "standard_conforming_strings"})

# JDBC's currentSchema and its like: schemas every server has, which nobody can put in front of anything by surprise.
# What the session's path is in the end is asked of the server before the first decision.
_KNOWN_SCHEMAS = frozenset({"public", "pg_catalog", '"$user"', '"public"', "$user"})

# A server tells its clients how to authenticate before it knows who they are. Ours takes either, so the client says:
# options='-c hoopweb.auth=oauthbearer'.
AUTH_OPTION = "hoopweb.auth"

_UINT32 = Struct("!I").unpack_from
_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)


class StartupRefused(ProtocolViolation):
    """The client asked for something at startup that this gateway does not do; `sqlstate` is what it hears."""

    def __init__(self, message: str, *, sqlstate: str = "08P01") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    kind: str  # tls | gss


@dataclass(frozen=True, slots=True)
class CancelRequest:
    process_id: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class Startup:
    """A client's opening. `settings` holds allow-listed settings only; `unknown_options` are `_pq_.` names."""

    minor: int
    user: str
    database: str
    settings: dict[str, str]
    unknown_options: tuple[str, ...] = ()
    bearer: bool = False  # the client wants to show its token by OAUTHBEARER, not as a password


Packet = EncryptionRequest | CancelRequest | Startup


def packet_length(data: bytes | bytearray) -> int:
    """Return the length of the packet that starts `data`, 0 when it is not known yet. Bounded before any body."""
    if len(data) < 4:
        return 0
    length: int = _UINT32(data)[0]
    if not 8 <= length <= MAX_STARTUP_BYTES:
        raise ProtocolViolation(f"startup packet of {length} bytes, expected 8 to {MAX_STARTUP_BYTES}")
    return length


def decode_packet(packet: bytes) -> Packet:
    """Decode one whole packet, its length included."""
    code: int = _UINT32(packet, 4)[0]
    if code == SSL_REQUEST_CODE:
        return EncryptionRequest("tls")
    if code == GSSENC_REQUEST_CODE:
        return EncryptionRequest("gss")
    if code == CANCEL_REQUEST_CODE:
        return _cancel(packet)
    if code >> 16 != 3:
        raise StartupRefused(
            f"protocol {code >> 16}.{code & 0xFFFF}, expected 3.0 to 3.{NEWEST_MINOR}", sqlstate="0A000"
        )
    return _startup(code & 0xFFFF, packet[8:])


def encode_startup(settings: dict[str, str]) -> bytes:
    """Return the StartupMessage (3.0) an upstream gets from us."""
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in settings.items()) + b"\0"
    return (len(body) + 8).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + body


def encode_ssl_request() -> bytes:
    return (8).to_bytes(4, "big") + SSL_REQUEST_CODE.to_bytes(4, "big")


def encode_cancel(process_id: int, secret: bytes) -> bytes:
    body = CANCEL_REQUEST_CODE.to_bytes(4, "big") + process_id.to_bytes(4, "big", signed=True) + secret
    return (len(body) + 4).to_bytes(4, "big") + body


def _cancel(packet: bytes) -> CancelRequest:
    # 4 bytes of secret in protocol 3.0, up to 256 in 3.2.
    if not 16 <= len(packet) <= 268:
        raise ProtocolViolation("a cancel request of the wrong size")
    return CancelRequest(int.from_bytes(packet[8:12], "big", signed=True), packet[12:])


def _startup(minor: int, body: bytes) -> Startup:
    given = _pairs(body)
    unknown = tuple(name for name in given if name.startswith("_pq_."))
    settings: dict[str, str] = {}
    bearer = False
    for name, value in given.items():
        if name in {"user", "database"} or name.startswith("_pq_."):
            continue
        if name == "options":
            for option, setting in _options(value):
                if option.lower() == AUTH_OPTION:
                    bearer = _wants_bearer(setting)
                else:
                    _admit(settings, option, setting)
        else:
            _admit(settings, name, value)
    user = given.get("user", "")
    if not user:
        raise StartupRefused("no user name in the startup packet", sqlstate="28000")
    return Startup(minor, user, given.get("database") or user, settings, unknown, bearer)


def _wants_bearer(value: str) -> bool:
    if value.lower() not in {"oauthbearer", "password"}:
        raise StartupRefused(f"{AUTH_OPTION} of another kind than oauthbearer and password", sqlstate="42501")
    return value.lower() == "oauthbearer"


def _pairs(body: bytes) -> dict[str, str]:
    if not body.endswith(b"\0"):
        raise ProtocolViolation("a startup packet without its terminator")
    try:
        words = body[:-1].decode("utf-8").split("\0")
    except UnicodeDecodeError:
        raise ProtocolViolation("text that is not UTF-8") from None
    if words and words[-1] == "":
        words.pop()
    if len(words) % 2:
        raise ProtocolViolation("a startup packet with a name but no value")
    return dict(zip(words[::2], words[1::2], strict=True))


def _admit(settings: dict[str, str], name: str, value: str) -> None:
    key = name.lower().replace("-", "_")
    if key == "replication":
        if value.lower() in {"", "0", "off", "no", "false"}:
            return
        raise StartupRefused("replication connections are not served here", sqlstate="0A000")
    if key in IGNORED_SETTINGS:
        return
    known_path = key == "search_path" and {word.strip() for word in value.split(",")} <= _KNOWN_SCHEMAS
    if key not in ALLOWED_SETTINGS and not known_path:
        raise StartupRefused(
            f'setting "{key[:63]}" is not accepted at startup; set it in the session, where it is governed',
            sqlstate="42501",
        )
    settings[key] = value


def _options(raw: str) -> list[tuple[str, str]]:
    """Split `options` as the server does: spaces separate, a backslash takes the next character as it is."""
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", raw)]
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "-c":
            joined[-1] = "-c" + word
        else:
            joined.append(word)
    pairs = []
    for word in joined:
        match = _OPTION.fullmatch(word)
        if match is None:
            raise StartupRefused("startup options other than -c name=value are not accepted", sqlstate="42501")
        pairs.append((match[1], match[2]))
    return pairs
