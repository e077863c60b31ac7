"""Entries on their way through a journal: packed for it, unpacked from it, and taken in after a process has died."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from struct import Struct
from typing import Any

from django.db import connection

from audit.domain.append import DURABILITY, POSITION, JournalSpan, append_entries, append_prepared
from audit.domain.canonical import CanonicalBody, Draft
from audit.domain.chain import Prepared
from audit.domain.entry import Entry, Json
from audit.domain.journal import JournalCorrupt, Record, Tail, lock_intake, lock_journal, read_records, remove_journal
from audit.domain.sealing import evidence_sealer

logger = logging.getLogger(__name__)

PURPOSE = b"hoopweb journal chain v1"
DAMAGED = "damaged-"
_BATCH = 500
LENGTHS = Struct("!II")


def pack(prepared: Prepared) -> bytes:
    """The journal's record of an entry: its canonical text around its place in the log, and its sealed text."""
    head, tail = prepared.draft.head, prepared.draft.tail
    return LENGTHS.pack(len(head), len(tail)) + head + tail + prepared.box


def unpack(payload: bytes) -> Prepared:
    """What `pack` packed. The entry's sensitive text stays sealed."""
    return unpack_with(_READING, payload)


def unpack_with(reading: Reading, payload: bytes) -> Prepared:
    """`unpack`, with what was read before."""
    head, tail, box, at_us, body, around, session, statement = split_entry(payload)
    kind, gateway = reading.about(around)
    entry = Entry(
        kind, reading.body(body), reading.session(session), reading.string(statement), None, at_us, DURABILITY
    )
    return Prepared(entry, gateway, Draft(head, tail), box)


def split_entry(payload: bytes) -> tuple[bytes, bytes, bytes, int, bytes, bytes, bytes, bytes]:
    """A draft's head and tail, the box, the moment; then as text body, kind and gateway, session, statement.

    A draft is canonical (`canonical.draft`): no string holds a quote that is not escaped, so the last occurrence of a
    top-level member's name with its quotes is that member. Raises ValueError for what `pack` did not pack.
    """
    if len(payload) < LENGTHS.size:
        raise ValueError("no packed entry")
    head_size, tail_size = LENGTHS.unpack_from(payload)
    middle = LENGTHS.size + head_size
    end = middle + tail_size
    if end > len(payload):
        raise ValueError("no packed entry")
    head, tail = payload[LENGTHS.size : middle], payload[middle:end]
    start, stop = head.index(_BODY), head.rindex(_COMMITMENT)
    rest = head.index(b'"', stop + len(_COMMITMENT))  # behind the commitment, which is hexadecimal
    named = tail.rindex(_STATEMENT)
    return (
        head,
        tail,
        payload[end:],
        int(head[len(_MOMENT) : start]),
        head[start + len(_BODY) : stop],
        head[rest + 2 :],
        tail[: named + 1],
        tail[named + len(_STATEMENT) : tail.rindex(_VERSION)],
    )


split_entry_python, unpack_with_python = split_entry, unpack_with
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._intake import split_entry, unpack_with


class Reading:
    """Most bodies, and most of what is around them, come over and over: each is read once and kept."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Any] = {}

    def about(self, text: bytes) -> tuple[str, str]:
        """Kind and gateway."""
        found: tuple[str, str] = self._known(text, _kind_and_gateway)
        return found

    def body(self, text: bytes) -> CanonicalBody:
        found: CanonicalBody = self._known(text, _body)
        return found

    def session(self, text: bytes) -> str:
        return str(self._known(text, _session))

    def string(self, text: bytes) -> str:
        """One that comes once: a statement's."""
        return str(json.loads(text)) if b"\\" in text else text[1:-1].decode()

    def _known(self, text: bytes, read: Callable[[bytes], Any]) -> Any:
        found = self.kept.get(text)
        if found is None:
            found = read(text)
            if len(text) > _LONG:
                return found
            if len(self.kept) >= _MOST_KEPT:
                self.kept.clear()
            self.kept[text] = found
        return found


_MOMENT, _BODY, _COMMITMENT = b'{"at_us":', b',"body":', b',"commitment":"'
_STATEMENT, _VERSION = b',"statement":', b',"v":'
_LONG, _MOST_KEPT = 4_096, 4_096


def _body(text: bytes) -> CanonicalBody:
    return CanonicalBody(json.loads(text))


def _kind_and_gateway(text: bytes) -> tuple[str, str]:
    read = json.loads(b"{" + text.removesuffix(b',"prev":') + b"}")
    return read["kind"], read["gateway"]


def _session(text: bytes) -> str:
    return str(json.loads(b"{" + text[:-1] + b"}")["session"])


_READING = Reading()


def recover_journals(root: Path) -> int:
    """Take in what dead processes left in their journals. Returns how many entries.

    What an altered journal holds up to the altered place is taken in; then the log says so, and the files are set aside
    for whoever investigates.
    """
    if not root.is_dir():
        return 0
    left = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(DAMAGED)]
    return sum(_recover(directory) for directory in left)


def _recover(directory: Path) -> int:
    lock = lock_journal(directory)
    if lock is None:
        return 0  # its process lives
    intake = lock_intake(directory)
    journal_id, tail, problem = directory.name, Tail(), ""
    count, batch, known = 0, [], integrated(journal_id)
    try:
        try:
            for record in read_records(directory, key_for=journal_key, tail=tail):
                if record.end > known:
                    batch.append(record)
                if len(batch) == _BATCH:
                    count += _take_in(journal_id, batch)
                    batch = []
        except JournalCorrupt as corrupt:
            problem = str(corrupt)
        count += _take_in(journal_id, batch)
        if any(directory.glob("*.journal")):  # none: removed, as its process's start will show
            _report(journal_id, count=count, torn=tail.torn, problem=problem)
        if problem:
            directory.rename(directory.with_name(DAMAGED + journal_id))
        else:
            remove_journal(directory)
    finally:
        os.close(intake)
        os.close(lock)
    return count


def _report(journal_id: str, *, count: int, torn: int, problem: str) -> None:
    kind = "journal.damaged" if problem else "journal.recovered"
    body: dict[str, Json] = {"journal": journal_id, "entries": count, "torn_bytes": torn, "problem": problem}
    append_entries([Entry(kind=kind, body=body)])
    log = logger.critical if problem else logger.warning
    log("%s: journal=%s entries=%s torn=%s problem=%s", kind, journal_id, count, torn, problem or "none")


def _take_in(journal_id: str, batch: list[Record]) -> int:
    if batch:
        append_prepared([unpack(record.payload) for record in batch], span=span_of(journal_id, batch))
    return len(batch)


def span_of(journal_id: str, batch: Sequence[Record]) -> JournalSpan:
    """Where in its journal a batch of records, one behind the other, comes from."""
    return JournalSpan(journal_id, batch[0].start, batch[-1].end)


def journal_key(key_id: bytes) -> bytes | None:
    """The chain's key under one of this installation's evidence keys."""
    return evidence_sealer().subkey(PURPOSE, key_id)


def integrated(journal_id: str) -> int:
    """Up to which place of this journal the log has taken entries in."""
    with connection.cursor() as cursor:
        cursor.execute(POSITION, [journal_id])
        row = cursor.fetchone()
    return int(row[0]) if row else 0
