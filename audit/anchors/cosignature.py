"""Cosignatures of witnesses (https://c2sp.org/tlog-cosignature, cosignature/v1) and what a witness is asked. Pure.

A witness signs a checkpoint only if it is consistent with the last one it signed: a log that forks or shrinks finds
none. A verifier key is `<name>+<key id>+<base64 of 0x04 ‖ Ed25519 public key>`; a signature is the key id, eight bytes
of Unix time and an Ed25519 signature over `cosignature/v1`, `time <seconds>` and the checkpoint's text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.domain.note import NoteProblem, split_note

_TYPE = b"\x04"


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness's public key."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _TYPE + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_TYPE + self.public).decode()}"

    @classmethod
    def parse(cls, vkey: str) -> Witness:
        """Raises NoteProblem."""
        name, _, rest = vkey.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        witness = cls(name, key[1:])
        if not name or key[:1] != _TYPE or len(key) != 33 or witness.key_id.hex() != key_id:
            raise NoteProblem("not a witness's verifier key, expected <name>+<8 hex digits>+<base64 of 0x04 and key>")
        return witness


def cosigned_at(note: str, lines: str, witness: Witness) -> int:
    """When the witness signed the note's text, in Unix seconds. `lines` are signature lines. Raises NoteProblem."""
    text = split_note(note)[0]
    for name, key_id, raw in split_note(f"{text}\n{lines}")[1]:
        if (name, key_id) == (witness.name, witness.key_id) and len(raw) == 72:
            time_s, signature = int.from_bytes(raw[:8], "big"), raw[8:]
            try:
                Ed25519PublicKey.from_public_bytes(witness.public).verify(signature, signed_message(text, time_s))
            except InvalidSignature:
                raise NoteProblem("the witness's cosignature does not verify") from None
            return time_s
    raise NoteProblem("no cosignature of the given witness")


def signed_message(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def add_checkpoint_request(note: str, *, old: int, proof: Sequence[bytes]) -> bytes:
    """The body of `POST <witness>/add-checkpoint` (https://c2sp.org/tlog-witness)."""
    lines = [f"old {old}", *(base64.b64encode(node).decode() for node in proof)]
    return ("\n".join(lines) + "\n\n" + note).encode()
