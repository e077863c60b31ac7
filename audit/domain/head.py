"""The head of the log: how many entries there are, the newest one's hash, and the frontier of the Merkle tree.

Every append states a new head in a row of its own; the newest row is the head. Nothing is written over: a row that is
changed for every append is as many versions as there were appends since the oldest snapshot somebody keeps (a dump, a
long report, a transaction left open), and whoever looks it up meets them all. The newest of many rows is found at the
end of their index, whoever keeps what.

Writers of several processes are serialised by a lock on the log's one state row, which is never changed. A head names
the place it follows, and no place is followed twice: not even by who looked before somebody else had committed.

What a batch adds to its sessions' numbers stands beside its head, until `audit.domain.session_counts` has counted it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connection

from audit.domain.chain import Head
from audit.domain.merkle import GENESIS, Frontier
from audit.domain.sending import ask, one_round_trip, send
from audit.models import LogHead

Cursor = psycopg.Cursor[tuple[Any, ...]]


class LogShrank(RuntimeError):
    """The stored log is shorter than what was written: somebody removed entries. Nothing more is written."""


HEAD = "SELECT size, head, frontier FROM audit_loghead ORDER BY after DESC LIMIT 1"
LOCK = "SELECT 1 FROM audit_logstate WHERE id = 1 FOR UPDATE"
_MAKE = "INSERT INTO audit_logstate (id, log_id) VALUES (1, %s) ON CONFLICT DO NOTHING RETURNING 1"
_MOVE = "INSERT INTO audit_loghead (after, size, head, frontier, counts) VALUES (%s, %s, %b, %b, %s::text::jsonb)"


def lock_head() -> Head:
    """Lock the log until the transaction ends and return its head. A log that is not there yet is made.

    Raises LogShrank when only its state is not there.
    """
    with one_round_trip():
        asked = ask_head_locked()
    return asked.head()


def ask_head_locked() -> AskedHead:
    """Ask what `lock_head` asks; its answer is there when the round trip this is part of has ended."""
    return AskedHead(ask(LOCK), ask(HEAD))  # the head is looked for behind the lock


@dataclass(frozen=True, slots=True)
class AskedHead:
    """The answers to a lock and to what the head is behind it."""

    _lock: Cursor
    _row: Cursor

    def head(self) -> Head:
        """As `lock_head`."""
        found = self._row.fetchone()
        if self._lock.fetchone() is None:
            made = ask(_MAKE, [uuid.uuid4()]).fetchone()  # or waits for who is making it
            ask(LOCK)
            found = ask(HEAD).fetchone()
            if made and found:
                raise LogShrank(f"the log has a head over {found[0]} entries, and its state is gone")
        return head_or_none(found) or Head(Frontier(), GENESIS)


def move_head(before: Head, after: Head, counts: str) -> None:
    """State that the log, which is locked, goes from `before` to `after`.

    `counts` is what that adds to sessions' numbers, as JSON. Raises IntegrityError when `before` was not the head.
    """
    send(_MOVE, [before.size, after.size, after.leaf, after.frontier.to_bytes(), counts])


def read_head() -> Head:
    """The log's head as stored, without locking it. Raises ValueError when it cannot be one."""
    with connection.cursor() as cursor:
        cursor.execute(HEAD)
        row = cursor.fetchone()
    return head_or_none(row) or Head(Frontier(), GENESIS)


def head_or_none(row: Sequence[Any] | None) -> Head | None:
    """What the answer to `HEAD` states. Raises ValueError when it cannot be a head."""
    return head_of(*row) if row else None


def head_of(size: int, leaf: bytes, frontier: bytes) -> Head:
    """The head that a row states. Raises ValueError when it cannot be one."""
    return Head(Frontier.from_bytes(size, bytes(frontier)), bytes(leaf))


def stated_size() -> int:
    """How many entries the log's head claims, whatever else is wrong with it."""
    return LogHead.objects.order_by("-after").values_list("size", flat=True).first() or 0


def stated_leaf() -> bytes | None:
    """The hash of the newest entry that the log's head claims; None where there is no head."""
    leaf = LogHead.objects.order_by("-after").values_list("head", flat=True).first()
    return bytes(leaf) if leaf is not None else None
