"""The browsable side of the log: SessionRecord and StatementRecord, written in the transaction of their entries.

Everything here can be rebuilt from the leaves. A batch is folded in Python first (a statement may be authorised and
completed in one batch), then goes to the database as one JSON document per table and kind of change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence

from audit.domain.chain import Leaf, Prepared
from audit.domain.columns import json_column, text_column
from audit.domain.entry import Entry, Json
from audit.domain.sending import BULK, copy, known_ids, send
from audit.domain.statement_rows import (
    BEGUN,
    CHANGES,
    COLUMNS,
    ENDED,
    GREATEST,
    HEAD,
    JSON,
    KEPT,
    TEXT,
    Change,
    Row,
    Said,
    change_of,
    copied,
    documented,
    documented_end,
    merge,
    rows_to_copy,
    timestamp,
)

_SESSION_TEXT = {
    "subject": 256, "actor": 256, "owner": 256, "issuer": 512, "auth_method": 32, "token_id": 256, "connection": 128,
    "protocol": 32, "application": 256, "client_address": 128, "client_tls": 128, "upstream_tls": 128, "gateway": 64,
    "close_reason": 128,
}  # fmt: skip

_STATEMENTS = "audit_statementrecord"
_COLUMNS = ", ".join(f'"{name}"' for name in COLUMNS)
_TYPES = {"integer": ("risk", "statements", "denied"), "bigint": ("snapshot", "rows", "bytes", "first_seq", "last_seq")}

# Adds to what sessions count at once, where no head is stated that it could stand beside (audit.domain.session_counts).
_ADD = (
    "UPDATE audit_sessionrecord AS t SET statements = t.statements + r.statements, denied = t.denied + r.denied,"
    " rows = t.rows + r.rows, last_seq = r.last_seq FROM jsonb_to_recordset(%s::jsonb)"
    " AS r(id text, statements int, denied int, rows bigint, last_seq bigint) WHERE t.id = r.id"
)


class Records:
    """What entries make of the records: statements that begin with them and that end, sessions, and counts."""

    def __init__(self, leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> None:
        self.begun: dict[str, list[Said]] = {}
        self.outcomes: dict[str, list[Said]] = {}
        self.counts: dict[str, Row] = {}  # by session: what is to be added to its numbers
        self._sessions, self._closings = _Fold(_blank_session), _Fold(dict)
        for leaf, item in fold(self, leaves, prepared, CHANGES, change_of):
            self._add(leaf, item)

    def _add(self, leaf: Leaf, item: Prepared) -> None:
        entry = item.entry
        if entry.kind == "session.opened":
            self._sessions.merge(entry.session_id, _opened(entry, item.gateway, leaf.seq))
        elif entry.kind == "session.closed":
            self._closings.merge(entry.session_id, _closed(entry))

    @property
    def ended(self) -> str:
        """What is known of the ends of statements that began before, as a JSON document of rows."""
        return f"[{','.join([documented_end(key, entries) for key, entries in self.outcomes.items()])}]"

    @property
    def opened(self) -> dict[str, Row]:
        return self._sessions.rows

    @property
    def closed(self) -> dict[str, Row]:
        return self._closings.rows


def fold(
    records: Records,
    leaves: Sequence[Leaf],
    prepared: Sequence[Prepared],
    changes: Collection[str],
    change_of: Callable[[str, Mapping[str, Json]], Change],
) -> list[tuple[Leaf, Prepared]]:
    """Put entries about statements where they belong, and count all. Returns those that are about no statement.

    `changes` are the kinds that are about one, and `change_of` says what a body of such a kind does.
    """
    rest = []
    for leaf, item in zip(leaves, prepared, strict=True):
        entry = item.entry
        if entry.statement_id and entry.kind in changes:
            about = Said(change_of(entry.kind, entry.body), leaf, item)
            key = entry.statement_id[:64]
            known = key in records.begun or not about.change.completes
            (records.begun if known else records.outcomes).setdefault(key, []).append(about)
        else:
            rest.append((leaf, item))
        if entry.session_id:
            _count(records.counts.setdefault(entry.session_id[:64], _no_counts()), entry, leaf.seq)
    return rest


fold_python = fold
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._intake import fold


def project(leaves: Sequence[Leaf], prepared: Sequence[Prepared], *, shadowed: bool = False) -> None:
    """Bring the records up to date with these entries.

    `shadowed`: other tables of these names are to be found instead, which a plan made before would pass over.
    """
    records = Records(leaves, prepared)
    begin_records(records, asking=True, prepare=not shadowed)
    end_records(records, prepare=not shadowed)
    if records.counts:
        send(_ADD, [document_of(records.counts)], prepare=not shadowed)


def begin_records(records: Records, *, asking: bool, prepare: bool = True) -> None:
    """Make records of the sessions and statements that began: many statements by COPY.

    One that was held before has a record. `asking`: the others are looked for as well. Of those that were allowed at
    once none is expected; IntegrityError, when there is one.
    """
    if records.opened:
        opened = records.opened
        send(upsert_sql("audit_sessionrecord", _names(opened), "%s"), [document_of(opened)], prepare=prepare)
    begun = records.begun
    if len(begun) < BULK:
        known: Collection[str] = begun.keys()
    else:
        asked = [key for key, entries in begun.items() if asking or not entries[0].change.opens]
        known = known_ids(_STATEMENTS, asked) if asked else ()
    _copy_but(known, begun, prepare=prepare)


def end_records(records: Records, *, prepare: bool = True) -> None:
    """Say what ended."""
    closed = records.closed
    if records.outcomes:
        send(update_sql(_STATEMENTS, ENDED, "%s"), [records.ended], prepare=prepare)
    if closed:
        send(update_sql("audit_sessionrecord", _names(closed), "%s"), [document_of(closed)], prepare=prepare)


def _copy_but(known: Collection[str], statements: Mapping[str, Sequence[Said]], *, prepare: bool) -> None:
    """Add to the records there are (`known`), and copy the others."""
    if known:
        few = document_of_begun({key: statements[key] for key in statements if key in known})
        send(upsert_sql(_STATEMENTS, BEGUN, "%s"), [few], prepare=prepare)
    if len(known) < len(statements):
        copy(_STATEMENTS, _COLUMNS, rows_to_copy(HEAD, statements, known, copied))


def document_of_begun(statements: Mapping[str, Sequence[Said]]) -> str:
    """Rows of statements, with all that is said of them here, as a JSON document."""
    return f"[{','.join([documented(key, entries) for key, entries in statements.items()])}]"


def _names(rows: Mapping[str, Row]) -> tuple[str, ...]:
    return tuple(next(iter(rows.values())))


class _Fold:
    """Rows by id, later entries of the batch over earlier ones."""

    def __init__(self, blank: Callable[[], Row]) -> None:
        self._blank = blank
        self.rows: dict[str, Row] = {}

    def row(self, key: str) -> Row:
        return self.rows.setdefault(key[:64], self._blank())

    def merge(self, key: str, changes: Row) -> None:
        merge(self.row(key), changes)


def _blank_session() -> Row:
    texts: Row = dict.fromkeys(_SESSION_TEXT, "")
    return {**texts, "groups": [], "closed_at": None, "statements": 0, "denied": 0, "rows": 0}


def _no_counts() -> Row:
    return {"statements": 0, "denied": 0, "rows": 0, "last_seq": 0}


def _opened(entry: Entry, gateway: str, seq: int) -> Row:
    row: Row = {name: text_column(entry.body.get(name), size) for name, size in _SESSION_TEXT.items()}
    return row | {
        "groups": entry.body.get("groups", []),
        "gateway": text_column(gateway, 64),
        "opened_at": timestamp(entry),
        "first_seq": seq,
        "last_seq": seq,
    }


def _closed(entry: Entry) -> Row:
    return {"closed_at": timestamp(entry), "close_reason": text_column(entry.body.get("reason"), 128)}


def _count(counts: Row, entry: Entry, seq: int) -> None:
    counts["last_seq"] = seq
    if entry.kind in ("statement.authorised", "statement.denied"):
        counts["statements"] += 1
    if entry.kind == "statement.denied":
        counts["denied"] += 1
    rows = entry.body.get("rows")
    if entry.kind == "statement.completed" and isinstance(rows, int):
        counts["rows"] += rows


def upsert_sql(table: str, names: tuple[str, ...], document: str, *, only_if: str = "true") -> str:
    """Insert, or let the newer entry speak where the record exists: what it does not say stays.

    `document` stands for rows of these columns, as `document_of` has them.
    """
    columns = ", ".join(f'"{name}"' for name in names)
    changes = ", ".join(f'"{name}" = {_newer(table, name)}' for name in names if name not in KEPT)
    return (
        f"INSERT INTO {table} (id, {columns}) SELECT id, {columns} FROM jsonb_to_recordset({document}::jsonb)"  # noqa: S608
        f" AS r({_definition(['id', *names])}) WHERE {only_if} ON CONFLICT (id) DO UPDATE SET {changes}"
    )


def _newer(table: str, name: str) -> str:
    """A denial after a held statement says less than the hold did: empty words and lists do not overwrite."""
    if name in TEXT and name != "status":
        return f'coalesce(nullif(excluded."{name}", \'\'), {table}."{name}")'
    if name in JSON:
        return f'CASE WHEN excluded."{name}" = \'[]\' THEN {table}."{name}" ELSE excluded."{name}" END'
    if name == "touched":
        both = f"unnest(excluded.touched || {table}.touched)"
        words = f'SELECT array_agg(DISTINCT word COLLATE "C" ORDER BY word COLLATE "C") FROM {both} AS word'  # noqa: S608
        return f"coalesce(({words}), '{{}}')"
    if name in GREATEST:
        return f'greatest(excluded."{name}", {table}."{name}")'
    if name == "complete":
        return f"excluded.complete OR {table}.complete"
    return f'excluded."{name}"'


def update_sql(table: str, names: tuple[str, ...], document: str, *, only_if: str = "true") -> str:
    """Say these columns anew, of the records that there are."""
    changes = ", ".join(f'"{name}" = r."{name}"' for name in names)
    return (
        f"UPDATE {table} AS t SET {changes} FROM jsonb_to_recordset({document}::jsonb)"  # noqa: S608
        f" AS r({_definition(['id', *names])}) WHERE t.id = r.id AND {only_if}"
    )


def _definition(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}" {_sql_type(name)}' for name in names)


def _sql_type(name: str) -> str:
    for sql_type, names in _TYPES.items():
        if name in names:
            return sql_type
    if name in JSON or name == "groups":
        return "jsonb"
    if name in ("at", "finished_at", "opened_at", "closed_at"):
        return "timestamptz"
    return {"complete": "boolean", "touched": "text[]"}.get(name, "text")


def document_of(rows: Mapping[str, Row]) -> str:
    """Rows by id as one JSON document."""
    return json_column([{"id": key, **row} for key, row in rows.items()])
