"""A small batch as one statement: the log's head, the entries, their sealed texts and records, all or nothing.

Who made the batch must have known the log's head. The statement states a new head only where that one is still the
newest, and everything else hangs on it: where another process appended meanwhile, nothing happens and the answer is 0.
So there is no lock to ask for first, no BEGIN and no COMMIT: one round trip, and one plan that is made once. What is
not said at once (sessions that open and close, the index of subjects, hundreds of entries) goes the way of
`audit.domain.append`, which this one must leave the same rows as.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct

from audit.domain import copy_rows
from audit.domain.append import shared_cells
from audit.domain.box import box_key_id
from audit.domain.chain import Head, Leaf, Prepared
from audit.domain.columns import text_column
from audit.domain.head import LOCK, head_of
from audit.domain.projection import Records, document_of, document_of_begun, update_sql, upsert_sql
from audit.domain.sending import BULK
from audit.domain.statement_rows import BEGUN, ENDED
from audit.domain.subject_index import names_subjects

# Past it, the event loop that sends it would be kept from its sessions for too long.
MAX_BYTES = 256 * 1024

_MOVED = "EXISTS (SELECT 1 FROM moved)"
_LEAF = (
    ("seq", "bigint"), ("at", "timestamptz"), ("leaf", "bytea"), ("prev", "bytea"), ("canonical", "bytea"),
    ("session_id", "text"), ("statement_id", "text"), ("kind", "text"), ("subject", "text"), ("connection", "text"),
)  # fmt: skip
_BOX = (("seq", "bigint"), ("key_id", "text"), ("box", "bytea"))
_OIDS = {"bigint": 20, "timestamptz": 1184, "bytea": 17, "text": 25}  # PostgreSQL's pg_type.dat

_INT8, _ARRAY = Struct("!q").pack, Struct("!iiiii").pack


def _insert(table: str, columns: Sequence[tuple[str, str]], first: int) -> str:
    names = ", ".join(name for name, _ in columns)
    arrays = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(columns, first))
    return f"INSERT INTO {table} ({names}) SELECT {names} FROM unnest({arrays}) AS r({names}) WHERE {_MOVED}"  # noqa: S608


def _of_these(ids: str) -> str:
    return f"t.id = ANY({ids}::text[]) AND {_MOVED}"


# Its parameters, as `parameters` has them: the head before and after, leaves, boxes, documents of records that begin
# and end, and of what sessions count. Those that end are looked up by ids that are said apart: planned while the tables
# are nearly empty, a join with the document alone would read them whole, and go on doing so.
#
# It sees the log as it was before it waited for the lock. Who was outrun meanwhile finds the place behind its head
# taken; and where even that head's row is gone again, its first entry's place, which is an error.
STATEMENT = f"""
WITH locked AS MATERIALIZED ({LOCK}
), moved AS (
  INSERT INTO audit_loghead (after, size, head, frontier, counts) SELECT $1, $4, $5, $6, $23::jsonb FROM locked
  WHERE (SELECT size = $1 AND head = $2 AND frontier = $3 FROM audit_loghead ORDER BY after DESC LIMIT 1)
  ON CONFLICT (after) DO NOTHING RETURNING 1
), leaves AS ({_insert("audit_logentry", _LEAF, 7)}
), boxes AS ({_insert("audit_sealedtext", _BOX, 17)}
), begun AS ({upsert_sql("audit_statementrecord", BEGUN, "$20", only_if=_MOVED)}
), ended AS ({update_sql("audit_statementrecord", ENDED, "$21", only_if=_of_these("$22"))}
) SELECT count(*) FROM moved
"""  # noqa: S608 - of our own tables' names

# Whoever is stopped with the log locked is ended by the server before those who wait for it give up.
LOCK_FOR_LONG = LOCK.replace(
    "id = 1", "id = 1 AND set_config('idle_in_transaction_session_timeout', '4s', true) = '4s'"
)


def fits(prepared: Sequence[Prepared]) -> bool:
    """Whether one statement can say all this batch says."""
    if len(prepared) >= BULK:
        return False
    length = 0
    for item in prepared:
        entry = item.entry
        if entry.kind in ("session.opened", "session.closed") or names_subjects(entry):
            return False
        length += len(item.draft.head) + len(item.draft.tail) + len(item.box)
    return length <= MAX_BYTES


def parameters(before: Head, after: Head, leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> list[bytes]:
    """In PostgreSQL's binary format."""
    records = Records(leaves, prepared)
    return [
        *_head(before),
        *_head(after),
        *_leaves(leaves, prepared),
        *_boxes(leaves, prepared),
        _document(document_of_begun(records.begun)),
        _document(records.ended),
        _ids(records.outcomes),
        _document(document_of(records.counts)),
    ]


def is_done(values: Sequence[bytes | None]) -> bool:
    """What the answer says: the batch is in the log; else the head was another."""
    return values == [_INT8(1)]


def read_head(values: Sequence[bytes | None]) -> Head:
    """The answer to `HEAD`. Raises ValueError when it is no head."""
    size, leaf, frontier = values
    if size is None or leaf is None or frontier is None:
        raise ValueError("the newest head is none")
    return head_of(int.from_bytes(size, "big"), leaf, frontier)


def _head(head: Head) -> tuple[bytes, bytes, bytes]:
    return _INT8(head.size), head.leaf, head.frontier.to_bytes()


def _leaves(leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> list[bytes]:
    cells = [
        (
            copy_rows.int8(leaf.seq),
            copy_rows.moment(item.entry.at_us),
            copy_rows.raw(leaf.hash),
            copy_rows.raw(leaf.prev),
            copy_rows.raw(leaf.canonical),
            copy_rows.text(text_column(item.entry.session_id, 64)),
            copy_rows.text(text_column(item.entry.statement_id, 64)),
            *shared_cells(item.entry),
        )
        for leaf, item in zip(leaves, prepared, strict=True)
    ]
    return _arrays(_LEAF, cells)


def _boxes(leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> list[bytes]:
    cells = [
        (copy_rows.int8(leaf.seq), copy_rows.text(box_key_id(item.box)), copy_rows.raw(item.box))
        for leaf, item in zip(leaves, prepared, strict=True)
        if item.box
    ]
    return _arrays(_BOX, cells)


def _arrays(columns: Sequence[tuple[str, str]], rows: Sequence[tuple[bytes, ...]]) -> list[bytes]:
    """A table turned on its side: an array for each column."""
    by_column: Iterable[Sequence[bytes]] = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return [_array(_OIDS[kind], cells) for (_, kind), cells in zip(columns, by_column, strict=True)]


def _array(oid: int, cells: Sequence[bytes]) -> bytes:
    """`cells` with their lengths, as in a row for COPY."""
    return _ARRAY(1, 0, oid, len(cells), 1) + b"".join(cells) if cells else _ARRAY(0, 0, oid, 0, 0)[:12]


def _document(rows: str) -> bytes:
    return b"\x01" + rows.encode()  # a version, as jsonb is sent


def _ids(rows: Iterable[str]) -> bytes:
    return _array(_OIDS["text"], [copy_rows.text(text_column(key, 64)) for key in rows])
