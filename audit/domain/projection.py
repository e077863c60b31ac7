"""The browsable side of the log: SessionRecord and StatementRecord, written in the transaction of their entries.

Everything here can be rebuilt from the leaves. A batch is folded in Python first (a statement may be authorised and
completed in one batch), then goes to the database as one JSON document per table and kind of change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db.backends.utils import CursorWrapper

from audit.domain.chain import Leaf, Prepared
from audit.domain.entry import Entry
from audit.domain.words import words_of

Row = dict[str, Any]

_STATEMENT_TEXT = {
    "session_id": 64, "subject": 256, "actor": 256, "owner": 256, "connection": 128, "protocol": 32, "gateway": 64,
    "kind": 64, "fingerprint": 128, "decision": 32, "rule": 256, "code": 64, "review": 64, "emergency": 36,
    "inputs": 32, "status": 16, "recording": 128, "error": 64, "command_tag": 64,
}  # fmt: skip
_STATEMENT_JSON = (
    "operations", "tables_read", "tables_written", "columns_read", "classes", "approvers", "masked", "about",
    "subjects", "shown",
)  # fmt: skip
_STATEMENT_NUMBERS = ("risk", "snapshot", "rows", "bytes")
_SESSION_TEXT = {
    "subject": 256, "actor": 256, "owner": 256, "issuer": 512, "auth_method": 32, "token_id": 256, "connection": 128,
    "protocol": 32, "application": 256, "client_address": 128, "client_tls": 128, "upstream_tls": 128, "gateway": 64,
    "close_reason": 128,
}  # fmt: skip

_KEPT = frozenset({"first_seq", "at"})  # the first entry of a statement says when and where it began
_GREATEST = frozenset({"risk", "snapshot"})
_TYPES = {"integer": ("risk", "statements", "denied"), "bigint": ("snapshot", "rows", "bytes", "first_seq", "last_seq")}


def project(cursor: CursorWrapper, leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> None:
    """Bring the records up to date with these entries."""
    statements, outcomes = _Fold(_blank_statement), _Fold(dict)
    sessions, closings, counts = _Fold(_blank_session), _Fold(dict), _Fold(_no_counts)
    for leaf, item in zip(leaves, prepared, strict=True):
        entry = item.entry
        change = _CHANGES.get(entry.kind)
        if change is not None and entry.statement_id:
            known = entry.statement_id in statements.rows
            if entry.kind != "statement.completed" or known:
                statements.merge(entry.statement_id, change(entry, item.gateway, leaf.seq))
            else:
                outcomes.merge(entry.statement_id, _outcome(entry, item.gateway, leaf.seq))
        elif entry.kind == "session.opened":
            sessions.merge(entry.session_id, _opened(entry, item.gateway, leaf.seq))
        elif entry.kind == "session.closed":
            closings.merge(entry.session_id, _closed(entry))
        if entry.session_id:
            _count(counts.row(entry.session_id), entry, leaf.seq)
    _upsert(cursor, "audit_sessionrecord", sessions.rows)
    _upsert(cursor, "audit_statementrecord", statements.rows)
    _update(cursor, "audit_statementrecord", outcomes.rows)
    _update(cursor, "audit_sessionrecord", closings.rows)
    _add(cursor, counts.rows)


class _Fold:
    """Rows by id, later entries of the batch over earlier ones."""

    def __init__(self, blank: Callable[[], Row]) -> None:
        self._blank = blank
        self.rows: dict[str, Row] = {}

    def row(self, key: str) -> Row:
        return self.rows.setdefault(key[:64], self._blank())

    def merge(self, key: str, changes: Row) -> None:
        """Later over earlier as `_upsert` does it: what a record says must not depend on how entries were batched."""
        row = self.row(key)
        for name, value in changes.items():
            row[name] = _merged(name, row[name], value) if name in row else value


def _merged(name: str, before: Any, after: Any) -> Any:
    if name in _KEPT:
        return before
    if _says_nothing(name, after):
        return before
    if name in _GREATEST:
        return max(before, after)
    if name == "touched":
        return sorted({*before, *after})
    return before or after if name == "complete" else after


def _says_nothing(name: str, value: Any) -> bool:
    return (name in _STATEMENT_TEXT and name != "status" and value == "") or (name in _STATEMENT_JSON and value == [])


def _blank_statement() -> Row:
    texts: Row = dict.fromkeys(_STATEMENT_TEXT, "")
    return {**texts, **{name: [] for name in _STATEMENT_JSON}, **dict.fromkeys(_STATEMENT_NUMBERS, 0)} | {
        "complete": False,
        "finished_at": None,
        "touched": [],
    }


def _blank_session() -> Row:
    texts: Row = dict.fromkeys(_SESSION_TEXT, "")
    return {**texts, "groups": [], "closed_at": None, "statements": 0, "denied": 0, "rows": 0}


def _no_counts() -> Row:
    return {"statements": 0, "denied": 0, "rows": 0, "last_seq": 0}


def _started(status: str) -> Callable[[Entry, str, int], Row]:
    def change(entry: Entry, gateway: str, seq: int) -> Row:
        body = entry.body
        row: Row = {name: text_column(body[name], size) for name, size in _STATEMENT_TEXT.items() if name in body}
        row |= {name: body[name] for name in _STATEMENT_JSON if name in body}
        row |= {name: body[name] for name in _STATEMENT_NUMBERS if name in body}
        if "complete" in body:
            row["complete"] = bool(body["complete"])
        row["touched"] = words_of(body)
        finished = _moment(entry) if status == "denied" else None
        return row | {
            "session_id": text_column(entry.session_id, 64),
            "status": status,
            "gateway": text_column(gateway, 64),
            "at": _moment(entry),
            "finished_at": finished,
            "first_seq": seq,
            "last_seq": seq,
        }

    return change


def _outcome(entry: Entry, gateway: str, seq: int) -> Row:
    body = entry.body
    row: Row = {
        name: text_column(body.get(name), _STATEMENT_TEXT[name]) for name in ("recording", "error", "command_tag")
    }
    return row | {
        "status": text_column(body.get("status"), 16),
        "rows": body.get("rows", 0),
        "bytes": body.get("bytes", 0),
        "masked": body.get("masked", []),
        "subjects": body.get("subjects", []),
        "shown": body.get("shown", []),
        "finished_at": _moment(entry),
        "last_seq": seq,
    }


def _opened(entry: Entry, gateway: str, seq: int) -> Row:
    row: Row = {name: text_column(entry.body.get(name), size) for name, size in _SESSION_TEXT.items()}
    return row | {
        "groups": entry.body.get("groups", []),
        "gateway": text_column(gateway, 64),
        "opened_at": _moment(entry),
        "first_seq": seq,
        "last_seq": seq,
    }


def _closed(entry: Entry) -> Row:
    return {"closed_at": _moment(entry), "close_reason": text_column(entry.body.get("reason"), 128)}


def _count(counts: Row, entry: Entry, seq: int) -> None:
    counts["last_seq"] = seq
    if entry.kind in ("statement.authorised", "statement.denied"):
        counts["statements"] += 1
    if entry.kind == "statement.denied":
        counts["denied"] += 1
    rows = entry.body.get("rows")
    if entry.kind == "statement.completed" and isinstance(rows, int):
        counts["rows"] += rows


_CHANGES: Mapping[str, Callable[[Entry, str, int], Row]] = {
    "statement.held": _started("held"),
    "statement.authorised": _started("running"),
    "statement.denied": _started("denied"),
    "statement.completed": _outcome,
}


def _upsert(cursor: CursorWrapper, table: str, rows: Mapping[str, Row]) -> None:
    """Insert, or let the newer entry speak where the record exists: what it does not say stays."""
    if not rows:
        return
    names = list(next(iter(rows.values())))
    columns = ", ".join(f'"{name}"' for name in names)
    changes = ", ".join(f'"{name}" = {_newer(table, name)}' for name in names if name not in _KEPT)
    cursor.execute(
        f"INSERT INTO {table} (id, {columns}) SELECT id, {columns} FROM jsonb_to_recordset(%s::jsonb)"  # noqa: S608
        f" AS r({_definition(['id', *names])}) ON CONFLICT (id) DO UPDATE SET {changes}",
        [_document(rows)],
    )


def _newer(table: str, name: str) -> str:
    """A denial after a held statement says less than the hold did: empty words and lists do not overwrite."""
    if name in _STATEMENT_TEXT and name != "status":
        return f'coalesce(nullif(excluded."{name}", \'\'), {table}."{name}")'
    if name in _STATEMENT_JSON:
        return f'CASE WHEN excluded."{name}" = \'[]\' THEN {table}."{name}" ELSE excluded."{name}" END'
    if name == "touched":
        both = f"unnest(excluded.touched || {table}.touched)"
        return f'(SELECT array_agg(DISTINCT word COLLATE "C" ORDER BY word COLLATE "C") FROM {both} AS word)'  # noqa: S608
    if name in _GREATEST:
        return f'greatest(excluded."{name}", {table}."{name}")'
    if name == "complete":
        return f"excluded.complete OR {table}.complete"
    return f'excluded."{name}"'


def _update(cursor: CursorWrapper, table: str, rows: Mapping[str, Row]) -> None:
    if not rows:
        return
    names = list(next(iter(rows.values())))
    changes = ", ".join(f'"{name}" = r."{name}"' for name in names)
    cursor.execute(
        f"UPDATE {table} AS t SET {changes} FROM jsonb_to_recordset(%s::jsonb)"  # noqa: S608
        f" AS r({_definition(['id', *names])}) WHERE t.id = r.id",
        [_document(rows)],
    )


def _add(cursor: CursorWrapper, rows: Mapping[str, Row]) -> None:
    if rows:
        cursor.execute(
            "UPDATE audit_sessionrecord AS t SET statements = t.statements + r.statements, denied = t.denied +"
            " r.denied, rows = t.rows + r.rows, last_seq = r.last_seq FROM jsonb_to_recordset(%s::jsonb)"
            " AS r(id text, statements int, denied int, rows bigint, last_seq bigint) WHERE t.id = r.id",
            [_document(rows)],
        )


def _definition(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}" {_sql_type(name)}' for name in names)


def _sql_type(name: str) -> str:
    for sql_type, names in _TYPES.items():
        if name in names:
            return sql_type
    if name in _STATEMENT_JSON or name == "groups":
        return "jsonb"
    if name in ("at", "finished_at", "opened_at", "closed_at"):
        return "timestamptz"
    return {"complete": "boolean", "touched": "text[]"}.get(name, "text")


def _document(rows: Mapping[str, Row]) -> str:
    document = json.dumps([{"id": key, **row} for key, row in rows.items()])
    if "\\u0000" in document or "\\ud" in document:  # rare; walking every row would cost a third of an append
        document = json.dumps([_clean({"id": key, **row}) for key, row in rows.items()])
    return document


def _clean(value: Any) -> Any:
    """Without NULs and lone surrogates, which jsonb refuses: the leaf keeps them, the record shows them removed."""
    if isinstance(value, str):
        return text_column(value, len(value))
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def _moment(entry: Entry) -> str:
    seconds, micros = divmod(entry.at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{micros:06d}+00"


def text_column(value: object, length: int) -> str:
    """What a leaf says, as a browsing column takes it: cut to fit, and without the NUL PostgreSQL refuses."""
    text = str(value or "")
    return (text if text.isascii() else text.encode("utf-8", "replace").decode()).replace("\x00", "")[:length]
