"""C2SP signed notes and tlog checkpoints: text a person can read, signed with Ed25519. Pure.

https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint. A note is text ending in a newline, an empty line,
and one or more signature lines `— <name> <base64(key id ‖ signature)>`. A checkpoint's text is the log's origin, the
tree size in decimal, the base64 root hash, and optional extension lines; ours adds `time <Unix seconds>`, so that a
checkpoint of an idle log still says when it was true.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_SIGNATURE = "— "
_MAX_NOTE_BYTES = 65_536
_NAMED = re.compile(r"\A([1-9][0-9]{0,18}):([0-9a-f]{64})\Z")


class NoteProblem(ValueError):
    """The text is not a well-formed note, checkpoint or key."""


class UnknownKey(NoteProblem):
    """The note carries no signature of a key we were given."""


class ForgedSignature(NoteProblem):
    """The note carries a signature under a known key's name and id that the key did not make."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key: `<name>+<key id>+<base64 of 0x01 ‖ Ed25519 public key>`."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        name, _, rest = vkey.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        key = _decoded(encoded)
        if not _valid_name(name) or key[:1] != _ED25519 or len(key) != 33:
            raise NoteProblem("not a verifier key, expected <name>+<8 hex digits>+<base64 Ed25519 key>")
        verifier = cls(name, key[1:])
        if verifier.key_id.hex() != key_id:
            raise NoteProblem(f"verifier key id is {key_id!r}, expected {verifier.key_id.hex()} for this name and key")
        return verifier

    def verifies(self, text: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    name: str
    seed: bytes  # 32 bytes

    @property
    def verifier(self) -> Verifier:
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return Verifier(self.name, public)

    def sign(self, text: str) -> str:
        """Return `text` (which must end in a newline) as a signed note."""
        if not text.endswith("\n") or not _valid_name(self.name):
            raise NoteProblem("a note's text must end in a newline and its key name hold no space or plus")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        line = base64.b64encode(self.verifier.key_id + signature).decode()
        return f"{text}\n{_SIGNATURE}{self.name} {line}\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @property
    def time_s(self) -> int | None:
        """When it was signed, by its `time` extension line."""
        for line in self.extensions:
            word, _, value = line.partition(" ")
            if word == "time" and value.isdecimal():
                return int(value)
        return None


def open_note(note: str, verifiers: Iterable[Verifier]) -> str:
    """Return the note's text once one of `verifiers` has signed it. Raises NoteProblem, ForgedSignature, UnknownKey."""
    text, signatures = split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified = False
    for name, key_id, signature in signatures:
        verifier = known.get((name, key_id))
        if verifier is None:
            continue
        if not verifier.verifies(text.encode(), signature):
            raise ForgedSignature(f"the signature of {name} does not verify")
        verified = True
    if not verified:
        names = ", ".join(name for name, _, _ in signatures)
        raise UnknownKey(f"signed by {names}, expected one of the given keys")
    return text


def split_note(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Return the text and its signatures as (name, key id, signature bytes), nothing verified."""
    if len(note) > _MAX_NOTE_BYTES:
        raise NoteProblem(f"note is {len(note)} characters, expected no more than {_MAX_NOTE_BYTES}")
    text, separator, block = note.rpartition("\n\n")
    lines = block.splitlines()
    if not separator or not lines or not block.endswith("\n"):
        raise NoteProblem("not a signed note, expected text, an empty line and signature lines")
    return text + "\n", [_signature(line) for line in lines]


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint a note's text states. Raises NoteProblem."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not lines[0]:
        raise NoteProblem("not a checkpoint, expected origin, size and root lines")
    origin, size, root = lines[:3]
    # Strict decimal: a second spelling of one size would be a second note for one tree.
    if not (size.isascii() and size.isdecimal()) or (len(size) > 1 and size[0] == "0"):
        raise NoteProblem(f"checkpoint size is {size!r}, expected decimal digits")
    digest = _decoded(root)
    if len(digest) != 32:
        raise NoteProblem(f"checkpoint root is {len(digest)} bytes, expected 32")
    return Checkpoint(origin, int(size), digest, tuple(lines[3:-1]))


def open_checkpoint(note: str, verifiers: Sequence[Verifier]) -> Checkpoint:
    """Return a verified checkpoint whose origin is the signing key's name. Raises NoteProblem."""
    checkpoint = parse_checkpoint(open_note(note, verifiers))
    if checkpoint.origin not in {verifier.name for verifier in verifiers}:
        raise NoteProblem(f"checkpoint is of origin {checkpoint.origin!r}, expected the key's name")
    return checkpoint


def split_notes(stream: str) -> list[str]:
    """Cut a file of notes back into notes: each ends with its signature lines, the next begins after them."""
    notes: list[str] = []
    current: list[str] = []
    signed = False
    for line in stream.splitlines(keepends=True):
        if signed and not line.startswith(_SIGNATURE):
            notes.append("".join(current))
            current, signed = [], False
        if line.strip() or current:
            current.append(line)
        signed = signed or line.startswith(_SIGNATURE)
    if "".join(current).strip():
        notes.append("".join(current))
    return notes


def parse_named(text: str) -> tuple[int, bytes]:
    """The place and leaf of the entry that `<entry>:<hash>` names. Raises NoteProblem."""
    found = _NAMED.match(text)
    if found is None:
        raise NoteProblem("not an entry's name, expected <entry>:<64 hex digits>, as the verifier prints it")
    return int(found[1]), bytes.fromhex(found[2])


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_SIGNATURE).partition(" ")
    raw = _decoded(encoded)
    if not line.startswith(_SIGNATURE) or not _valid_name(name) or len(raw) < 5:
        raise NoteProblem("malformed signature line")
    return name, raw[:4], raw[4:]


def _valid_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(character.isspace() for character in name)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteProblem("not valid base64") from None
