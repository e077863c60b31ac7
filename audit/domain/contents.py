"""Whether what the log commits to is still stored: sealed texts, recordings, and the columns that repeat a leaf."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from audit.domain.box import SealProblem
from audit.domain.certificates import RECORDINGS, certified_entry
from audit.domain.chain import open_box
from audit.domain.columns import text_column
from audit.domain.entry import now_us
from audit.domain.findings import Finding, Place, read_place
from audit.domain.purges import certificates
from audit.domain.recordings import check_recording
from audit.domain.sealing import evidence_sealer
from audit.models import LogEntry, Recording, SealedText

_PAGE = 2_000
# A recording is named by its entry a moment before its bytes are on disk (audit.recording_sink).
SETTLING_S = 120


@dataclass(frozen=True, slots=True)
class RecordingCounts:
    """Recordings the log names: stored and as named; known to be lost in a crash; purged; too young to be asked for."""

    named: int = 0
    intact: int = 0
    lost: int = 0
    purged: int = 0  # past their retention, and a certificate in the log says so
    settling: int = 0
    up_to: int = 0  # the newest entry that was looked at


@dataclass(frozen=True, slots=True)
class _Stored:
    seq: int
    place: Place | None
    content: Mapping[str, Any]
    columns: tuple[str, str, str, str, str]
    at: datetime
    canonical: bytes


def check_texts_and_columns(size: int, *, after: int = 0) -> list[Finding]:
    """The first sealed text that is gone or altered, and the first entry whose columns differ from its leaf.

    A text that a purge's certificate covers may be gone; one that is still there is checked all the same.
    """
    texts: list[Finding] = []
    columns: list[Finding] = []
    purges = certificates()
    for page in _pages(size, after):
        seqs = (page[0].seq, page[-1].seq)
        sealed = () if texts else SealedText.objects.filter(seq__range=seqs).values_list("seq", "box")
        boxes = {seq: bytes(box) for seq, box in sealed}
        for entry in page:
            commitment = entry.place.commitment if entry.place is not None else b""
            gone = entry.seq not in boxes and certified_entry(purges, canonical=entry.canonical)
            if not texts and commitment and not gone:
                texts += _text_findings(entry.seq, commitment, boxes.get(entry.seq))
            if not columns:
                columns += _column_findings(entry)
        if texts and columns:
            break
    return [*texts, *columns]


def check_recordings(size: int, *, after: int = 0) -> tuple[list[Finding], RecordingCounts]:
    """Open every recording the log names and compare it with its digest. Reads all of them."""
    named = lost = purged = intact = settling = 0
    purges = certificates()
    missing: list[tuple[int, str]] = []
    findings: list[Finding] = []
    acknowledged: set[str] = set()
    young_us = now_us() - SETTLING_S * 1_000_000
    for page in _pages(size, after):
        for entry in page:
            if entry.place is None or not entry.place.recording:
                continue
            if not entry.place.names_recording:
                acknowledged.add(entry.place.recording)
                continue
            named += 1
            problem = _recording_problem(entry.place.recording, statement=entry.columns[2])
            if problem is None:
                intact += 1
            elif problem == _GONE and certified_entry(purges, canonical=entry.canonical, record_class=RECORDINGS):
                purged += 1
            elif problem == _GONE and int(entry.content.get("at_us", 0)) > young_us:
                settling += 1
            elif problem == _GONE:
                missing.append((entry.seq, entry.place.recording))
            else:
                findings.append(Finding(entry.seq, "recording-edited", problem))
    for seq, digest in missing:
        if digest in acknowledged:
            lost += 1
        else:
            findings.append(Finding(seq, "recording-missing", "the recording this entry names is not stored"))
    return sorted(findings, key=lambda finding: finding.seq), RecordingCounts(
        named, intact, lost, purged, settling, size
    )


_GONE = "not stored"


def _recording_problem(digest: str, *, statement: str) -> str | None:
    # Several results may be equal only in content: the salt makes every digest its recording's own. Pages look it up by
    # its statement as well: one that was put under another is as good as gone there.
    recording = Recording.objects.filter(digest=digest).order_by("pk").first()
    if recording is None:
        return _GONE
    if recording.statement_id != statement or Recording.objects.filter(digest=digest).count() > 1:
        return "the recording does not stand under this statement alone"
    try:
        check_recording(recording)
    except SealProblem as problem:
        return str(problem)
    return None


def _text_findings(seq: int, commitment: bytes, box: bytes | None) -> list[Finding]:
    if box is None:
        return [Finding(seq, "text-missing", "the sealed text of this entry is gone")]
    try:
        opened = open_box(box, commitment=commitment, sealer=evidence_sealer())
    except SealProblem as problem:
        return [Finding(seq, "text-edited", str(problem))]
    if opened.commitment != commitment:
        return [Finding(seq, "text-edited", "not the text the entry commits to")]
    return []


def _column_findings(entry: _Stored) -> list[Finding]:
    """The browsing columns repeat the leaf; somebody who edits them alone would mislead a search, not a verifier."""
    if entry.place is None:
        return []  # the chain's check names it
    content, body = entry.content, entry.content["body"]
    told = (
        str(content["kind"])[:64],
        text_column(content["session"], 64),
        text_column(content["statement"], 64),
        text_column(body.get("subject"), 256),
        text_column(body.get("connection"), 128),
    )
    at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(content["at_us"]))
    if told != entry.columns or abs(at - entry.at) > timedelta(milliseconds=1):
        return [Finding(entry.seq, "columns-edited", "the columns beside the leaf do not repeat what it says")]
    return []


def _pages(size: int, after: int = 0) -> Iterator[list[_Stored]]:
    while after < size:
        rows = list(
            LogEntry.objects.filter(seq__gt=after, seq__lte=size)
            .order_by("seq")
            .values_list("seq", "canonical", "kind", "session_id", "statement_id", "subject", "connection", "at")[
                :_PAGE
            ]
        )
        if not rows:
            return
        yield [_stored(row) for row in rows]
        after = rows[-1][0]


def _stored(row: tuple[Any, ...]) -> _Stored:
    seq, canonical, *columns, at = row
    place = read_place(bytes(canonical))
    content = json.loads(bytes(canonical)) if place is not None else {}
    kind, session, statement, subject, connection = columns
    return _Stored(seq, place, content, (kind, session, statement, subject, connection), at, bytes(canonical))
