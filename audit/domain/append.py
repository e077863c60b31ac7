"""Writing the log: one transaction for a batch of entries, their sealed texts and the records that show them.

Writers of several processes are serialised by the lock on the log's one state row, which also holds the Merkle
frontier: an append never reads the log. Canonical form, commitments and encryption happen before the lock is taken.

A caller that appends inside its own transaction (a review's decision and its entry, together or not at all) must do
so last: the lock is held until that transaction ends.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from audit.domain import copy_rows
from audit.domain.box import box_key_id
from audit.domain.canonical import CanonicalBody
from audit.domain.chain import Head, Leaf, Prepared, link, prepare
from audit.domain.columns import text_column
from audit.domain.entry import Entry, Receipt
from audit.domain.merkle import GENESIS, Frontier
from audit.domain.projection import project
from audit.domain.sealing import evidence_sealer
from audit.domain.sending import BULK, copy, one_round_trip, send
from audit.domain.subject_index import index_subjects
from audit.models import LogEntry, LogState

DURABILITY = "database"


@dataclass(frozen=True, slots=True)
class JournalSpan:
    """The stretch of a journal that a batch of entries comes from: places before its first and after its last one."""

    journal: str
    start: int
    end: int


class JournalMoved(RuntimeError):
    """The log has taken in another part of this journal than was expected: nothing is written."""


class LogShrank(RuntimeError):
    """The stored log is shorter than what this process wrote: somebody removed entries. Nothing more is written."""


def append_entries(entries: Sequence[Entry], *, gateway: str = "") -> list[Receipt]:
    """Append `entries` in order, durably and all or none. Raises EntryRefused before anything is written."""
    sealer = evidence_sealer()
    return append_prepared([prepare(entry, gateway=gateway, sealer=sealer) for entry in entries])


def append_prepared(
    prepared: Sequence[Prepared],
    *,
    at_least: int = 0,
    attempted: Callable[[Sequence[Leaf]], None] = lambda leaves: None,
    moved: Callable[[Head], None] = lambda head: None,
    span: JournalSpan | None = None,
) -> list[Receipt]:
    """Append what `chain.prepare` made. Raises LogShrank when the log has fewer than `at_least` entries.

    `attempted` is told the leaves before the commit: whoever loses the answer can ask `was_appended`. `moved` is told
    the log's head as the commit will leave it. `span` is where in a journal these entries come from. It is remembered
    in the same transaction: what the log has is not written again, whoever else may be taking in the same journal, and
    then nothing is returned.
    """
    if not prepared:
        return []
    with transaction.atomic(), connection.cursor() as cursor:
        head = lock_head(cursor)
        if head.size < at_least:
            raise LogShrank(f"the log has {head.size} entries, expected at least {at_least}")
        if span is not None and not _advance(cursor, span):
            return []
        leaves, head = link(head, prepared)
        attempted(leaves)
        moved(head)
        with one_round_trip() if len(prepared) < BULK else nullcontext():
            _store(leaves, prepared)
            project(leaves, prepared)
            index_subjects(leaves, prepared)
            send(
                "UPDATE audit_logstate SET size = %s, head = %b, frontier = %b WHERE id = 1",
                [head.size, head.leaf, head.frontier.to_bytes()],
            )
    return [Receipt(seq=leaf.seq, durability=DURABILITY) for leaf in leaves]


def _advance(cursor: CursorWrapper, span: JournalSpan) -> bool:
    """Note that the log has the journal up to the end of `span`; False when it had it. Raises JournalMoved."""
    cursor.execute("SELECT integrated FROM audit_journalposition WHERE journal = %s", [span.journal])
    row = cursor.fetchone()
    known = int(row[0]) if row else 0
    if known >= span.end:
        return False
    if known != span.start:
        raise JournalMoved(f"the log has the journal up to {known}, expected {span.start}")
    cursor.execute(
        "INSERT INTO audit_journalposition (journal, integrated) VALUES (%s, %s)"
        " ON CONFLICT (journal) DO UPDATE SET integrated = excluded.integrated",
        [span.journal, span.end],
    )
    return True


def was_appended(leaf: Leaf) -> bool:
    """Whether exactly this leaf is in the log at its place."""
    return LogEntry.objects.filter(seq=leaf.seq, leaf=leaf.hash).exists()


def lock_head(cursor: CursorWrapper) -> Head:
    """Lock the log until the transaction ends and return its head."""
    row = _state(cursor, "FOR UPDATE")
    if row is None:
        # The first entry of a new log. On a log that lost its state the insert of entry 1 then collides: fail closed.
        cursor.execute(
            "INSERT INTO audit_logstate (id, log_id, size, head, frontier) VALUES (1, %s, 0, %s, '') "
            "ON CONFLICT DO NOTHING",
            [uuid.uuid4(), GENESIS],
        )
        row = _state(cursor, "FOR UPDATE")
        assert row is not None
    return head_of(*row)


def read_head() -> Head:
    """The log's head as stored, without locking it."""
    with connection.cursor() as cursor:
        row = _state(cursor, "")
    if row is None:
        return Head(Frontier(), GENESIS)
    return head_of(*row)


def head_of(size: int, leaf: bytes, frontier: bytes) -> Head:
    """The head that a row of the log's state states. Raises ValueError when it cannot be one."""
    return Head(Frontier.from_bytes(size, bytes(frontier)), bytes(leaf))


def stated_size() -> int:
    """How many entries the log's state claims, whatever else is wrong with it."""
    return LogState.objects.filter(id=1).values_list("size", flat=True).first() or 0


def _state(cursor: CursorWrapper, lock: str) -> tuple[int, bytes, bytes] | None:
    cursor.execute(f"SELECT size, head, frontier FROM audit_logstate WHERE id = 1 {lock}")  # noqa: S608
    row: tuple[int, bytes, bytes] | None = cursor.fetchone()
    return row


def _store(leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> None:
    """The leaves and what is sealed beside them."""
    if len(leaves) < BULK:
        _insert_leaves(leaves, prepared)
        _insert_boxes(leaves, prepared)
        return
    pairs = list(zip(leaves, prepared, strict=True))
    copy("audit_logentry", _LEAF_COLUMNS, [_leaf_row(leaf, item) for leaf, item in pairs])
    boxes = [
        _BOX_HEAD + copy_rows.int8(leaf.seq) + copy_rows.text(box_key_id(item.box)) + copy_rows.raw(item.box)
        for leaf, item in pairs
        if item.box
    ]
    if boxes:
        copy("audit_sealedtext", "seq, key_id, box", boxes)


_LEAF_COLUMNS = "seq, at, leaf, prev, canonical, session_id, statement_id, kind, subject, connection"
_LEAF_HEAD, _BOX_HEAD = copy_rows.row_head(10), copy_rows.row_head(3)


def leaf_row(  # noqa: PLR0917 - as its compiled twin takes them
    head: bytes,
    seq: int,
    at_us: int,
    digest: bytes,
    prev: bytes,
    canonical: bytes,
    session_id: str,
    statement_id: str,
    shared: bytes,
) -> bytes:
    """The row of a leaf for COPY; `shared` are the columns it has in common with others."""
    return b"".join(
        (
            head,
            copy_rows.int8(seq),
            copy_rows.moment(at_us),
            copy_rows.raw(digest),
            copy_rows.raw(prev),
            copy_rows.raw(canonical),
            copy_rows.text(text_column(session_id, 64)),
            copy_rows.text(text_column(statement_id, 64)),
            shared,
        )
    )


leaf_row_python = leaf_row
with suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._fast import leaf_row


def _leaf_row(leaf: Leaf, item: Prepared) -> bytes:
    entry, (seq, prev, canonical, digest) = item.entry, leaf
    session, statement = entry.session_id, entry.statement_id
    return leaf_row(_LEAF_HEAD, seq, entry.at_us, digest, prev, canonical, session, statement, _joined_cells(entry))


def shared_cells(entry: Entry) -> tuple[bytes, bytes, bytes]:
    """The columns that entries with the same body have in common: kind, subject and connection."""
    body = entry.body
    memo = body.memo if isinstance(body, CanonicalBody) else {}
    cells: tuple[bytes, bytes, bytes] | None = memo.get(("cells", entry.kind))
    if cells is None:
        cells = memo["cells", entry.kind] = (
            copy_rows.text(entry.kind[:64]),
            copy_rows.text(text_column(body.get("subject"), 256)),
            copy_rows.text(text_column(body.get("connection"), 128)),
        )
    return cells


def _joined_cells(entry: Entry) -> bytes:
    body = entry.body
    memo = body.memo if isinstance(body, CanonicalBody) else {}
    joined = memo.get(("leaf", entry.kind))
    if joined is None:
        joined = memo["leaf", entry.kind] = b"".join(shared_cells(entry))
    return bytes(joined)


def _insert_leaves(leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> None:
    columns: list[list[object]] = [
        [leaf.seq for leaf in leaves],
        [leaf.hash for leaf in leaves],
        [leaf.prev for leaf in leaves],
        [leaf.canonical for leaf in leaves],
        [item.entry.kind[:64] for item in prepared],
        [text_column(item.entry.session_id, 64) for item in prepared],
        [text_column(item.entry.statement_id, 64) for item in prepared],
        [text_column(item.entry.body.get("subject"), 256) for item in prepared],
        [text_column(item.entry.body.get("connection"), 128) for item in prepared],
        [item.entry.at_us for item in prepared],
    ]
    send(
        "INSERT INTO audit_logentry (seq, leaf, prev, canonical, kind, session_id, statement_id, subject, connection,"
        " at) SELECT e.seq, e.leaf, e.prev, e.canonical, e.kind, e.session_id, e.statement_id, e.subject,"
        " e.connection, to_timestamp(e.at_us / 1e6) FROM unnest(%s::bigint[], %b::bytea[], %b::bytea[], %b::bytea[],"
        " %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[])"
        " AS e(seq, leaf, prev, canonical, kind, session_id, statement_id, subject, connection, at_us)",
        columns,
    )


def _insert_boxes(leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> None:
    boxes = [
        (leaf.seq, box_key_id(item.box), item.box) for leaf, item in zip(leaves, prepared, strict=True) if item.box
    ]
    if boxes:
        send(
            "INSERT INTO audit_sealedtext (seq, key_id, box)"
            " SELECT * FROM unnest(%s::bigint[], %s::text[], %b::bytea[])",
            [list(column) for column in zip(*boxes, strict=True)],
        )
