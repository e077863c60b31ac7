"""Tokens of subjects: what the log keeps of a patient's number (45 CFR 164.528, 164.402-408). Pure.

A token is HMAC-SHA-256 of the kind and the number under a key of this installation, cut to 128 bits: equal numbers have
equal tokens, and whoever has the key can ask after a number. It is derived from the individual, hence pseudonymised
PHI (164.514(c)). Once its key is erased, nobody can tell whose it was.

The tokens of an execution are sealed beside its entry, which commits to them; the index is written in the same
transaction, and `audit_check` compares the two.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from audit.domain.entry import Json

TOKEN_BYTES = 16
KEY_BYTES = 32
_BLOCK_BYTES = 64  # of SHA-256
_LABEL = b"hoopweb/subject/1"


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """`key_id` is its row's number."""

    key_id: int
    secret: bytes = field(repr=False)


def token_of(key: SubjectKey, *, name: str, number: str) -> bytes:
    """The token of one subject. `name` separates numberings: patient 7 is not encounter 7."""
    return token_maker(key, name=name)(number)


def token_maker(key: SubjectKey, *, name: str) -> Callable[[str], bytes]:
    """`token_of` for many numbers of one kind. The parts are length-prefixed, so that no two kinds share a message.

    HMAC as RFC 2104 §2 defines it, its two keyed states made once and copied: the library's own sets the key up anew
    for every message, which costs six times as much as hashing a short one.
    """
    block = key.secret.ljust(_BLOCK_BYTES, b"\0")  # a secret is shorter than a block
    prefix = b"".join(len(part).to_bytes(4, "big") + part for part in (_LABEL, name.encode()))
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + prefix)
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def token(number: str) -> bytes:
        raw = number.encode()
        first, second = inner.copy(), outer.copy()
        first.update(len(raw).to_bytes(4, "big") + raw)
        second.update(first.digest())
        return second.digest()[:TOKEN_BYTES]

    return token


def numbers_meant(typed: str) -> tuple[str, ...]:
    """What somebody who types this may mean: as it stands, and as an integer or UUID that is written differently."""
    text = typed.strip()
    meant = [text] if text else []
    if text.isascii() and text.removeprefix("+").isdecimal():
        meant.append(str(int(text[:40])))
    with contextlib.suppress(ValueError):
        meant.append(str(uuid.UUID(text)))
    return tuple(dict.fromkeys(meant))


@dataclass(frozen=True, slots=True)
class SubjectTokens:
    """The subjects of one kind in a result, or in a part of it. `without`: rows whose number was NULL or unreadable."""

    name: str
    tokens: tuple[bytes, ...]
    without: int = 0


@dataclass(frozen=True, slots=True)
class SubjectsSeen:
    """Whose records an execution showed. `shown`: (column, stored columns behind it, state) of each result column."""

    key_id: int
    known: tuple[SubjectTokens, ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()  # (kind, why)
    shown: tuple[tuple[str, tuple[str, ...], str], ...] = ()


def seen_body(seen: SubjectsSeen) -> dict[str, Json]:
    """What the leaf says: kinds and counts, never a token."""
    known: list[Json] = [
        {"name": kind.name, "known": True, "count": len(kind.tokens), "without": kind.without} for kind in seen.known
    ]
    # A row without its number is a gap of its own, beside the subjects that are known.
    partly = [(kind.name, "row-without-number") for kind in seen.known if kind.without]
    unknown: list[Json] = [{"name": name, "known": False, "why": why} for name, why in (*seen.unknown, *partly)]
    body: dict[str, Json] = {"subjects": [*known, *unknown]}
    if seen.shown:
        body["shown"] = [{"column": column, "of": list(of), "as": state} for column, of, state in seen.shown]
    return body


def seen_sensitive(seen: SubjectsSeen) -> dict[str, Json] | None:
    """What is sealed beside the leaf; None when there is no token."""
    tokens = {kind.name: pack_tokens(kind.tokens) for kind in seen.known if kind.tokens}
    return {"subjects": {"key": seen.key_id, "tokens": tokens}} if tokens else None


def pack_tokens(tokens: Iterable[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(tokens))).decode()


def tokens_in(sensitive: Mapping[str, object] | None) -> tuple[int, dict[str, list[bytes]]]:
    """(key, tokens by kind) of a sealed text; nothing when it holds none. Raises ValueError when it is malformed."""
    found = (sensitive or {}).get("subjects")
    if not isinstance(found, Mapping):
        return 0, {}
    try:
        return int(found["key"]), {str(name): _unpacked(text) for name, text in found["tokens"].items()}
    except (KeyError, TypeError, AttributeError, binascii.Error):
        raise ValueError("the subjects of an entry cannot be read") from None


def _unpacked(text: str) -> list[bytes]:
    raw = base64.b64decode(text, validate=True)
    if len(raw) % TOKEN_BYTES:
        raise ValueError("the subjects of an entry cannot be read")
    return [raw[at : at + TOKEN_BYTES] for at in range(0, len(raw), TOKEN_BYTES)]


def has_tokens(body: Mapping[str, object]) -> bool:
    """Whether an entry's body says that tokens are sealed beside it."""
    kinds = body.get("subjects")
    return isinstance(kinds, Sequence) and any(isinstance(k, Mapping) and k.get("count") for k in kinds)
