"""Whether the stored log is still the one that was written: what is asked before anything is signed.

Nothing here repairs. A check walks the stored entries from a trusted point (the newest signed checkpoint, or the
beginning) and compares hashes, places, links and the tree with the log's state, its checkpoints and its anchors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import psycopg
from django.db import connection
from django.db.models import Max

from audit.domain.anchor import Anchored, anchored_now
from audit.domain.chain import Head
from audit.domain.contents import check_texts_and_columns
from audit.domain.findings import Finding, place_of, read_place, stands_behind
from audit.domain.following import Row, follow
from audit.domain.head import read_head
from audit.domain.keyring import KeyRing
from audit.domain.merkle import GENESIS, Frontier, leaf_hash
from audit.domain.note import Checkpoint as SignedCheckpoint
from audit.domain.note import NoteProblem
from audit.domain.stored_certificates import stored_certificates
from audit.domain.stored_restorations import disowned, stated_by, stored_restorations
from audit.models import Checkpoint, LogEntry, StatementRecord

_PAGE = 500  # entries: half a megabyte, read in less time than an event loop beside it would miss
_ENDLESS = 1 << 62
_NO_STATE = Finding(0, "state-edited", "the log's head is not the head of any log")


@dataclass(frozen=True, slots=True)
class StoredEntry:
    seq: int
    leaf: bytes
    prev: bytes
    canonical: bytes


def stored_entries(after: int = 0) -> Iterator[StoredEntry]:
    """Every stored entry past `after`, by stored place, a page at a time."""
    for page in stored_pages(after):
        yield from (StoredEntry(*row) for row in page)


def stored_pages(after: int = 0) -> Iterator[list[Row]]:
    """The same as rows, by pages. In the database's binary format: hexadecimal costs both sides more than hashing."""
    query = "SELECT seq, leaf, prev, canonical FROM audit_logentry WHERE seq > %s ORDER BY seq LIMIT %s"
    connection.ensure_connection()
    while True:
        # Django's own cursor cannot ask for the binary format.
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
            rows: list[Row] = cursor.execute(query, (after, _PAGE), binary=True).fetchall()
        if rows:
            yield rows
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def check_tail(keys: KeyRing) -> tuple[list[Finding], Head]:
    """Check what was written since the newest checkpoint, against it and the log's state. Cheap: for every signing."""
    newest = Checkpoint.objects.order_by("-id").first()
    start = Head(Frontier(), GENESIS)
    if newest is not None:
        try:
            signed = keys.checkpoint(newest.note)
            start = Head(Frontier.from_bytes(newest.size, bytes(newest.frontier)), bytes(newest.head))
        except (NoteProblem, ValueError) as error:
            return [Finding(0, "checkpoint-forged", str(error))], start
        if (signed.size, signed.root) != (start.size, start.frontier.root):
            return [Finding(newest.size, "checkpoint-forged", "its row differs from its note")], start
    claims = _claims(keys)
    try:
        stated = read_head()
    except ValueError:
        return [_NO_STATE], start
    findings, found = _walk(start, stated.size)
    findings += _against_state(found, stated)
    findings += _against_claims(claims, stated.size, keys)
    return findings, stated


def check_chain(keys: KeyRing, *, start: Head | None = None, anchors: bool = True) -> list[Finding]:
    """Check entries, their columns, checkpoints, anchors and sealed texts: what came after `start`.

    `anchors`: also against the checkpoints that were published (a restored log is first looked at without them).
    """
    begin = start or Head(Frontier(), GENESIS)
    claims = _claims(keys)
    try:
        stated = read_head()
    except ValueError:
        return [*_walk(begin, _ENDLESS)[0], _NO_STATE]
    after = begin.size or -1  # some are over no entries at all
    signed, forged = signed_checkpoints(keys, after=after)
    findings, found = _walk(begin, stated.size, {checkpoint.size: checkpoint.root for checkpoint, _ in signed})
    findings += _against_state(found, stated)
    findings += forged
    newest = _against_claims(claims, stated.size, keys, anchors=anchors)
    findings += newest
    if anchors and not newest:
        findings += _removed(claims, {note for _, note in signed}, keys, after=after)
    findings += stored_certificates(keys)[1]
    findings += check_texts_and_columns(stated.size, after=begin.size)
    return sorted(findings, key=lambda finding: finding.seq)


def checked_head(keys: KeyRing, *, size: int) -> Head | None:
    """The head at the newest checkpoint over at most `size` entries whose row is what was signed; None without one."""
    row = Checkpoint.objects.filter(size__lte=size).order_by("-size", "-id").first()
    if row is None:
        return None
    try:
        signed = keys.checkpoint(row.note)
        head = Head(Frontier.from_bytes(row.size, bytes(row.frontier)), bytes(row.head))
    except (NoteProblem, ValueError):
        return None
    return head if (signed.size, signed.root) == (head.size, head.frontier.root) else None


def roots_at(sizes: Collection[int]) -> dict[int, bytes]:
    """The tree's root over each of `sizes` first entries, as far as the log goes, from the stored leaves."""
    found: dict[int, bytes] = {}
    frontier, leaves, last = Frontier(), [], max(sizes, default=0)
    for entry in stored_entries():
        if entry.seq > last:
            break
        leaves.append(entry.leaf)
        if entry.seq in sizes:
            frontier, leaves = frontier.extend(leaves), []
            found[entry.seq] = frontier.root
    return found


def signed_checkpoints(keys: KeyRing, *, after: int = -1) -> tuple[list[tuple[SignedCheckpoint, str]], list[Finding]]:
    """The stored checkpoints over more than `after` entries that verify, oldest first; what is wrong with the others.

    One is signed every minute, for years: looking at all of them is for a check of all.
    """
    good: list[tuple[SignedCheckpoint, str]] = []
    findings: list[Finding] = []
    rows = Checkpoint.objects.filter(size__gt=after).order_by("id")
    for size, root, note in rows.values_list("size", "root", "note"):
        try:
            signed = keys.checkpoint(note)
        except NoteProblem as error:
            findings.append(Finding(size, "checkpoint-forged", str(error)))
            continue
        good.append((signed, note))
        if (signed.size, signed.root) != (size, bytes(root)):
            findings.append(Finding(signed.size, "checkpoint-forged", "its row differs from its note"))
    return good, findings


@dataclass(frozen=True, slots=True)
class _Claims:
    """What others say the log holds. Read before its state: what is appended meanwhile is then no contradiction."""

    anchors: Anchored
    newest_recorded: int


def _claims(keys: KeyRing) -> _Claims:
    recorded = StatementRecord.objects.aggregate(newest=Max("last_seq"))["newest"] or 0
    return _Claims(anchored_now(keys.keys[0].name), recorded)


def _walk(start: Head, size: int, roots: Mapping[int, bytes] | None = None) -> tuple[list[Finding], Head]:
    """Follow the chain from `start` to `size`; stop at the first entry that is not what was written."""
    head, signed = start, roots or {}
    for page in stored_pages(start.size):
        rows = [row for row in page if row[0] <= size]
        at = 0
        while at < len(rows):
            stop = next((stop for stop in range(at + 1, len(rows)) if rows[stop - 1][0] in signed), len(rows))
            taken, head = follow(rows[at:stop], head)
            at += taken
            if at < stop:
                entry = StoredEntry(*rows[at])
                problem = _entry_problem(entry, head.size + 1, head.leaf)
                if problem is not None:
                    return [problem], head
                head = Head(head.frontier.extend([entry.leaf]), entry.leaf)
                at += 1
            if signed.get(head.size, head.frontier.root) != head.frontier.root:
                detail = "the entries up to here have another root than their checkpoint"
                return [Finding(head.size, "rewritten", detail)], head
        if len(rows) < len(page):
            break
    return [], head


def _entry_problem(entry: StoredEntry, expected: int, prev: bytes) -> Finding | None:
    if entry.seq != expected:
        return Finding(expected, "deleted", f"entry {expected} is missing, the next one stored is {entry.seq}")
    if stands_behind(entry.canonical, seq=expected, prev=prev) and leaf_hash(entry.canonical) == entry.leaf:
        return None if entry.prev == prev else _rewritten(expected)
    place = read_place(entry.canonical)
    if leaf_hash(entry.canonical) != entry.leaf:
        kind = "edited" if place_of(place) in (None, expected) else "reordered"
        return Finding(expected, kind, "the entry does not have the hash it was stored with")
    if place is None or place.seq != expected:
        kind = "inserted" if place is not None and place.seq < expected else "reordered"
        return Finding(expected, kind, f"entry {place_of(place)} stands at place {expected}")
    if place.prev != prev or entry.prev != prev:
        return _rewritten(expected)
    return None


def _rewritten(expected: int) -> Finding:
    return Finding(max(1, expected - 1), "rewritten", f"entry {expected} was written after another entry")


def _against_state(found: Head, stated: Head) -> list[Finding]:
    if found.size < stated.size:
        return [Finding(found.size + 1, "truncated", f"the log states {stated.size} entries, {found.size} follow on")]
    if found.frontier != stated.frontier or found.leaf != stated.leaf:
        return [Finding(stated.size, "rewritten", "the entries are not the ones the log's head was computed from")]
    beyond = LogEntry.objects.filter(seq__gt=stated.size).order_by("seq").values_list("seq", flat=True).first()
    # Entries written since the state was read have moved it on; only a state that stayed put has strangers beyond it.
    if beyond is not None and read_head().size < beyond:
        return [Finding(beyond, "inserted", f"stored beyond the log's {stated.size} entries")]
    return []


def _against_claims(claims: _Claims, size: int, keys: KeyRing, *, anchors: bool = True) -> list[Finding]:
    """The log may not be shorter than its newest anchor or record says, nor the database lack that anchor.

    Exactly those anchors are passed over that a restoration in the log disowns (docs/decisions/0050), and all of them
    without `anchors`.
    """
    restorations, forged = stored_restorations(keys)
    if claims.newest_recorded > size:
        detail = f"a statement's record names entry {claims.newest_recorded}, the log has {size}"
        return [*forged, Finding(size + 1, "truncated", detail)]
    if not anchors:
        return forged
    given_up = disowned(restorations)
    note = next((note for note in claims.anchors.newest_first() if stated_by(note) not in given_up), None)
    return [*forged, *(_against_anchor(note, size, keys) if note is not None else [])]


def _removed(claims: _Claims, stored: Collection[str], keys: KeyRing, *, after: int) -> list[Finding]:
    """The first anchored checkpoint that is not among the stored ones: all of them were stored before.

    Of those over more than `after` entries, which is as far back as `stored` goes.
    """
    given_up, first = disowned(stored_restorations(keys)[0]), None
    for note in claims.anchors.newest_first():
        stated = stated_by(note)
        if stated is not None and stated[0] <= after:
            break
        if stated is not None and note not in stored and stated not in given_up:
            first = stated
    if first is None:
        return []
    return [Finding(first[0], "checkpoint-missing", "anchored, and not among the stored checkpoints")]


def _against_anchor(note: str, size: int, keys: KeyRing) -> list[Finding]:
    try:
        anchor = keys.checkpoint(note)
    except NoteProblem as error:
        return [Finding(0, "anchor-forged", str(error))]
    if anchor.size > size:
        return [Finding(size + 1, "truncated", f"an anchor states {anchor.size} entries, the log has {size}")]
    stored = Checkpoint.objects.filter(size=anchor.size)
    if not any(bytes(row.root) == anchor.root for row in stored):
        return [Finding(anchor.size, "checkpoint-missing", "anchored, and not among the stored checkpoints")]
    return []
