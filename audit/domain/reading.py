"""Looking at evidence is itself evidence: every disclosure of a recorded text or result is an entry of the log."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from audit.domain.append import append_entries
from audit.domain.box import SealProblem
from audit.domain.chain import open_box
from audit.domain.entry import Entry, Json
from audit.domain.findings import read_place
from audit.domain.recordings import read_recording
from audit.domain.replay import Page, ReplayProblem, read_page
from audit.domain.sealing import evidence_sealer
from audit.domain.statement_entries import entries_about
from audit.models import Recording, SealedText, SessionRecord, StatementRecord


@dataclass(frozen=True, slots=True)
class StatementText:
    """What was asked. `parameters` are shown as text where they are valid UTF-8, else in hexadecimal."""

    seq: int
    kind: str
    statement: str
    parameters: tuple[str | None, ...]
    justification: str = ""  # what a reviewer wrote


def read_texts(*, statement: StatementRecord, viewer: str) -> list[StatementText]:
    """Return each recorded text of a statement (asked, authorised, modified), after recording who looks.

    Raises SealProblem when a text is altered.
    """
    _record_view(viewer=viewer, statement=statement, what="text")
    return open_texts([statement]).get(statement.id, [])


def read_session_texts(
    *, session: SessionRecord, statements: Sequence[StatementRecord], viewer: str
) -> dict[str, list[StatementText]]:
    """Return the recorded texts of a session's `statements`, a page of them, after recording who looks.

    Raises SealProblem.
    """
    body: dict[str, Json] = {
        "subject": viewer,
        "what": "texts",
        "connection": session.connection,
        "statements": [statement.pk for statement in statements],
    }
    append_entries([Entry(kind="evidence.viewed", session_id=session.pk, body=body)])
    return open_texts(statements)


def read_emergency_texts(
    *, emergency: str, connection: str, statements: Mapping[str, Collection[str]], viewer: str
) -> dict[str, list[StatementText]]:
    """Return the recorded texts of `statements` (ids by session) by statement, after recording who looks.

    For whoever reviews an emergency access, and no more of its sessions than ran under it. Raises SealProblem.
    """
    body: dict[str, Json] = {"subject": viewer, "what": "texts", "connection": connection, "emergency": emergency}
    append_entries(
        [
            Entry(kind="evidence.viewed", session_id=session, body={**body, "statements": sorted(ids)})
            for session, ids in statements.items()
        ]
    )
    texts: dict[str, list[StatementText]] = {}
    for session, ids in statements.items():
        texts |= open_texts(StatementRecord.objects.filter(session_id=session, pk__in=ids))
    return texts


def open_texts(statements: Collection[StatementRecord]) -> dict[str, list[StatementText]]:
    """Texts by statement, of statements of one session. Records nothing: the caller has.

    Raises SealProblem when one is altered.
    """
    found = entries_about(statements)
    rows = sorted(row for part in found for row in part.values_list("seq", "statement_id", "kind", "canonical"))
    boxes = dict(SealedText.objects.filter(seq__in=[row[0] for row in rows]).values_list("seq", "box"))
    texts: dict[str, list[StatementText]] = {}
    for seq, name, kind, canonical in rows:
        if seq in boxes:
            texts.setdefault(name, []).append(_opened(seq, kind, bytes(canonical), bytes(boxes[seq])))
    return texts


def read_result(*, statement: StatementRecord, viewer: str, offset: int, limit: int) -> Page:
    """Return a page of the masked result as the client saw it, after recording who looks.

    Raises SealProblem or ReplayProblem.
    """
    recording = Recording.objects.filter(statement_id=statement.id, digest=statement.recording).first()
    if recording is None:
        raise ReplayProblem("the recording is not stored")
    _record_view(viewer=viewer, statement=statement, what="result", offset=offset)
    return read_page(read_recording(recording), format=recording.format, offset=offset, limit=limit)


def _record_view(*, viewer: str, statement: StatementRecord, what: str, offset: int = 0) -> None:
    body: dict[str, Json] = {"subject": viewer, "what": what, "connection": statement.connection, "offset": offset}
    entry = Entry(kind="evidence.viewed", session_id=statement.session_id, statement_id=statement.id, body=body)
    append_entries([entry])


def _opened(seq: int, kind: str, canonical: bytes, box: bytes) -> StatementText:
    place = read_place(canonical)
    if place is None:
        raise SealProblem(f"entry {seq} is damaged")
    content = json.loads(open_box(box, commitment=place.commitment, sealer=evidence_sealer()).plaintext)
    parameters = tuple(None if value is None else _parameter(value) for value in content.get("parameters", ()))
    return StatementText(
        seq, kind, str(content.get("statement", "")), parameters, str(content.get("justification", ""))
    )


def _parameter(value: str) -> str:
    raw = bytes.fromhex(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"\\x{value}"
