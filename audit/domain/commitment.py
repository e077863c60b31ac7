"""Keyed commitments: what the log keeps of a text that may be erased. Pure, and all a verifier needs to check one.

A commitment is HMAC-SHA-256 of the plaintext under a random salt that is sealed together with it. Once both are erased
it reveals nothing (an unkeyed hash of a short text could be guessed); with both, anybody can check it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field

SALT_BYTES = 32
STREAM_DIGEST = "hmac-sha256"


_BLOCK = 64  # bytes SHA-256 takes at once (FIPS 180-4)
_INNER = bytes(value ^ 0x36 for value in range(256))
_OUTER = bytes(value ^ 0x5C for value in range(256))


def commitment_to(plaintext: bytes, salt: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104) spelled out: a third of what `hmac.digest` takes to find its implementation anew.

    >>> commitment_to(b"text", bytes(32)) == hmac.digest(bytes(32), b"text", "sha256")
    True
    """
    key = salt.ljust(_BLOCK, b"\0")
    if len(key) > _BLOCK:
        raise ValueError(f"a salt of {len(salt)} bytes, expected no more than {_BLOCK}")
    inner = hashlib.sha256(key.translate(_INNER) + plaintext).digest()
    return hashlib.sha256(key.translate(_OUTER) + inner).digest()


@dataclass(frozen=True, slots=True)
class Disclosure:
    """A sensitive text with the salt that lets anybody check it against the commitment in its leaf."""

    plaintext: bytes
    salt: bytes

    @property
    def commitment(self) -> bytes:
        return commitment_to(self.plaintext, self.salt)


@dataclass(slots=True)
class StreamDigest:
    """The commitment to a recording, fed in order."""

    salt: bytes = field(default_factory=lambda: os.urandom(SALT_BYTES), repr=False)
    _state: hmac.HMAC = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._state = hmac.new(self.salt, digestmod="sha256")

    def update(self, data: bytes) -> None:
        self._state.update(data)

    @property
    def name(self) -> str:
        return f"{STREAM_DIGEST}:{self._state.hexdigest()}"
