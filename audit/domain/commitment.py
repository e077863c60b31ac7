"""Keyed commitments: what the log keeps of a text that may be erased. Pure, and all a verifier needs to check one.

A commitment is HMAC-SHA-256 of the plaintext under a random salt that is sealed together with it. Once both are erased
it reveals nothing (an unkeyed hash of a short text could be guessed); with both, anybody can check it.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field

SALT_BYTES = 32
STREAM_DIGEST = "hmac-sha256"


@dataclass(frozen=True, slots=True)
class Disclosure:
    """A sensitive text with the salt that lets anybody check it against the commitment in its leaf."""

    plaintext: bytes
    salt: bytes

    @property
    def commitment(self) -> bytes:
        return hmac.digest(self.salt, self.plaintext, "sha256")


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
