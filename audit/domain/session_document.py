"""A session as one document: what the replay page shows and what a download holds. Reading it is recorded."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from audit.domain.append import append_entries
from audit.domain.box import SealProblem
from audit.domain.csvcells import csv_cell
from audit.domain.entry import Entry, Json
from audit.domain.reading import StatementText, open_texts
from audit.domain.recordings import read_recording
from audit.domain.replay import ReplayProblem, read_page
from audit.models import Recording, SessionRecord, StatementRecord

PAGE_STATEMENTS = 200
DOWNLOAD_STATEMENTS = 5_000
DOWNLOAD_ROWS = 1_000  # of each result; a document says where it stops
FORMATS = ("json", "csv", "html")
_CSV_COLUMNS = (
    "at", "finished_at", "id", "kind", "status", "decision", "rule", "code", "review", "approvers", "tables_read",
    "tables_written", "columns_read", "classes", "rows", "bytes", "masked", "error", "command_tag", "recording",
    "first_seq", "last_seq", "statement",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StatementPage:
    statements: tuple[StatementRecord, ...]
    after: str  # where the next page begins, empty on the last


def statements_of(session: SessionRecord, *, after: str = "", limit: int = PAGE_STATEMENTS) -> StatementPage:
    """Statements in the order they were sent. `after` is an `at,id` pair of an earlier page; nonsense is the start."""
    rows = StatementRecord.objects.filter(session_id=session.pk)
    place = _place(after)
    if place is not None:
        rows = rows.filter(Q(at__gt=place[0]) | Q(at=place[0], id__gt=place[1]))
    found = list(rows.order_by("at", "id")[: limit + 1])
    more = len(found) > limit
    shown = tuple(found[:limit])
    return StatementPage(shown, f"{shown[-1].at.isoformat()},{shown[-1].id}" if more else "")


def session_document(
    session: SessionRecord, *, viewer: str, format: str, with_text: bool, with_results: bool
) -> dict[str, Any]:
    """Everything known of a session, after recording that it leaves. Texts and results only as far as asked for."""
    body: dict[str, Json] = {
        "subject": viewer,
        "scope": {"kind": "session", "session": session.pk},
        "with_text": with_text,
        "with_results": with_results,
        "format": format,
        "connection": session.connection,
    }
    append_entries([Entry(kind="evidence.exported", session_id=session.pk, body=body)])
    page = statements_of(session, limit=DOWNLOAD_STATEMENTS)
    texts = open_texts(page.statements) if with_text else {}
    statements = [_statement(row, texts=texts.get(row.pk, ()), with_results=with_results) for row in page.statements]
    return {"session": fields_of(session), "statements": statements, "complete": not page.after}


def as_csv(document: Mapping[str, Any]) -> str:
    """One line a statement. Cells that a spreadsheet would take for a formula are quoted as text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_CSV_COLUMNS)
    for statement in document["statements"]:
        asked = " ; ".join(text["statement"] for text in statement.get("texts", ()))
        writer.writerow([csv_cell(asked if name == "statement" else statement[name]) for name in _CSV_COLUMNS])
    return out.getvalue()


def fields_of(row: SessionRecord | StatementRecord) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in row._meta.concrete_fields}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _statement(row: StatementRecord, *, texts: Sequence[StatementText], with_results: bool) -> dict[str, Any]:
    content = fields_of(row)
    if texts:
        content["texts"] = [
            {
                "entry": text.seq,
                "kind": text.kind,
                "statement": text.statement,
                "parameters": list(text.parameters),
                "justification": text.justification,
            }
            for text in texts
        ]
    if with_results and row.recording:
        content["result"] = _result(row)
    return content


def _result(row: StatementRecord) -> dict[str, Any]:
    recording = Recording.objects.filter(statement_id=row.pk, digest=row.recording).first()
    if recording is None:
        return {"problem": "the recording is not stored"}
    try:
        page = read_page(read_recording(recording), format=recording.format, limit=DOWNLOAD_ROWS)
    except (SealProblem, ReplayProblem) as problem:
        return {"problem": f"the recording cannot be shown: {problem}"}
    return {
        "columns": marked_columns(row, page.columns),
        "rows": [list(r) for r in page.rows],
        "complete": not page.more,
    }


def marked_columns(row: StatementRecord, columns: Sequence[Any]) -> list[dict[str, Any]]:
    """Each result column with what was done to it, in words; `mask` is None for one shown as stored."""
    masks = {str(mask.get("column")): mask for mask in row.masked}
    return [{"name": column.name, "mask": _mask(masks.get(column.name), row.rows)} for column in columns]


def _mask(mask: Mapping[str, Any] | None, rows: int) -> dict[str, Any] | None:
    count = int(mask.get("count", 0)) if mask is not None else 0
    if mask is None or not count:  # scanned, and nothing found
        return None
    told = f"{mask.get('technique')} by rule {mask.get('rule')}: {count} of {rows} values were changed on the way"
    return {"rule": mask.get("rule"), "technique": mask.get("technique"), "count": count, "why": told}


def _place(after: str) -> tuple[datetime, str] | None:
    moment, _, key = after.partition(",")
    try:
        return datetime.fromisoformat(moment), key
    except ValueError:
        return None
