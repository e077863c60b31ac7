"""The offline verifier: a bundle and a public key, neither Django nor a database: `python -m audit.domain.verify`.

A bundle is JSON lines: a header, the checkpoints, what the exporter itself found wrong, the entries in order, disclosed
recordings, and an end line with the digest of everything before it, signed (docs/evidence-bundle.md). The verifier
believes none of it: it hashes every entry, follows the chain, rebuilds the tree (or checks inclusion proofs, in a
bundle of a part), and compares the roots with checkpoints signed by the given key.

Exit codes: 0 intact · 1 tampered (the first bad place and its kind are printed) · 2 intact as far as it goes, but
no checkpoint covers the newest entries or the bundle is not sealed, so that a cut tail would not show · 3 unusable
(not a bundle, a bad key).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from audit.domain.commitment import Disclosure, StreamDigest
from audit.domain.findings import Finding, Place, read_place
from audit.domain.merkle import GENESIS, Frontier, leaf_hash, verify_consistency, verify_inclusion
from audit.domain.note import (
    Checkpoint,
    NoteProblem,
    UnknownKey,
    Verifier,
    open_checkpoint,
    open_note,
    split_notes,
)

BUNDLE_TYPE = "hoopweb-bundle"
BUNDLE_VERSION = 1


class Verdict(IntEnum):
    INTACT = 0
    TAMPERED = 1
    UNANCHORED = 2
    UNUSABLE = 3


class Unusable(ValueError):
    """The input is not something that could be verified."""


@dataclass(frozen=True, slots=True)
class Report:
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    entries: int = 0
    checkpoints: int = 0
    covered: int = 0  # entries up to here are under a signed checkpoint
    signed_at_s: int | None = None
    absent: int = 0
    sealed: bool = False


@dataclass(slots=True)
class _Walk:
    """Where the reading of a bundle stands."""

    keys: Sequence[Verifier]
    header: Mapping[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    reported: list[Finding] = field(default_factory=list)  # by the exporter
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    proofs: dict[int, list[bytes]] = field(default_factory=dict)
    entries: int = 0
    last: int = 0
    prev: bytes = GENESIS
    frontier: Frontier = field(default_factory=Frontier)
    recordings: set[str] = field(default_factory=set)  # named by entries
    streams: dict[str, StreamDigest] = field(default_factory=dict)
    displaced: list[tuple[int, int]] = field(default_factory=list)  # (stored place, own place) from the first bad entry
    absent: int = 0  # recordings the exporter no longer has
    ended: bool = False
    sealed: bool = False

    @property
    def whole(self) -> bool:
        return bool(self.header["scope"].get("kind") == "all")

    @property
    def unbroken(self) -> bool:
        """Whether the entries must follow one another without a hole."""
        return bool(self.header["scope"].get("kind") != "session")

    def bad(self, seq: int, kind: str, detail: str) -> None:
        self.findings.append(Finding(seq, kind, detail))


def verify_bundle(path: Path, *, keys: Sequence[Verifier], anchor: Path | None = None) -> Report:
    """Return what the bundle proves. Raises Unusable."""
    if not keys:
        raise Unusable("no key was given, expected the log's verifier key")
    walk = _Walk(keys)
    digest = hashlib.sha256()
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            record = _record(line, number)
            if number == 1:
                _read_header(walk, record)
                _read_anchor(walk, anchor)
            elif walk.ended:
                walk.bad(0, "bundle-edited", f"line {number} stands after the bundle's end")
            elif record is None:
                walk.bad(walk.last + 1, "bundle-edited", f"line {number} is not a record")
            elif record.get("type") == "end":
                _read_end(walk, record, number, digest.digest())
            else:
                _read(walk, record)
            digest.update(line)
    if not walk.header:
        raise Unusable("the file is empty, expected a bundle")
    return _conclude(walk)


# --- reading -------------------------------------------------------------------------------------------------------


def _read_header(walk: _Walk, record: Mapping[str, Any] | None) -> None:
    if record is None or record.get("type") != BUNDLE_TYPE:
        raise Unusable("not an evidence bundle")
    if record.get("version") != BUNDLE_VERSION:
        raise Unusable(f"bundle version is {record.get('version')!r}, expected {BUNDLE_VERSION}")
    if not isinstance(record.get("scope"), dict) or not isinstance(record.get("size"), int):
        raise Unusable("the bundle's header states no scope or size")
    walk.header = record


def _read_anchor(walk: _Walk, anchor: Path | None) -> None:
    """Checkpoints held by whoever verifies: the ones that count most."""
    if anchor is None:
        return
    try:
        notes = split_notes(anchor.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"the anchor file cannot be read: {type(error).__name__}") from None
    known = 0
    for note in notes:
        try:
            _add_checkpoint(walk, open_checkpoint(note, walk.keys))
            known += 1
        except UnknownKey:
            continue  # of another log, or from before a key rotation; give that key too
        except NoteProblem as error:
            known += 1
            walk.bad(0, "anchor-forged", str(error))
    if not known:
        raise Unusable("the anchor file holds no checkpoint of the given key")


def _read(walk: _Walk, record: Mapping[str, Any]) -> None:
    reader = _READERS.get(str(record.get("type")))
    if reader is None:
        walk.bad(0, "bundle-edited", f"unknown record {record.get('type')!r}")
        return
    try:
        reader(walk, record)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        walk.bad(walk.last + 1, "bundle-edited", f"malformed {record['type']} record")


def _read_checkpoint(walk: _Walk, record: Mapping[str, Any]) -> None:
    try:
        checkpoint = open_checkpoint(record["note"], walk.keys)
    except UnknownKey as error:
        walk.bad(0, "key-swapped", f"a checkpoint is {error}")
        return
    except NoteProblem as error:
        walk.bad(0, "checkpoint-forged", str(error))
        return
    _add_checkpoint(walk, checkpoint)
    if record.get("proof") is not None:
        walk.proofs[checkpoint.size] = [bytes.fromhex(node) for node in record["proof"]]


def _add_checkpoint(walk: _Walk, checkpoint: Checkpoint) -> None:
    known = walk.checkpoints.get(checkpoint.size)
    if known is not None and known.root != checkpoint.root:
        walk.bad(checkpoint.size, "forked", "two signed checkpoints of this size have different roots")
    elif known is None or (known.time_s or 0) <= (checkpoint.time_s or 0):
        walk.checkpoints[checkpoint.size] = checkpoint


def _read_problem(walk: _Walk, record: Mapping[str, Any]) -> None:
    walk.reported.append(Finding(int(record["seq"]), str(record["kind"]), str(record["detail"])))


def _read_entry(walk: _Walk, record: Mapping[str, Any]) -> None:
    canonical = base64.b64decode(record["base64"]) if "base64" in record else record["entry"].encode()
    place, seq = read_place(canonical), int(record["seq"])
    walk.entries += 1
    if walk.displaced:
        walk.displaced.append((seq, place.seq if place else 0))
        return
    hashed = leaf_hash(canonical)
    finding = _entry_finding(walk, seq, place, hashed, bytes.fromhex(record["leaf"]))
    if finding is None and not walk.whole:
        finding = _inclusion_finding(walk, record, seq, hashed)
    if finding is not None:
        walk.findings.append(finding)
        walk.displaced.append((seq, place.seq if place else 0))
        return
    assert place is not None
    walk.last, walk.prev = seq, hashed
    if walk.whole:
        walk.frontier = walk.frontier.extend([hashed])
        _compare_root(walk)
    _read_text(walk, record, seq, place)
    if place.recording:
        walk.recordings.add(place.recording)


def _entry_finding(walk: _Walk, seq: int, place: Place | None, hashed: bytes, stored: bytes) -> Finding | None:
    finding = _place_finding(walk, seq, place, hashed, stored)
    if finding is not None or place is None:
        return finding
    if (walk.whole or (walk.unbroken and walk.last)) and place.prev != walk.prev:
        return Finding(max(1, seq - 1), "rewritten", f"entry {seq} was written after another entry than this one")
    if not walk.unbroken and place.session != walk.header["scope"].get("session"):
        return Finding(seq, "inserted", "the entry belongs to another session")
    return None


def _place_finding(walk: _Walk, seq: int, place: Place | None, hashed: bytes, stored: bytes) -> Finding | None:
    expected = walk.last + 1 if walk.whole or (walk.unbroken and walk.last) else max(seq, walk.last + 1)
    if seq != expected:
        kind = "deleted" if seq > expected else "inserted"
        return Finding(expected, kind, f"expected entry {expected}, found entry {seq}")
    if place is None:
        return Finding(seq, "edited", "not an entry of the log")
    if hashed != stored:
        kind = "edited" if place.seq == seq else "reordered"
        return Finding(seq, kind, "the entry does not have the hash it was stored with")
    if place.seq != seq:
        # Everything before was in order, so an earlier entry here is a second copy of it.
        kind = "reordered" if place.seq > seq else "inserted"
        return Finding(seq, kind, f"entry {place.seq} stands at place {seq}")
    return None


def _inclusion_finding(walk: _Walk, record: Mapping[str, Any], seq: int, hashed: bytes) -> Finding | None:
    size = int(walk.header["size"])
    checkpoint = walk.checkpoints.get(size)
    proof = record.get("proof")
    if checkpoint is None or proof is None:
        return None  # nothing covers it: the conclusion says so
    path = [bytes.fromhex(node) for node in proof]
    if verify_inclusion(leaf=hashed, index=seq - 1, size=size, proof=path, root=checkpoint.root):
        return None
    return Finding(seq, "edited", f"the entry is not in the log signed with {size} entries")


def _compare_root(walk: _Walk) -> None:
    checkpoint = walk.checkpoints.get(walk.last)
    if checkpoint is not None and checkpoint.root != walk.frontier.root:
        before = max((size for size in walk.checkpoints if size < walk.last), default=0)
        detail = f"entries {before + 1} to {walk.last} are not the ones signed in the checkpoint of {walk.last}"
        walk.bad(before + 1, "rewritten", detail)
        del walk.checkpoints[walk.last]


def _read_text(walk: _Walk, record: Mapping[str, Any], seq: int, place: Place) -> None:
    if "text" in record:
        disclosed = Disclosure(record["text"].encode(), bytes.fromhex(record["salt"]))
        if disclosed.commitment != place.commitment:
            walk.bad(seq, "text-edited", "the disclosed text is not the one this entry commits to")
    elif walk.header.get("with_text") and place.commitment:
        walk.bad(seq, "text-missing", "the text of this entry is not disclosed")


def _read_recording(walk: _Walk, record: Mapping[str, Any]) -> None:
    digest = str(record["digest"])
    if digest not in walk.recordings:
        walk.bad(0, "inserted", "a recording that no entry names")
    walk.streams[digest] = StreamDigest(bytes.fromhex(record["salt"]))


def _read_chunk(walk: _Walk, record: Mapping[str, Any]) -> None:
    walk.streams[str(record["digest"])].update(base64.b64decode(record["data"], validate=True))


def _read_absent(walk: _Walk, record: Mapping[str, Any]) -> None:
    walk.absent += 1


_READERS = {
    "checkpoint": _read_checkpoint,
    "problem": _read_problem,
    "entry": _read_entry,
    "recording": _read_recording,
    "absent": _read_absent,
    "chunk": _read_chunk,
}


def _read_end(walk: _Walk, record: Mapping[str, Any], number: int, digest: bytes) -> None:
    """The seal: the exporter's signature over everything before it. A bundle of a damaged log has none."""
    walk.ended = True
    seal = record.get("seal")
    if seal is None:
        return
    try:
        text = open_note(str(seal), walk.keys)
    except NoteProblem as error:
        walk.bad(0, "bundle-edited", f"the bundle's seal is not of the given key: {error}")
        return
    if text != seal_text(origin=str(walk.header.get("origin")), lines=number - 1, digest=digest):
        walk.bad(0, "bundle-edited", "the bundle is not the one that was sealed")
    walk.sealed = True


def seal_text(*, origin: str, lines: int, digest: bytes) -> str:
    """What the exporter signs. Not a checkpoint: its first line is no origin of a log."""
    return f"{origin}/bundle\n{lines}\n{base64.b64encode(digest).decode()}\n"


# --- concluding ----------------------------------------------------------------------------------------------------


def _conclude(walk: _Walk) -> Report:
    _check_ending(walk)
    _check_consistency(walk)
    for digest, stream in walk.streams.items():
        if stream.name != digest:
            walk.bad(0, "recording-edited", f"recording {digest[:24]}… is not the one the log names")
    findings = _ordered(walk)
    covered = max((size for size in walk.checkpoints if walk.whole or size == walk.header["size"]), default=0)
    newest = walk.checkpoints.get(covered)
    if findings:
        verdict = Verdict.TAMPERED
    elif covered < walk.last or not walk.checkpoints or not walk.sealed:
        verdict = Verdict.UNANCHORED
    else:
        verdict = Verdict.INTACT
    return Report(
        verdict=verdict,
        findings=findings,
        entries=walk.entries,
        checkpoints=len(walk.checkpoints),
        covered=covered,
        signed_at_s=newest.time_s if newest else None,
        absent=walk.absent,
        sealed=walk.sealed,
    )


def _check_ending(walk: _Walk) -> None:
    """Whether as much is there as was stated: by the header, by the checkpoints, by the end line."""
    size, stated = int(walk.header["size"]), walk.header.get("entries")
    largest = max(walk.checkpoints, default=0)
    reached = walk.last if walk.whole else size
    if not walk.displaced and largest > reached:
        walk.bad(reached + 1, "truncated", f"a signed checkpoint has {largest} entries, the log ends at {reached}")
    elif walk.whole and not walk.displaced and walk.last < size:
        walk.bad(walk.last + 1, "truncated", f"the log states {size} entries, the bundle ends at {walk.last}")
    elif walk.whole and not walk.displaced and walk.last > size:
        walk.bad(size + 1, "inserted", f"the log states {size} entries, the bundle goes on to {walk.last}")
    elif isinstance(stated, int) and walk.entries != stated:
        walk.bad(walk.last + 1, "bundle-edited", f"the bundle has {walk.entries} entries, its header states {stated}")
    head = walk.header.get("head")
    if walk.whole and not walk.displaced and walk.last == size and isinstance(head, str) and head != walk.prev.hex():
        walk.bad(max(1, size), "rewritten", "the newest entry is not the one the log states")
    if not walk.ended:
        walk.bad(0, "bundle-edited", "the bundle has no end: it was cut")


def _check_consistency(walk: _Walk) -> None:
    """In a bundle of a part, other checkpoints must be prefixes of the one the proofs lead to."""
    if walk.whole:
        return
    size = int(walk.header["size"])
    newest = walk.checkpoints.get(size)
    for checkpoint in walk.checkpoints.values():
        proof = walk.proofs.get(checkpoint.size)
        if newest is None or proof is None or not 0 < checkpoint.size < size:
            continue
        if not verify_consistency(
            first=checkpoint.size, second=size, first_root=checkpoint.root, second_root=newest.root, proof=proof
        ):
            walk.bad(checkpoint.size, "forked", "a signed checkpoint is not a beginning of the newest one")


def _ordered(walk: _Walk) -> tuple[Finding, ...]:
    """The first place first; a hole is called a move when the missing entry turns up elsewhere."""
    own = {place for _, place in walk.displaced}
    findings = []
    for finding in walk.findings:
        moved = finding.kind == "deleted" and finding.seq in own
        stays = finding.kind == "reordered" and walk.displaced and finding.seq not in own
        kind = "reordered" if moved else "deleted" if stays and _shifted(walk) else finding.kind
        findings.append(Finding(finding.seq, kind, finding.detail))
    located = sorted((f for f in findings if f.seq), key=lambda finding: finding.seq)
    reported = sorted((f for f in walk.reported), key=lambda finding: finding.seq or 1 << 62)
    return (*located, *reported, *(f for f in findings if not f.seq))


def _shifted(walk: _Walk) -> bool:
    """Everything from the first bad entry on stands one or more places too early: something before it was removed."""
    return (
        len({place - stored for stored, place in walk.displaced}) == 1 and walk.displaced[0][1] > walk.displaced[0][0]
    )


# --- input and output ----------------------------------------------------------------------------------------------


class _opened:
    """The lines of a file as bytes; Unusable when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Iterator[bytes]:
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise Unusable(f"the bundle cannot be read: {error.strerror}") from None
        return iter(self._file)

    def __exit__(self, *problem: object) -> None:
        self._file.close()


def _record(line: bytes, number: int) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        if number == 1:
            raise Unusable("not an evidence bundle") from None
        return None
    return record if isinstance(record, dict) else None


def describe(report: Report) -> list[str]:
    """The report in lines a person reads."""
    if report.verdict is Verdict.TAMPERED:
        first, *others = report.findings
        lines = [f"TAMPERED: {first}"]
        return [*lines, *(f"also: {finding}" for finding in others[:20])]
    counted = f"{report.entries} entries, {report.checkpoints} checkpoints"
    if report.verdict is Verdict.UNANCHORED:
        why = "" if report.sealed else ", and the bundle is not sealed"
        return [f"intact but unanchored: {counted}; tail not provable: signed up to entry {report.covered}{why}"]
    when = f" at Unix time {report.signed_at_s}" if report.signed_at_s else ""
    absent = f"; {report.absent} recordings named by entries are not in the bundle" if report.absent else ""
    return [f"intact: {counted}; signed up to entry {report.covered}{when}{absent}"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="audit_verify", description="Verify an evidence bundle offline.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", required=True, action="append", help="the log's verifier key; repeat after a rotation")
    parser.add_argument("--anchor", type=Path, help="a file of checkpoints you hold yourself")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(Verdict.UNUSABLE) if stop.code else 0
    try:
        keys = [Verifier.parse(key) for key in options.key]
        report = verify_bundle(options.bundle, keys=keys, anchor=options.anchor)
    except (Unusable, NoteProblem) as error:
        print(f"unusable: {error}")
        return int(Verdict.UNUSABLE)
    print("\n".join(describe(report)))
    return int(report.verdict)


if __name__ == "__main__":
    sys.exit(main())
