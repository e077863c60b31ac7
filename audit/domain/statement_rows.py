"""The record of a statement, put together from its entries: what each says, which speaks last, and its row. Pure.

What an entry says of its statement is in its body, and most bodies are said over and over: it is worked out once for
each (`canonical.CanonicalBody.memo`), down to the bytes of the row.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from audit.domain import copy_rows
from audit.domain.canonical import CanonicalBody
from audit.domain.chain import Leaf, Prepared
from audit.domain.columns import json_column, text_column
from audit.domain.entry import Entry, Json
from audit.domain.words import words_of

Row = dict[str, Any]

TEXT = {
    "session_id": 64, "subject": 256, "actor": 256, "owner": 256, "connection": 128, "protocol": 32, "gateway": 64,
    "kind": 64, "fingerprint": 128, "decision": 32, "rule": 256, "code": 64, "review": 64, "emergency": 36,
    "inputs": 32, "status": 16, "recording": 128, "error": 64, "command_tag": 64,
}  # fmt: skip
JSON = (
    "operations", "tables_read", "tables_written", "columns_read", "classes", "approvers", "masked", "about",
    "subjects", "shown",
)  # fmt: skip
NUMBERS = ("risk", "snapshot", "rows", "bytes")
KEPT = frozenset({"first_seq", "at"})  # the first entry of a statement says when and where it began
GREATEST = frozenset({"risk", "snapshot"})

# A row: what its entries say each, what the first of them says, and how it ended.
_OWN = ("id", "session_id", "gateway", "at", "finished_at", "first_seq", "last_seq")
OUTCOME = ("status", "rows", "bytes", "masked", "subjects", "shown", "recording", "error", "command_tag")
_FIRST = (
    *(name for name in (*TEXT, *JSON, *NUMBERS) if name not in (*_OWN, *OUTCOME)),
    "complete",
    "touched",
)
COLUMNS = (*_OWN, *_FIRST, *OUTCOME)
BEGUN: tuple[str, ...] = tuple(name for name in COLUMNS if name != "id")
ENDED: tuple[str, ...] = (*OUTCOME, "finished_at", "last_seq")  # what is said of a statement that has a record
HEAD = copy_rows.row_head(len(COLUMNS))


@dataclass(slots=True)
class Change:
    """What a body says about its statement."""

    says: Row
    ends: bool  # the entry's moment is when the statement ended
    completes: bool
    plain: bool  # says nothing an outcome would have to be merged with
    opens: bool  # nothing was said of the statement before, as far as one can tell
    _spelled: tuple[bytes, bytes] | None = None
    _begins: str | None = None
    _says: str | None = None

    def spelled(self) -> tuple[bytes, bytes]:
        """The columns of `_FIRST` and `OUTCOME` where nothing is known before."""
        if self._spelled is None:
            row = _blank()
            merge(row, self.says)
            self._spelled = (_cells(row, _FIRST), _cells(row, OUTCOME))
        return self._spelled

    def begins(self) -> str:
        """The same as members of a JSON object."""
        if self._begins is None:
            row = _blank()
            merge(row, self.says)
            del row["session_id"], row["gateway"], row["finished_at"]
            self._begins = _members(row)
        return self._begins

    def members(self) -> str:
        """What it says, and no more, as members of a JSON object."""
        if self._says is None:
            self._says = _members(self.says)
        return self._says


class Said(NamedTuple):
    """One entry about a statement."""

    change: Change
    leaf: Leaf
    item: Prepared


def change_of(kind: str, body: Mapping[str, Json]) -> Change:
    """What a body says about its statement, worked out once, as the compiled `projection.fold` looks for it."""
    if not isinstance(body, CanonicalBody):
        return _worked_out(kind, body)
    found: Change | None = body.memo.get(kind)
    if found is None:
        found = body.memo[kind] = _worked_out(kind, body)
    return found


def folded(entries: Sequence[Said], *, blank: bool = True) -> Row:
    """The record these entries make together; without `blank`, only what they say."""
    row = _blank() if blank else {}
    for entry in entries:
        merge(row, _row(entry))
    return row


def rows_to_copy(
    head: bytes,
    statements: Mapping[str, Sequence[Said]],
    known: Collection[str],
    other: Callable[[str, Sequence[Said]], bytes],
) -> list[bytes]:
    """The rows of the statements that are not `known`, for COPY; `other` makes those that are not usual."""
    return [other(key, entries) for key, entries in statements.items() if key not in known]


rows_to_copy_python = rows_to_copy
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._intake import rows_to_copy


def copied(key: str, entries: Sequence[Said]) -> bytes:
    """The row of a statement nothing is known of before, for COPY."""
    first, last = entries[0], entries[-1]
    if len(entries) == 1 or (len(entries) == 2 and first.change.plain and last.change.completes):
        session, gateway = first.item.entry.session_id, first.item.gateway
        rest = first.change.spelled()[0] + last.change.spelled()[1]
    else:
        row = folded(entries)
        session, gateway = row["session_id"], row["gateway"]
        rest = _cells(row, _FIRST) + _cells(row, OUTCOME)
    return b"".join(
        (
            HEAD,
            copy_rows.text(text_column(key, 64)),
            copy_rows.text(text_column(session, 64)),
            copy_rows.text(text_column(gateway, 64)),
            copy_rows.moment(first.item.entry.at_us),
            copy_rows.moment(last.item.entry.at_us) if last.change.ends else copy_rows.NULL,
            copy_rows.int8(first.leaf.seq),
            copy_rows.int8(last.leaf.seq),
            rest,
        )
    )


def documented(key: str, entries: Sequence[Said]) -> str:
    """The record of a statement that begins with these entries, as a JSON object."""
    about = entries[0]
    if len(entries) > 1 or about.change.completes:
        return json_column({"id": key, **folded(entries)})
    entry, seq = about.item.entry, about.leaf.seq
    at = timestamp(entry)
    session, gateway = text_column(entry.session_id, 64), text_column(about.item.gateway, 64)
    own = f'"id":{_QUOTE(text_column(key, 64))},"session_id":{_QUOTE(session)},"gateway":{_QUOTE(gateway)},"at":"{at}"'
    finished = f'"{at}"' if about.change.ends else "null"
    return f'{{{own},"finished_at":{finished},"first_seq":{seq},"last_seq":{seq},{about.change.begins()}}}'


def documented_end(key: str, entries: Sequence[Said]) -> str:
    """What these entries say of how a statement ended that has a record, as a JSON object."""
    about = entries[0]
    if len(entries) > 1:
        return json_column({"id": key, **folded(entries, blank=False)})
    own = f'"id":{_QUOTE(text_column(key, 64))},"finished_at":"{timestamp(about.item.entry)}"'
    own += f',"last_seq":{about.leaf.seq}'
    return f"{{{own},{about.change.members()}}}"


def merge(row: Row, changes: Mapping[str, Any]) -> None:
    """Later over earlier as the database does it: what a record says must not depend on how entries were batched."""
    for name, value in changes.items():
        row[name] = _merged(name, row[name], value) if name in row else value


def _merged(name: str, before: Any, after: Any) -> Any:
    if name in KEPT or _says_nothing(name, after):
        return before
    if name in GREATEST:
        return max(before, after)
    if name == "touched":
        return sorted({*before, *after})
    return before or after if name == "complete" else after


def _says_nothing(name: str, value: Any) -> bool:
    return (name in TEXT and name != "status" and value == "") or (name in JSON and value == [])


def _blank() -> Row:
    texts: Row = dict.fromkeys(TEXT, "")
    return {**texts, **{name: [] for name in JSON}, **dict.fromkeys(NUMBERS, 0)} | {
        "complete": False,
        "finished_at": None,
        "touched": [],
    }


def _row(entry: Said) -> Row:
    """All an entry says about its statement."""
    about, change = entry.item.entry, entry.change
    row = change.says | {"finished_at": timestamp(about) if change.ends else None, "last_seq": entry.leaf.seq}
    if change.completes:
        return row
    return row | {
        "session_id": text_column(about.session_id, 64),
        "gateway": text_column(entry.item.gateway, 64),
        "at": timestamp(about),
        "first_seq": entry.leaf.seq,
    }


def _worked_out(kind: str, body: Mapping[str, Json]) -> Change:
    says = CHANGES[kind](body)
    return Change(
        says=says,
        ends=kind in ("statement.denied", "statement.completed"),
        completes=kind == "statement.completed",
        plain=says.keys() & set(OUTCOME) == {"status"},
        opens=kind == "statement.authorised" and not body.get("review"),
    )


def _started(status: str) -> Callable[[Mapping[str, Any]], Row]:
    def change(body: Mapping[str, Any]) -> Row:
        row: Row = {name: text_column(body[name], size) for name, size in TEXT.items() if name in body}
        row |= {name: body[name] for name in (*JSON, *NUMBERS) if name in body}
        if "complete" in body:
            row["complete"] = bool(body["complete"])
        return row | {"touched": words_of(body), "status": status}

    return change


def _outcome(body: Mapping[str, Any]) -> Row:
    row: Row = {name: text_column(body.get(name), TEXT[name]) for name in ("recording", "error", "command_tag")}
    return row | {
        "status": text_column(body.get("status"), 16),
        "rows": body.get("rows", 0),
        "bytes": body.get("bytes", 0),
        "masked": body.get("masked", []),
        "subjects": body.get("subjects", []),
        "shown": body.get("shown", []),
    }


CHANGES: Mapping[str, Callable[[Mapping[str, Any]], Row]] = {
    "statement.held": _started("held"),
    "statement.authorised": _started("running"),
    "statement.denied": _started("denied"),
    "statement.completed": _outcome,
}


_QUOTE = json.encoder.encode_basestring_ascii


def _members(row: Row) -> str:
    return json_column(row)[1:-1]


def _cells(row: Row, names: Sequence[str]) -> bytes:
    return b"".join(_cell(name, row[name]) for name in names)


def _cell(name: str, value: Any) -> bytes:
    if name in JSON:
        return copy_rows.jsonb(json_column(value))
    if name in NUMBERS:
        return copy_rows.int4(value) if name == "risk" else copy_rows.int8(value)
    if name == "complete":
        return copy_rows.boolean(value)
    return copy_rows.text_array(value) if name == "touched" else copy_rows.text(value)


def timestamp(entry: Entry) -> str:
    """The moment of an entry as PostgreSQL reads it."""
    return (_EPOCH + timedelta(microseconds=entry.at_us)).isoformat(" ")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
