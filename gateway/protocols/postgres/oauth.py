"""OAUTHBEARER (RFC 7628) as PostgreSQL 18 speaks it: a bearer token inside a SASL exchange, sans-IO.

    client  "n,," SOH "auth=Bearer <token>" SOH SOH        the token, or nothing after `auth=` to ask where to get one
    server  {"status": "invalid_token", …}                 only on failure (§3.2.2), answered by
    client  SOH                                            (§3.2.3), after which the exchange fails

The token is the one that is taken as a password otherwise: the same door, for clients that would not put it there.
"""

from __future__ import annotations

import json
import re

from gateway.protocols.postgres.violation import ProtocolViolation

MECHANISM = "OAUTHBEARER"
CLIENT_IS_DONE = b"\x01"

_SEPARATOR = "\x01"
_HEADER = re.compile(r"[ny],(?:a=[^,]*)?,")  # GS2 header without channel binding (RFC 5801 §4); an identity is ignored
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token (RFC 6750 §2.1)


def mechanisms() -> bytes:
    """The body of AuthenticationSASL after its code."""
    return MECHANISM.encode() + b"\0\0"


def initial_response(body: bytes) -> str:
    """Return the token of a SASLInitialResponse, "" when the client only asks where to get one."""
    mechanism, _, rest = body.partition(b"\0")
    if mechanism != MECHANISM.encode() or len(rest) < 4:
        raise ProtocolViolation("a SASL mechanism that was not offered")
    length, response = int.from_bytes(rest[:4], "big", signed=True), rest[4:]
    if length != len(response):
        raise ProtocolViolation("a SASL response shorter or longer than it says")
    return _token(response)


def failure(discovery_url: str) -> bytes:
    """The error challenge: what was wrong, and where tokens come from (§3.2.2)."""
    told = {"status": "invalid_token", "scope": "openid"}
    if discovery_url:
        told["openid-configuration"] = discovery_url
    return json.dumps(told).encode()


def _token(response: bytes) -> str:
    try:
        text = response.decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolViolation("a SASL response that is not ASCII") from None
    header, *pairs = text.split(_SEPARATOR)
    if not _HEADER.fullmatch(header) or pairs[-2:] != ["", ""]:
        raise ProtocolViolation("a SASL response of a form RFC 7628 does not know")
    values = [pair.removeprefix("auth=") for pair in pairs if pair.startswith("auth=")]
    if len(values) != 1:
        raise ProtocolViolation("a SASL response without its one authorization")
    if not values[0]:
        return ""
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token.strip(" ")):
        raise ProtocolViolation("an authorization that is not a bearer token")
    return token.strip(" ")
