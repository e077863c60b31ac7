"""The browsable side of the log: SessionRecord and StatementRecord, written in the transaction of their entries.

Everything here can be rebuilt from the leaves. A batch is folded in Python first (a statement may be authorised and
completed in one batch), then goes to the database as one JSON document per table and kind of change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from audit.domain.chain import Leaf, Prepared
from audit.domain.columns import json_column, text_column
from audit.domain.entry import Entry
from audit.domain.sending import BULK, copy, known_ids, send
from audit.domain.statement_rows import (
    COLUMNS,
    GREATEST,
    JSON,
    KEPT,
    TEXT,
    Row,
    Said,
    copied,
    folded,
    merge,
    said,
    timestamp,
)

_SESSION_TEXT = {
    "subject": 256, "actor": 256, "owner": 256, "issuer": 512, "auth_method": 32, "token_id": 256, "connection": 128,
    "protocol": 32, "application": 256, "client_address": 128, "client_tls": 128, "upstream_tls": 128, "gateway": 64,
    "close_reason": 128,
}  # fmt: skip

_COLUMNS = ", ".join(f'"{name}"' for name in COLUMNS)
_TYPES = {"integer": ("risk", "statements", "denied"), "bigint": ("snapshot", "rows", "bytes", "first_seq", "last_seq")}


def project(leaves: Sequence[Leaf], prepared: Sequence[Prepared], *, shadowed: bool = False) -> None:
    """Bring the records up to date with these entries.

    `shadowed`: other tables of these names are to be found instead, which a plan made before would pass over.
    """
    statements: dict[str, list[Said]] = {}
    outcomes: dict[str, list[Said]] = {}
    sessions, closings, counts = _Fold(_blank_session), _Fold(dict), _Fold(_no_counts)
    for leaf, item in zip(leaves, prepared, strict=True):
        entry = item.entry
        about = said(leaf, item)
        if about is not None:
            key = entry.statement_id[:64]
            known = key in statements or not about.change.completes
            (statements if known else outcomes).setdefault(key, []).append(about)
        elif entry.kind == "session.opened":
            sessions.merge(entry.session_id, _opened(entry, item.gateway, leaf.seq))
        elif entry.kind == "session.closed":
            closings.merge(entry.session_id, _closed(entry))
        if entry.session_id:
            _count(counts.row(entry.session_id), entry, leaf.seq)
    ended = {key: folded(entries, blank=False) for key, entries in outcomes.items()}
    prepare = not shadowed
    _upsert("audit_sessionrecord", sessions.rows, prepare=prepare)
    _keep(statements, prepare=prepare)
    _update("audit_statementrecord", ended, prepare=prepare)
    _update("audit_sessionrecord", closings.rows, prepare=prepare)
    _add(counts.rows, prepare=prepare)


def _keep(statements: Mapping[str, Sequence[Said]], *, prepare: bool) -> None:
    """Statements that began, with all this batch says of them: many by COPY, but for those that have a record."""
    table = "audit_statementrecord"
    if len(statements) < BULK:
        _upsert(table, {key: folded(entries) for key, entries in statements.items()}, prepare=prepare)
        return
    known = known_ids(table, list(statements))
    _upsert(table, {key: folded(statements[key]) for key in statements if key in known}, prepare=prepare)
    copy(table, _COLUMNS, (copied(key, entries) for key, entries in statements.items() if key not in known))


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


def _upsert(table: str, rows: Mapping[str, Row], *, prepare: bool) -> None:
    """Insert, or let the newer entry speak where the record exists: what it does not say stays."""
    if not rows:
        return
    names = list(next(iter(rows.values())))
    columns = ", ".join(f'"{name}"' for name in names)
    changes = ", ".join(f'"{name}" = {_newer(table, name)}' for name in names if name not in KEPT)
    send(
        f"INSERT INTO {table} (id, {columns}) SELECT id, {columns} FROM jsonb_to_recordset(%s::jsonb)"  # noqa: S608
        f" AS r({_definition(['id', *names])}) ON CONFLICT (id) DO UPDATE SET {changes}",
        [_document(rows)],
        prepare=prepare,
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


def _update(table: str, rows: Mapping[str, Row], *, prepare: bool) -> None:
    if not rows:
        return
    names = list(next(iter(rows.values())))
    changes = ", ".join(f'"{name}" = r."{name}"' for name in names)
    send(
        f"UPDATE {table} AS t SET {changes} FROM jsonb_to_recordset(%s::jsonb)"  # noqa: S608
        f" AS r({_definition(['id', *names])}) WHERE t.id = r.id",
        [_document(rows)],
        prepare=prepare,
    )


def _add(rows: Mapping[str, Row], *, prepare: bool) -> None:
    if rows:
        send(
            "UPDATE audit_sessionrecord AS t SET statements = t.statements + r.statements, denied = t.denied +"
            " r.denied, rows = t.rows + r.rows, last_seq = r.last_seq FROM jsonb_to_recordset(%s::jsonb)"
            " AS r(id text, statements int, denied int, rows bigint, last_seq bigint) WHERE t.id = r.id",
            [_document(rows)],
            prepare=prepare,
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


def _document(rows: Mapping[str, Row]) -> str:
    return json_column([{"id": key, **row} for key, row in rows.items()])
