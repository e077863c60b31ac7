"""Evidence that leaves: a file somebody else can verify without us (format: docs/evidence-bundle.md).

Before anything is signed the stored log is checked as a whole. An intact log gets a fresh checkpoint over its head,
published to the anchors, and the bundle is sealed. A damaged log gets neither: it is exported as it is, with what was
found, so that the file shows the damage instead of covering it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import IO, Any

from django.db.models import Max, Min

from audit.domain.anchor import anchored
from audit.domain.append import append_entries
from audit.domain.box import SealProblem
from audit.domain.bundle_format import BUNDLE_TYPE, BUNDLE_VERSION, seal_text
from audit.domain.certificates import KIND as CERTIFICATE
from audit.domain.chain import open_box
from audit.domain.checkpoints import LogDamaged, sign_checkpoint
from audit.domain.contents import check_recordings
from audit.domain.entry import Entry, Json, now_us
from audit.domain.findings import Finding, read_place
from audit.domain.head import stated_leaf, stated_size
from audit.domain.integrity import StoredEntry, check_chain, stored_entries
from audit.domain.keyring import KeyRing
from audit.domain.keys import log_keys, log_rotations, log_signer
from audit.domain.merkle import Tree
from audit.domain.note import NoteProblem, Signer, open_note
from audit.domain.purges import nothing_purged
from audit.domain.recordings import check_recording, read_recording, recording_salt
from audit.domain.restoration import KIND as RESTORED
from audit.domain.sealing import evidence_sealer
from audit.domain.stored_restorations import disowned, stated_by, stored_restorations
from audit.models import AnchorProof, Checkpoint, Export, LogEntry, Recording, SealedText

MAX_PROVEN_CHECKPOINTS = 1_000  # in a bundle of a part, each carries a proof
MAX_ANCHORS = 200


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the log: everything, one session, what happened between two moments, or chosen entries."""

    session: str = ""
    since: datetime | None = None
    until: datetime | None = None
    places: tuple[int, ...] | None = None
    about: str = ""  # of chosen entries: what they were chosen for, in a word

    @property
    def whole(self) -> bool:
        return not (self.session or self.since or self.until or self.places is not None)

    def as_json(self) -> dict[str, Json]:
        if self.session:
            return {"kind": "session", "session": self.session}
        if self.places is not None:
            return {"kind": "selection", "about": self.about, "entries": len(self.places)}
        if self.whole:
            return {"kind": "all"}
        return {"kind": "range", "from": _iso(self.since), "to": _iso(self.until)}


@dataclass(frozen=True, slots=True)
class Bundled:
    size: int
    entries: int
    digest: str
    findings: tuple[Finding, ...]


def write_bundle(out: IO[bytes], *, scope: Scope, with_text: bool, requested_by: str) -> Bundled:
    """Check, sign, export. Never raises on a damaged log: `findings` says what is wrong, and the bundle is unsealed."""
    with nothing_purged():
        return _write_bundle(out, scope=scope, with_text=with_text, requested_by=requested_by)


def _write_bundle(out: IO[bytes], *, scope: Scope, with_text: bool, requested_by: str) -> Bundled:
    signer = log_signer()
    findings = check_chain(log_keys())
    stored, counts = check_recordings(_stored_size())
    findings = sorted((*findings, *stored), key=lambda finding: finding.seq)
    if not findings:
        # The export is itself an event, and part of what it exports.
        append_entries([_exported(scope, with_text=with_text, requested_by=requested_by)])
        findings, size = _sign()
        signer = log_signer()
    size = size if not findings else _stored_size()
    # The log goes on while it is exported; up to `size` it does not change any more.
    writer = _Writer(out)
    for record in _records(scope, size=size, findings=findings, with_text=with_text, signer=signer):
        writer.write(record)
    writer.write({"type": "recordings", **asdict(counts)})
    digest = writer.end(signer if not findings else None)
    if not findings:
        Export.objects.create(
            requested_by=requested_by, scope=scope.as_json(), with_text=with_text, size=size, digest=digest
        )
    return Bundled(size=size, entries=writer.entries, digest=digest, findings=tuple(findings))


class _Writer:
    """JSON lines, counted and hashed as they are written."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self._lines = 0
        self._origin = ""
        self.entries = 0

    def write(self, record: dict[str, Any]) -> None:
        if record["type"] == BUNDLE_TYPE:
            self._origin = record["origin"]
        self.entries += record["type"] == "entry"
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        self._out.write(line)
        self._digest.update(line)
        self._lines += 1

    def end(self, signer: Signer | None) -> str:
        digest = self._digest.digest()
        seal = signer.sign(seal_text(origin=self._origin, lines=self._lines, digest=digest)) if signer else None
        self.write({"type": "end", "sha256": digest.hex(), "seal": seal})
        return self._digest.hexdigest()


def _sign() -> tuple[list[Finding], int]:
    try:
        return [], sign_checkpoint().size
    except LogDamaged as damage:
        return list(damage.findings), 0


def _stored_size() -> int:
    """How far a damaged log goes, whatever its state says."""
    newest = LogEntry.objects.aggregate(newest=Max("seq"))["newest"] or 0
    return max(newest, stated_size())


def _records(
    scope: Scope, *, size: int, findings: list[Finding], with_text: bool, signer: Signer
) -> Iterator[dict[str, Any]]:
    seqs = _seqs(scope, size)
    yield _header(scope, size=size, with_text=with_text, signer=signer, damaged=bool(findings), seqs=seqs)
    provable = not scope.whole and not findings
    tree = Tree(entry.leaf for entry in stored_entries() if entry.seq <= size) if provable else None
    yield from ({"type": "rotation", "note": rotation.note} for rotation in log_rotations() if rotation.seq <= size)
    yield from _restorations(tree=tree, size=size)
    yield from _checkpoints(signer, tree=tree, size=size if not findings else None)
    yield from _anchors(tree=tree, size=size if not findings else None)
    yield from _certificates(tree=tree, size=size)
    yield from ({"type": "problem", "seq": f.seq, "kind": f.kind, "detail": f.detail} for f in findings)
    named: list[str] = []
    for entry in _entries(scope, size, seqs):
        record, recording = _entry_record(entry, tree=tree, size=size, with_text=with_text)
        yield record
        if recording and with_text:
            named.append(recording)
    for digest in named:
        yield from _recording(digest)


def _header(
    scope: Scope, *, size: int, with_text: bool, signer: Signer, damaged: bool, seqs: tuple[int, int] | None
) -> dict[str, Any]:
    stated = _leaf_at(size) if not damaged else stated_leaf()
    return {
        "type": BUNDLE_TYPE,
        "version": BUNDLE_VERSION,
        "origin": signer.name,
        "vkey": signer.verifier.vkey,  # for people; the verifier believes only the key it is given
        "scope": scope.as_json(),
        "size": stated_size() if damaged else size,
        "head": stated.hex() if stated else None,
        "entries": _selected(scope, size, seqs).count() if not damaged else None,
        "with_text": with_text,
        "created_us": now_us(),
    }


def _leaf_at(seq: int) -> bytes | None:
    leaf = LogEntry.objects.filter(seq=seq).values_list("leaf", flat=True).first()
    return bytes(leaf) if leaf is not None else None


def _seqs(scope: Scope, size: int) -> tuple[int, int] | None:
    """A period becomes an unbroken run of places: clocks of several writers may step over each other."""
    if scope.whole or scope.session or scope.places is not None:
        return None
    entries = LogEntry.objects.filter(seq__lte=size)
    if scope.since:
        entries = entries.filter(at__gte=scope.since)
    if scope.until:
        entries = entries.filter(at__lte=scope.until)
    bounds = entries.aggregate(low=Min("seq"), high=Max("seq"))
    return (bounds["low"], bounds["high"]) if bounds["low"] else (1, 0)


def _selected(scope: Scope, size: int, seqs: tuple[int, int] | None) -> Any:
    entries = LogEntry.objects.filter(seq__lte=size)
    if scope.session:
        return entries.filter(session_id=scope.session)
    if scope.places is not None:
        return entries.filter(seq__in=scope.places)
    return entries if seqs is None else entries.filter(seq__gte=seqs[0], seq__lte=seqs[1])


def _entries(scope: Scope, size: int, seqs: tuple[int, int] | None) -> Iterator[StoredEntry]:
    if scope.whole:
        yield from (entry for entry in stored_entries() if entry.seq <= size)
        return
    rows = _selected(scope, size, seqs).order_by("seq").values_list("seq", "leaf", "prev", "canonical")
    for seq, leaf, prev, canonical in rows.iterator(2_000):
        yield StoredEntry(seq, bytes(leaf), bytes(prev), bytes(canonical))


def _checkpoints(signer: Signer, *, tree: Tree | None, size: int | None) -> Iterator[dict[str, Any]]:
    """Stored and anchored checkpoints, each note once; in a bundle of a part, one per size with its proof.

    Those signed since, over more than `size` entries, are left out; of a damaged log (None) every note goes along.
    """
    keys = log_keys()
    stored = list(Checkpoint.objects.order_by("id").values_list("note", flat=True))
    sources = {**dict.fromkeys(anchored(signer.name), "anchor"), **dict.fromkeys(stored, "log")}
    given_up = disowned(stored_restorations(keys)[0])
    for note in [note for note in sources if given_up and stated_by(note) in given_up]:
        del sources[note]
        if _signed_by(note, keys):
            yield {"type": "checkpoint", "source": "disowned", "note": note}
    if size is not None:
        sources = {note: source for note, source in sources.items() if keys.checkpoint(note).size <= size}
    if tree is None or size is None:
        yield from ({"type": "checkpoint", "source": source, "note": note} for note, source in sources.items())
        return
    by_size: dict[int, tuple[str, str]] = {}
    for note, source in sources.items():
        by_size[keys.checkpoint(note).size] = (note, source)
    for at in sorted(by_size)[-MAX_PROVEN_CHECKPOINTS:]:
        note, source = by_size[at]
        proof = tree.consistency_proof(at, size) if 0 < at < size else []
        yield {"type": "checkpoint", "source": source, "note": note, "proof": [node.hex() for node in proof]}


def _signed_by(note: str, keys: KeyRing) -> bool:
    """Whether one of the log's keys signed it, at whatever size: a hand-over may be among what a restore lost."""
    try:
        open_note(note, keys.keys)
    except NoteProblem:
        return False
    return True


def _restorations(*, tree: Tree | None, size: int) -> Iterator[dict[str, Any]]:
    """Restorations come before the checkpoints: they say which of them are not of this log any more."""
    rows = LogEntry.objects.filter(kind=RESTORED, seq__lte=size).order_by("seq").values_list("seq", "canonical")
    for seq, canonical in rows.iterator():
        record: dict[str, Any] = {"type": "restoration", "entry": bytes(canonical).decode("utf-8", "replace")}
        if tree is not None:
            record["proof"] = [node.hex() for node in tree.inclusion_proof(seq - 1, size)]
        yield record


def _anchors(*, tree: Tree | None, size: int | None) -> Iterator[dict[str, Any]]:
    """What others said of the newest checkpoints they were given, with each one's place in this tree."""
    proofs = AnchorProof.objects.order_by("-id")
    if size is not None:
        proofs = proofs.filter(size__lte=size)
    for row in proofs[:MAX_ANCHORS]:
        record: dict[str, Any] = {"type": "anchor", "anchor": row.anchor, "kind": row.kind, "note": row.note}
        record["proof"] = base64.b64encode(bytes(row.proof)).decode()
        if tree is not None and size is not None:
            nodes = tree.consistency_proof(row.size, size) if 0 < row.size < size else []
            record["consistency"] = [node.hex() for node in nodes]
        yield record


def _certificates(*, tree: Tree | None, size: int) -> Iterator[dict[str, Any]]:
    """Certificates of purges come ahead: whoever reads on knows what may be missing."""
    rows = LogEntry.objects.filter(kind=CERTIFICATE, seq__lte=size).order_by("seq").values_list("seq", "canonical")
    for seq, canonical in rows.iterator():
        record: dict[str, Any] = {
            "type": "certificate",
            "seq": seq,
            "entry": bytes(canonical).decode("utf-8", "replace"),
        }
        if tree is not None:
            record["proof"] = [node.hex() for node in tree.inclusion_proof(seq - 1, size)]
        yield record


def _entry_record(entry: StoredEntry, *, tree: Tree | None, size: int, with_text: bool) -> tuple[dict[str, Any], str]:
    record: dict[str, Any] = {"type": "entry", "seq": entry.seq, "leaf": entry.leaf.hex()}
    try:
        record["entry"] = entry.canonical.decode()
    except UnicodeDecodeError:  # damaged: shown as it is
        record["base64"] = base64.b64encode(entry.canonical).decode()
    if tree is not None:
        record["proof"] = [node.hex() for node in tree.inclusion_proof(entry.seq - 1, size)]
    place = read_place(entry.canonical)
    if with_text and place is not None and place.commitment:
        record |= _disclosed(entry.seq, place.commitment)
    return record, place.recording if place is not None and place.names_recording else ""


def _disclosed(seq: int, commitment: bytes) -> dict[str, str]:
    box = SealedText.objects.filter(seq=seq).values_list("box", flat=True).first()
    if box is None:
        return {}
    try:
        disclosure = open_box(bytes(box), commitment=commitment, sealer=evidence_sealer())
    except SealProblem:
        return {}  # damaged; the check before has said so
    return {"text": disclosure.plaintext.decode(), "salt": disclosure.salt.hex()}


def _recording(digest: str) -> Iterator[dict[str, Any]]:
    recording = Recording.objects.filter(digest=digest).first()
    if recording is None:
        yield {"type": "absent", "digest": digest}
        return
    try:
        check_recording(recording)
        salt = recording_salt(recording)
    except SealProblem as problem:
        yield {"type": "problem", "seq": 0, "kind": "recording-edited", "detail": f"{digest[:24]}…: {problem}"}
        return
    yield {
        "type": "recording",
        "digest": digest,
        "statement": recording.statement_id,
        "format": recording.format,
        "salt": salt.hex(),
    }
    for piece in read_recording(recording):
        yield {"type": "chunk", "digest": digest, "data": base64.b64encode(piece).decode()}


def _exported(scope: Scope, *, with_text: bool, requested_by: str) -> Entry:
    return Entry(
        kind="evidence.exported",
        session_id=scope.session,
        body={"subject": requested_by, "scope": scope.as_json(), "with_text": with_text},
    )


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
