"""Technique `hash`: a keyed token (HMAC-SHA-256) bound to the data class, equal for equal values.

Tokens of text are 128 bits in base32; of int4 and int8 positive integers of 31 and 63 bits (they may collide: a join
over them is a hint, not a proof); of uuid a version 8 uuid (RFC 9562 §5.8). Other types are NULL. A token is derived
from the individual's data, hence pseudonymised PHI (45 CFR 164.514(c)), and never a Safe Harbor transformation.

The key is injected once at process start. Without a key nothing is hashed: values are masked whole.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable

from masking.engines.compiled import label_of
from masking.engines.null import to_null
from masking.engines.types import REDACTED, Family, MaskOptions, MaskValue, Target, text_of
from masking.engines.whole import compile_whole

_TOKEN_BYTES = 16
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)
_process_key = b""


def configure(key: bytes) -> None:
    """Set the process's token key; called once, before the first result."""
    global _process_key  # noqa: PLW0603 - the one piece of process state in masking, set at start
    _process_key = key


def process_key() -> bytes:
    return _process_key


def compile_hash(target: Target, options: MaskOptions) -> MaskValue:
    if not options.key:
        return compile_whole(target, options)  # fail closed: an unkeyed hash of an SSN is the SSN
    if target.family is Family.TEXT:
        return _text_token(target, options)
    if target.family is Family.INTEGER and target.width in (4, 8):
        return _integer_token(target, options)
    if target.family is Family.UUID:
        return _uuid_token(target, options)
    return to_null


def digest(*, options: MaskOptions, kind: str, value: bytes) -> bytes:
    """HMAC of the value under a label that no other class or kind shares (fields are length-prefixed)."""
    return _digests(options, kind)(value)


def _digests(options: MaskOptions, kind: str) -> Callable[[bytes], bytes]:
    """`digest` of many values: key and labels are hashed once."""
    labelled = hmac.new(options.key, label_of(options.data_class, kind), "sha256").copy

    def digest_of(value: bytes) -> bytes:
        mac = labelled()
        mac.update(len(value).to_bytes(4, "big") + value)
        return mac.digest()

    return digest_of


def _base32(raw: bytes) -> str:
    """16 bytes as 26 lower-case characters: RFC 4648 without padding, two characters at a time."""
    number = int.from_bytes(raw, "big") << 2
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def _text_token(target: Target, options: MaskOptions) -> MaskValue:
    digest_of = _digests(options, "text")

    def token(value: bytes | None) -> bytes | None:
        if value is None:
            return None
        text = text_of(value, target)
        if text is None:
            return REDACTED
        return f"tok_{_base32(digest_of(text.encode('utf-8'))[:_TOKEN_BYTES])}".encode()

    return token


def _integer_token(target: Target, options: MaskOptions) -> MaskValue:
    width, binary = target.width, target.binary
    mask = (1 << (8 * width - 1)) - 1
    digest_of = _digests(options, "integer")

    def token(value: bytes | None) -> bytes | None:
        number = integer_of(value, target)
        if number is None:
            return None
        raw = digest_of(str(number).encode())
        hashed = int.from_bytes(raw[:8], "big") & mask
        return hashed.to_bytes(width, "big") if binary else str(hashed).encode()

    return token


def integer_of(value: bytes | None, target: Target) -> int | None:
    """Read an INTEGER in its wire form; None for NULL and for anything that is not one."""
    if value is None:
        return None
    if target.binary:
        return int.from_bytes(value, "big", signed=True) if len(value) == target.width else None
    try:
        return int(value)
    except ValueError:
        return None


def _uuid_token(target: Target, options: MaskOptions) -> MaskValue:
    digest_of = _digests(options, "uuid")

    def token(value: bytes | None) -> bytes | None:
        if value is None:
            return None
        try:
            original = uuid.UUID(bytes=value) if target.binary else uuid.UUID(value.decode("ascii"))
        except ValueError:
            return None
        raw = bytearray(digest_of(original.bytes)[:16])
        raw[6] = raw[6] & 0x0F | 0x80
        raw[8] = raw[8] & 0x3F | 0x80
        hashed = uuid.UUID(bytes=bytes(raw))
        return hashed.bytes if target.binary else str(hashed).encode()

    return token
