"""Writing the log: one transaction for a batch of entries, their sealed texts and the records that show them.

Writers of several processes are serialised by a lock (`audit.domain.head`), and the head has the Merkle frontier: an
append never reads the log. Canonical form, commitments and encryption happen before the lock is taken.

A caller that appends inside its own transaction (a review's decision and its entry, together or not at all) must do
so last: the lock is held until that transaction ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

from django.db import IntegrityError, transaction

from audit.domain import copy_rows
from audit.domain.box import box_key_id
from audit.domain.canonical import CanonicalBody
from audit.domain.chain import Head, Leaf, Prepared, link, prepare
from audit.domain.columns import text_column
from audit.domain.entry import Entry, Receipt
from audit.domain.head import LogShrank, ask_head_locked, lock_head, move_head
from audit.domain.projection import Records, begin_records, document_of, end_records
from audit.domain.sealing import evidence_sealer
from audit.domain.sending import BULK, ask, copy, one_round_trip, send
from audit.domain.subject_index import index_subjects
from audit.models import LogEntry

DURABILITY = "database"
# The newest of a journal's places: older ones are deleted, and may be there for long while a snapshot is kept open.
POSITION = "SELECT integrated FROM audit_journalposition WHERE journal = %s ORDER BY integrated DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class JournalSpan:
    """The stretch of a journal that a batch of entries comes from: places before its first and after its last one."""

    journal: str
    start: int
    end: int


class JournalMoved(RuntimeError):
    """The log has taken in another part of this journal than was expected: nothing is written."""


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
    """`append_leaves`, with a receipt for each."""
    leaves = append_leaves(prepared, at_least=at_least, attempted=attempted, moved=moved, span=span)
    return [Receipt(seq=leaf.seq, durability=DURABILITY) for leaf in leaves]


def append_leaves(
    prepared: Sequence[Prepared],
    *,
    at_least: int = 0,
    attempted: Callable[[Sequence[Leaf]], None] = lambda leaves: None,
    moved: Callable[[Head], None] = lambda head: None,
    span: JournalSpan | None = None,
) -> list[Leaf]:
    """Append what `chain.prepare` made. Raises LogShrank when the log has fewer than `at_least` entries.

    `attempted` is told the leaves before the commit: whoever loses the answer can ask `was_appended`. `moved` is told
    the log's head as the commit will leave it. `span` is where in a journal these entries come from. It is remembered
    in the same transaction: what the log has is not written again, whoever else may be taking in the same journal, and
    then nothing is returned.
    """
    if not prepared:
        return []
    append = partial(_append, prepared, at_least=at_least, attempted=attempted, moved=moved, span=span)
    try:
        return append(asking=False)
    except IntegrityError:
        if len(prepared) < BULK:
            raise
        return append(asking=True)  # a statement had a record where none was expected; all of it is undone


def _append(
    prepared: Sequence[Prepared],
    *,
    at_least: int,
    attempted: Callable[[Sequence[Leaf]], None],
    moved: Callable[[Head], None],
    span: JournalSpan | None,
    asking: bool,
) -> list[Leaf]:
    with transaction.atomic(), ExitStack() as trip:
        head, known = _locked(span)
        if head.size < at_least:
            raise LogShrank(f"the log has {head.size} entries, expected at least {at_least}")
        if span is not None and not _is_next(span, known):
            return []
        leaves, after = link(head, prepared)
        attempted(leaves)
        moved(after)
        records, few = Records(leaves, prepared), len(prepared) < BULK
        if few:
            trip.enter_context(one_round_trip())
        _store(leaves, prepared)
        begin_records(records, asking=asking)
        if not few:  # what is copied is answered for itself
            trip.enter_context(one_round_trip())
        end_records(records)
        index_subjects(leaves, prepared)
        if span is not None:
            send("INSERT INTO audit_journalposition (journal, integrated) VALUES (%s, %s)", [span.journal, span.end])
            send("DELETE FROM audit_journalposition WHERE journal = %s AND integrated = %s", [span.journal, known])
        move_head(head, after, document_of(records.counts))
    return leaves


def _locked(span: JournalSpan | None) -> tuple[Head, int]:
    """Lock the log; its head, and up to which place it has the journal of `span`."""
    if span is None:
        return lock_head(), 0
    with one_round_trip():  # one after the other all the same: the place is read behind the lock
        asked = ask_head_locked()
        position = ask(POSITION, [span.journal])
    place = position.fetchone()
    return asked.head(), int(place[0]) if place else 0


def _is_next(span: JournalSpan, known: int) -> bool:
    """Whether `span` follows what the log has of the journal; False when it has it. Raises JournalMoved."""
    if known >= span.end:
        return False
    if known != span.start:
        raise JournalMoved(f"the log has the journal up to {known}, expected {span.start}")
    return True


def was_appended(leaf: Leaf) -> bool:
    """Whether exactly this leaf is in the log at its place."""
    return LogEntry.objects.filter(seq=leaf.seq, leaf=leaf.hash).exists()


def _store(leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> None:
    """The leaves and what is sealed beside them."""
    if len(leaves) < BULK:
        _insert_leaves(leaves, prepared)
        _insert_boxes(leaves, prepared)
        return
    copy("audit_logentry", _LEAF_COLUMNS, leaf_rows(_LEAF_HEAD, leaves, prepared, joined_cells))
    boxes = box_rows(_BOX_HEAD, leaves, prepared)
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


def leaf_rows(
    head: bytes, leaves: Sequence[Leaf], prepared: Sequence[Prepared], cells: Callable[[Entry], bytes]
) -> list[bytes]:
    """The rows of leaves for COPY; `cells` spells what the bodies of several have in common."""
    return [
        leaf_row(
            head,
            leaf.seq,
            item.entry.at_us,
            leaf.hash,
            leaf.prev,
            leaf.canonical,
            item.entry.session_id,
            item.entry.statement_id,
            cells(item.entry),
        )
        for leaf, item in zip(leaves, prepared, strict=True)
    ]


def box_rows(head: bytes, leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> list[bytes]:
    """The rows of what is sealed beside these leaves, for COPY."""
    return [
        head + copy_rows.int8(leaf.seq) + copy_rows.text(box_key_id(item.box)) + copy_rows.raw(item.box)
        for leaf, item in zip(leaves, prepared, strict=True)
        if item.box
    ]


leaf_row_python, leaf_rows_python, box_rows_python = leaf_row, leaf_rows, box_rows
with suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._intake import box_rows, leaf_row, leaf_rows


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


def joined_cells(entry: Entry) -> bytes:
    """`shared_cells` in one, remembered as the compiled `leaf_rows` looks for it."""
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
