"""SCRAM-SHA-256 and -PLUS as a client (RFC 5802, RFC 7677), sans-IO: three messages, every field bounded, the server
proven.

    <binding>n=,r=<nonce>  →   ← r=<nonce+server>,s=<salt>,i=<iterations>
    c=<binding and its data>,r=…,p=<proof>  →   ← v=<server signature>

The binding (GS2 header, RFC 5802 §6) ties the exchange to the TLS channel: `p=tls-server-end-point,,` with the digest
of the server's certificate (RFC 5929 §4), so that nobody in between, with another certificate, can pass the exchange
on; `y,,` when we could and the server says it cannot, which a server that can will notice; `n,,` without TLS.

The server's signature is checked before the session is used: a host that does not know the password's verifier cannot
pose as the database. PostgreSQL ignores the user name inside SCRAM (it has it from the startup packet).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"

# A hostile server could ask for hours of hashing; PostgreSQL's default is 4096.
MAX_ITERATIONS = 1_000_000
MIN_ITERATIONS = 1_024  # far below every server's default: a downgrade aid for password cracking
MAX_MESSAGE_BYTES = 4_096
MAX_SALT_BYTES = 512


class ScramFailed(Exception):
    """The exchange broke a rule of RFC 5802 or the server could not prove itself."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What ties an exchange to its TLS channel: the GS2 header, and the channel's own data."""

    header: str = "n,,"
    data: bytes = b""


NO_TLS = Binding()
SERVER_CANNOT = Binding("y,,")


def bound_to(certificate_digest: bytes) -> Binding:
    """The binding of type tls-server-end-point."""
    return Binding("p=tls-server-end-point,,", certificate_digest)


class ScramClient:
    """One exchange: `first()`, then `final(server_first)`, then `verify(server_final)`."""

    def __init__(self, password: str, *, user: str = "", nonce: str | None = None, binding: Binding = NO_TLS) -> None:
        self._password = _prepared(password)
        self._binding = binding
        self._nonce = nonce or b64encode(secrets.token_bytes(24)).decode()
        self._bare = f"n={user},r={self._nonce}"
        self._server_signature = b""

    def first(self) -> bytes:
        return f"{self._binding.header}{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Answer the challenge; raises ScramFailed on a nonce not ours, weak or absurd iteration counts."""
        message = _decoded(server_first)
        fields = _fields(message, "rsi")
        nonce = fields["r"]
        if not nonce.startswith(self._nonce) or len(nonce) <= len(self._nonce):
            raise ScramFailed("the server's nonce does not extend ours")
        salt, iterations = _base64(fields["s"], MAX_SALT_BYTES), _iterations(fields["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        channel = b64encode(self._binding.header.encode() + self._binding.data).decode()
        without_proof = f"c={channel},r={nonce}"
        auth_message = ",".join((self._bare, message, without_proof)).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), auth_message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._server_signature = hmac.digest(server_key, auth_message, "sha256")
        return f"{without_proof},p={b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> None:
        """Raise ScramFailed unless the server proved that it knows the password's verifier."""
        signature = _base64(_fields(_decoded(server_final), "v")["v"], 64)
        if not self._server_signature or not hmac.compare_digest(signature, self._server_signature):
            raise ScramFailed("the server could not prove that it knows the password")


def _prepared(password: str) -> bytes:
    """SASLprep reduced to its effect on valid passwords (RFC 4013 §2.2); others go as they are, as PostgreSQL does."""
    if password.isascii():
        return password.encode()
    mapped = "".join(" " if unicodedata.category(c) == "Zs" else c for c in password if c != "\u00ad")
    return unicodedata.normalize("NFKC", mapped).encode()


def _decoded(message: bytes) -> str:
    if len(message) > MAX_MESSAGE_BYTES:
        raise ScramFailed(f"a SCRAM message of {len(message)} bytes, expected no more than {MAX_MESSAGE_BYTES}")
    try:
        return message.decode("ascii")
    except UnicodeDecodeError:
        raise ScramFailed("a SCRAM message that is not ASCII") from None


def _fields(message: str, names: str) -> dict[str, str]:
    """The attributes, which come in this order; optional extensions may follow, `m=` (mandatory) is refused."""
    parts = message.split(",")
    if len(parts) < len(names):
        raise ScramFailed("a SCRAM message with attributes missing")
    fields = {}
    for name, part in zip(names, parts, strict=False):
        if part[:2] != f"{name}=":
            raise ScramFailed(f"a SCRAM message without attribute {name}")
        fields[name] = part[2:]
    return fields


def _iterations(raw: str) -> int:
    if not raw.isdigit() or len(raw) > 7 or not MIN_ITERATIONS <= int(raw) <= MAX_ITERATIONS:
        raise ScramFailed(f"an iteration count outside {MIN_ITERATIONS} to {MAX_ITERATIONS}")
    return int(raw)


def _base64(raw: str, limit: int) -> bytes:
    if len(raw) > 2 * limit:
        raise ScramFailed("a SCRAM attribute that is too long")
    try:
        return b64decode(raw, validate=True)
    except (Base64Error, ValueError):
        raise ScramFailed("a SCRAM attribute that is not base64") from None
