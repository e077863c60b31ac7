"""Reading a bundle record by record: every entry hashed, followed, proved; every finding noted. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.domain.bundle_format import BUNDLE_TYPE, BUNDLE_VERSION, seal_text
from audit.domain.certificates import KIND as PURGED
from audit.domain.certificates import RECORDINGS, certified_entry
from audit.domain.commitment import Disclosure, StreamDigest
from audit.domain.findings import Finding, Place, read_place
from audit.domain.keyring import chain_problem, open_rotation
from audit.domain.merkle import leaf_hash, verify_inclusion
from audit.domain.note import Checkpoint, NoteProblem, UnknownKey, parse_checkpoint, split_note, split_notes
from audit.domain.restoration import KIND as RESTORED
from audit.domain.verify_anchors import judge_anchor
from audit.domain.verify_purges import judge_certificate, read_declared_certificate
from audit.domain.verify_restorations import disowning, note_restored, trust_restorations
from audit.domain.verify_walk import MAX_FINDINGS, Unusable, Walk


def read_header(walk: Walk, record: Mapping[str, Any] | None) -> None:
    if record is None or record.get("type") != BUNDLE_TYPE:
        raise Unusable("not an evidence bundle")
    if record.get("version") != BUNDLE_VERSION:
        raise Unusable(f"bundle version is {record.get('version')!r}, expected {BUNDLE_VERSION}")
    if not isinstance(record.get("scope"), dict) or type(record.get("size")) is not int:
        raise Unusable("the bundle's header states no scope or size")
    walk.header = record


def read_rotation(walk: Walk, record: Mapping[str, Any]) -> None:
    """One key handing over to the next. Both signed it; whether either is to be trusted, `begin` finds out."""
    try:
        walk.rotations.append(open_rotation(str(record["note"])))
    except (NoteProblem, KeyError, ValueError) as error:
        walk.bad(0, "key-swapped", f"a key rotation does not verify: {error}")


def begin(walk: Walk, anchor: Path | None) -> None:
    """Once rotations and restorations are read: which keys count, which checkpoints do, and what the anchors say."""
    walk.began = True
    problem = chain_problem(walk.rotations)
    if problem:
        walk.bad(0, "key-swapped", problem)
    else:
        walk.keys = walk.keys.extended(walk.rotations)
        for rotation in walk.rotations:
            if rotation.old not in walk.keys.keys:
                walk.bad(rotation.seq, "key-swapped", "the keys of a rotation are not linked to a given key")
    trust_restorations(walk)
    _read_anchor(walk, anchor)


def _read_anchor(walk: Walk, anchor: Path | None) -> None:
    """Checkpoints held by whoever verifies: the ones that count most."""
    if anchor is None:
        return
    try:
        notes = split_notes(anchor.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"the anchor file cannot be read: {type(error).__name__}") from None
    known = 0
    for note in notes:
        try:
            known += _add_held(walk, note)
        except UnknownKey:
            continue  # of another log, or from before a key rotation; give that key too
        except NoteProblem as error:
            known += 1
            walk.bad(0, "anchor-forged", str(error))
    if not known:
        raise Unusable("the anchor file holds no checkpoint of the given key")


def _add_held(walk: Walk, note: str) -> int:
    restoration = disowning(walk, note)
    checkpoint = parse_checkpoint(split_note(note)[0]) if restoration else walk.keys.checkpoint(note)
    walk.held[checkpoint.size, checkpoint.root] = restoration
    if restoration is None:
        _add_checkpoint(walk, checkpoint)
    return 1


def read_record(walk: Walk, record: Mapping[str, Any]) -> None:
    reader = _READERS.get(str(record.get("type")))
    if reader is None:
        walk.bad(0, "bundle-edited", f"unknown record {str(record.get('type'))[:40]!r}")
        return
    if walk.entries and reader in _AHEAD:
        # Entries are held against what was read before them: here it would count, and have been compared with nothing.
        walk.bad(walk.last + 1, "bundle-edited", f"a {record['type']} stands behind entries it is about")
        return
    try:
        reader(walk, record)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        # Whoever made the file chose every value: an infinite number, a thousand brackets, a list for a name.
        walk.bad(walk.last + 1, "bundle-edited", f"malformed {str(record['type'])[:40]} record")


def _read_checkpoint(walk: Walk, record: Mapping[str, Any]) -> None:
    if disowning(walk, record["note"]):
        return
    try:
        checkpoint = walk.keys.checkpoint(record["note"])
    except UnknownKey as error:
        walk.bad(0, "key-swapped", f"a checkpoint is {error}")
        return
    except NoteProblem as error:
        walk.bad(0, "checkpoint-forged", str(error))
        return
    _add_checkpoint(walk, checkpoint)
    _link(walk, checkpoint.size, record.get("proof"))


def _read_anchored(walk: Walk, record: Mapping[str, Any]) -> None:
    if disowning(walk, str(record["note"])):
        return
    try:
        checkpoint = walk.keys.checkpoint(str(record["note"]))
    except NoteProblem as error:
        walk.bad(0, "anchor-forged", f"{record['anchor']}: {error}")
        return
    _add_checkpoint(walk, checkpoint)
    _link(walk, checkpoint.size, record.get("consistency"))
    judge_anchor(walk, record, checkpoint.size, checkpoint.root)


def _link(walk: Walk, size: int, proof: Any) -> None:
    """Keep what shows that the checkpoint of `size` is a beginning of the log; in a part each one has to bring it."""
    if proof is not None:
        walk.proofs.setdefault(size, [bytes.fromhex(node) for node in proof])
    elif not walk.whole and 0 < size < int(walk.header["size"]) and size not in walk.proofs:
        walk.unlinked = walk.unlinked or size


def _add_checkpoint(walk: Walk, checkpoint: Checkpoint) -> None:
    known = walk.checkpoints.get(checkpoint.size)
    if known is not None and known.root != checkpoint.root:
        walk.bad(checkpoint.size, "forked", "two signed checkpoints of this size have different roots")
    elif known is None or (known.time_s or 0) <= (checkpoint.time_s or 0):
        walk.checkpoints[checkpoint.size] = checkpoint


def _read_problem(walk: Walk, record: Mapping[str, Any]) -> None:
    if len(walk.reported) < MAX_FINDINGS:
        walk.reported.append(Finding(int(record["seq"]), str(record["kind"]), str(record["detail"])))


def _read_entry(walk: Walk, record: Mapping[str, Any]) -> None:
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
    if walk.claimed.get(seq) == hashed:
        del walk.claimed[seq]
    _read_text(walk, record, seq, place, canonical)
    if place.kind == "log.key_rotated":
        walk.rotated_at[seq] = str(json.loads(canonical)["body"].get("note"))
    if place.kind == PURGED:
        judge_certificate(walk, canonical, seq)
    if place.kind == RESTORED:
        note_restored(walk, seq, canonical)
    if place.recording:
        walk.recordings.add(place.recording)
        if place.names_recording:
            walk.named_at.append(seq)
            walk.purged += certified_entry(walk.certificates, canonical=canonical, record_class=RECORDINGS)


def _entry_finding(walk: Walk, seq: int, place: Place | None, hashed: bytes, stored: bytes) -> Finding | None:
    finding = _place_finding(walk, seq, place, hashed, stored)
    if finding is not None or place is None:
        return finding
    if (walk.whole or (walk.unbroken and walk.last)) and place.prev != walk.prev:
        return Finding(max(1, seq - 1), "rewritten", f"entry {seq} was written after another entry than this one")
    scope = walk.header["scope"]
    if scope.get("kind") == "session" and place.session != scope.get("session"):
        return Finding(seq, "inserted", "the entry belongs to another session")
    return None


def _place_finding(walk: Walk, seq: int, place: Place | None, hashed: bytes, stored: bytes) -> Finding | None:
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


def _inclusion_finding(walk: Walk, record: Mapping[str, Any], seq: int, hashed: bytes) -> Finding | None:
    size, checkpoint, proof = int(walk.header["size"]), walk.signed, record.get("proof")
    if checkpoint is None or proof is None:
        walk.unproved = walk.unproved or seq  # nothing covers it: the conclusion says so
        return None
    path = [bytes.fromhex(node) for node in proof]
    if verify_inclusion(leaf=hashed, index=seq - 1, size=size, proof=path, root=checkpoint.root):
        return None
    return Finding(seq, "edited", f"the entry is not in the log signed with {size} entries")


def _compare_root(walk: Walk) -> None:
    checkpoint = walk.checkpoints.get(walk.last)
    if checkpoint is not None and checkpoint.root != walk.frontier.root:
        before = max((size for size in walk.checkpoints if size < walk.last), default=0)
        detail = f"entries {before + 1} to {walk.last} are not the ones signed in the checkpoint of {walk.last}"
        walk.bad(before + 1, "rewritten", detail)
        del walk.checkpoints[walk.last]


def _read_text(walk: Walk, record: Mapping[str, Any], seq: int, place: Place, canonical: bytes) -> None:
    if "text" in record:
        disclosed = Disclosure(record["text"].encode(), bytes.fromhex(record["salt"]))
        if disclosed.commitment != place.commitment:
            walk.bad(seq, "text-edited", "the disclosed text is not the one this entry commits to")
    elif (
        walk.header.get("with_text")
        and place.commitment
        and not certified_entry(walk.certificates, canonical=canonical)
    ):
        walk.bad(seq, "text-missing", "the text of this entry is not disclosed")


def _read_recording(walk: Walk, record: Mapping[str, Any]) -> None:
    digest = str(record["digest"])
    if digest not in walk.recordings:
        walk.bad(0, "inserted", "a recording that no entry names")
    walk.streams[digest] = StreamDigest(bytes.fromhex(record["salt"]))


def _read_chunk(walk: Walk, record: Mapping[str, Any]) -> None:
    walk.streams[str(record["digest"])].update(base64.b64decode(record["data"], validate=True))


def _read_absent(walk: Walk, record: Mapping[str, Any]) -> None:
    walk.absent += 1


def _read_recordings(walk: Walk, record: Mapping[str, Any]) -> None:
    """What the exporter counted when it opened every recording. The rest is named by its `problem` records."""
    counted = {name: int(record[name]) for name in ("named", "intact", "lost", "settling", "up_to")}
    counted["purged"] = int(record.get("purged", 0))  # of a later version than the format's first
    walk.counted = counted
    accounted = counted["intact"] + counted["lost"] + counted["settling"] + counted["purged"]
    if counted["named"] != accounted and not walk.reported:
        walk.bad(0, "bundle-edited", "recordings are counted that are neither intact nor known to be lost")
    if walk.whole and not walk.displaced and counted["purged"] > walk.purged:
        detail = f"{counted['purged']} recordings are said to be purged, certificates account for {walk.purged}"
        walk.bad(0, "bundle-edited", detail)
    named = sum(seq <= counted["up_to"] for seq in walk.named_at)
    if walk.whole and not walk.displaced and named != counted["named"]:
        detail = f"the entries name {named} recordings, the exporter counted {counted['named']}"
        walk.bad(0, "bundle-edited", detail)


_READERS = {
    "certificate": read_declared_certificate,
    "checkpoint": _read_checkpoint,
    "anchor": _read_anchored,
    "problem": _read_problem,
    "entry": _read_entry,
    "recording": _read_recording,
    "recordings": _read_recordings,
    "absent": _read_absent,
    "chunk": _read_chunk,
}

# What the entries are held against comes before the first of them.
_AHEAD = (read_declared_certificate, _read_checkpoint, _read_anchored)


def read_end(walk: Walk, record: Mapping[str, Any], number: int, digest: bytes) -> None:
    """The seal: the exporter's signature over everything before it. A bundle of a damaged log has none."""
    walk.ended = True
    # The seal covers the lines before this one: here nothing but the digest and the seal may be said.
    if record.keys() - {"type", "sha256", "seal"} or record.get("sha256") != digest.hex():
        walk.bad(0, "bundle-edited", "the bundle's end does not have the digest of what stands before it")
    seal = record.get("seal")
    if seal is None:
        return
    try:
        text = walk.keys.text(str(seal), size=int(walk.header["size"]))
    except NoteProblem as error:
        walk.bad(0, "bundle-edited", f"the bundle's seal is not of the given key: {error}")
        return
    if text != seal_text(origin=str(walk.header.get("origin")), lines=number - 1, digest=digest):
        walk.bad(0, "bundle-edited", "the bundle is not the one that was sealed")
    walk.sealed = True
