"""Evidence at rest: AES-256-GCM under rotating keys. Pure.

A sealed box is `version(1) ‖ key id(8) ‖ salt(16) ‖ nonce(12) ‖ ciphertext`. Its key is derived from the evidence key
and the salt; a salt serves at most 2^16 boxes, so that random nonces never near the limit of one key (NIST SP 800-38D
§8.3: 2^32).
The associated data binds a box to the entry or chunk it belongs to: moved elsewhere, it does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit.domain.randomness import random_bytes

try:
    from audit.domain._openssl import AesGcm
except ImportError:  # nobody compiled it: `gateway.protocols.postgres.compile`
    AesGcm = AESGCM  # type: ignore[assignment,misc]

_VERSION = b"\x01"
_HEADER = 1 + 8 + 16 + 12
_BOXES_PER_SALT = 1 << 16


class SealProblem(ValueError):
    """A box cannot be opened: altered, moved, or sealed under a key we do not have. Says which, never the content."""


class KeyProblem(ValueError):
    """The configured evidence keys are missing or malformed."""


@dataclass(frozen=True, slots=True, repr=False)
class EvidenceKey:
    secret: bytes

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(b"hoopweb evidence key id\x00" + self.secret).digest()[:8]


class Sealer:
    """Seals under the newest key, opens under any."""

    def __init__(self, keys: Sequence[EvidenceKey]) -> None:
        if not keys:
            raise KeyProblem("no evidence key is configured, expected at least one")
        self._newest = keys[0]
        self._keys = {key.key_id: key for key in keys}
        self._prefix = _VERSION + self._newest.key_id
        self._current: tuple[bytes, AesGcm, Iterator[int]] | None = None

    def seal(self, plaintext: bytes, *, bound_to: bytes) -> bytes:
        salt, cipher = self._cipher_for_next()
        nonce = random_bytes(12)
        return self._prefix + salt + nonce + cipher.encrypt(nonce, plaintext, _VERSION + bound_to)

    def subkey(self, purpose: bytes, key_id: bytes | None = None) -> bytes | None:
        """A key for another purpose, derived from the newest evidence key or from the named one (None: unknown)."""
        key = self._newest if key_id is None else self._keys.get(key_id)
        return None if key is None else hmac.digest(key.secret, purpose, "sha256")

    @property
    def key_id(self) -> bytes:
        return self._newest.key_id

    def _cipher_for_next(self) -> tuple[bytes, AesGcm]:
        current = self._current
        # `next` on a range is atomic: threads that share a sealer may share a salt, never more often than allowed.
        if current is None or next(current[2], None) is None:
            salt = os.urandom(16)
            current = self._current = (salt, AesGcm(_key(self._newest, salt)), iter(range(_BOXES_PER_SALT)))
        return current[0], current[1]

    def open(self, box: bytes, *, bound_to: bytes) -> bytes:
        """Raises SealProblem."""
        if len(box) < _HEADER + 16 or box[:1] != _VERSION:
            raise SealProblem("not a sealed box")
        key = self._keys.get(box[1:9])
        if key is None:
            raise SealProblem(f"sealed under key {box[1:9].hex()}, which is not configured")
        salt, nonce = box[9:25], box[25:37]
        try:
            return AESGCM(_key(key, salt)).decrypt(nonce, box[37:], _VERSION + bound_to)
        except InvalidTag:
            raise SealProblem("altered, or moved from the place it was sealed for") from None


def parse_keys(text: str) -> list[EvidenceKey]:
    """Read comma-separated base64 keys of 32 bytes, newest first. Raises KeyProblem."""
    keys = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            secret = base64.b64decode(part, validate=True)
        except (binascii.Error, ValueError):
            raise KeyProblem("an evidence key is not base64") from None
        if len(secret) != 32:
            raise KeyProblem(f"an evidence key is {len(secret)} bytes, expected 32")
        keys.append(EvidenceKey(secret))
    return keys


def box_key_id(box: bytes) -> str:
    """The key a box names, for finding what a rotation still has to re-seal."""
    return box[1:9].hex()


def _key(key: EvidenceKey, salt: bytes) -> bytes:
    return hmac.digest(key.secret, b"hoopweb sealed box v1\x00" + salt, "sha256")
