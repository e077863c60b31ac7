"""One thing that happened, before it becomes a leaf of the log. Pure values."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

# Canonical JSON (RFC 8785) of the log: no floats, so that every verifier serialises alike.
Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """`body` goes into the leaf: ids, names, counts, never a literal, a value or SQL text.

    `sensitive` (statement text, parameters) is encrypted beside the leaf, which holds only a keyed commitment to it,
    so that it can be erased at the end of retention without breaking a proof.
    """

    kind: str  # session.opened, statement.authorised, statement.completed, review.decided, …
    body: Mapping[str, Json]
    session_id: str = ""
    statement_id: str = ""
    sensitive: Mapping[str, Json] | None = None
    at_us: int = field(default_factory=now_us)
    durability: str = "database"  # how it must be kept before its cause goes on; not part of the leaf


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that an entry is durable, and how: `durability` is `database`, `disk` or `os`."""

    seq: int | None  # None while a journal has it and the log has not integrated it yet
    durability: str


# How one who waits is told: the receipt, or why there is none.
Answer = Callable[[Receipt | Exception], None]
