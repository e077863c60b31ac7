"""What a bundle that was read to its end proves. Pure."""

from __future__ import annotations

from audit.domain.findings import Finding
from audit.domain.merkle import verify_consistency
from audit.domain.restoration import Restoration
from audit.domain.verify_purges import conclude_purges, purge_told
from audit.domain.verify_restorations import conclude_restorations, told
from audit.domain.verify_walk import Report, Verdict, Walk


def conclude(walk: Walk) -> Report:
    """The report of a bundle that was read to its end; what is wrong is among its findings."""
    _check_ending(walk)
    _check_consistency(walk)
    _check_proofs(walk)
    _check_rotations(walk)
    conclude_restorations(walk)
    conclude_purges(walk)
    for digest, stream in walk.streams.items():
        if stream.name != digest:
            walk.bad(0, "recording-edited", f"recording {digest[:24]}… is not the one the log names")
    findings = _ordered(walk)
    covered = max((size for size in walk.checkpoints if walk.whole or size == walk.header["size"]), default=0)
    newest = walk.checkpoints.get(covered)
    restored, accepted = _restorations(walk)
    compared = _compared(walk)
    if findings or restored:
        verdict = Verdict.TAMPERED
    elif covered < walk.last or not walk.checkpoints or not walk.sealed or (compared is not None and not compared[0]):
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
        # A part that leads to no signed root has nothing to do with what others signed.
        anchors=tuple(walk.anchors) if walk.whole or walk.signed else (),
        recordings=walk.counted,
        sealed=walk.sealed,
        restored=restored,
        accepted=accepted,
        compared=compared,
        purges=tuple(purge_told(certificate) for certificate in walk.certificates),
    )


def _restorations(walk: Walk) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is said of restorations: of those nobody accepted, and of the accepted ones."""
    restored, accepted = [], []
    for restoration in walk.restorations:
        line = _told(walk, restoration)
        if (restoration.seq, restoration.leaf) in walk.trusted.restorations:
            accepted.append(line)
        else:
            restored.append(f"{line}. If you know of this loss: --accept-restoration {restoration.acceptance}")
    return tuple(restored), tuple(accepted)


def _told(walk: Walk, restoration: Restoration) -> str:
    held = sum(found is restoration for found in walk.held.values())
    # Own checkpoints that contradict the log are findings; of a part, only those count that a proof reaches.
    agreeing = (
        size
        for (size, _), found in walk.held.items()
        if found is None and size <= restoration.base and (walk.whole or size in walk.proofs)
    )
    return told(restoration, held=held, proven=max(agreeing, default=0))


def _check_ending(walk: Walk) -> None:
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


def _check_consistency(walk: Walk) -> None:
    """In a bundle of a part, other checkpoints must be prefixes of the one the proofs lead to."""
    if walk.whole:
        return
    size, newest = int(walk.header["size"]), walk.signed
    for checkpoint in walk.checkpoints.values():
        proof = walk.proofs.get(checkpoint.size)
        if newest is None or proof is None or not 0 < checkpoint.size < size:
            continue
        if not verify_consistency(
            first=checkpoint.size, second=size, first_root=checkpoint.root, second_root=newest.root, proof=proof
        ):
            walk.bad(checkpoint.size, "forked", "a signed checkpoint is not a beginning of the newest one")


def _check_proofs(walk: Walk) -> None:
    """In a bundle of a part, each entry and each checkpoint comes with its proof, but for those of a damaged log."""
    if walk.whole or walk.reported or walk.displaced or walk.signed is None:
        return
    if walk.unproved:
        walk.bad(walk.unproved, "bundle-edited", "the entry comes without the proof that it is in the signed log")
    if walk.unlinked:
        detail = "a signed checkpoint comes without the proof that it is a beginning of the newest one"
        walk.bad(walk.unlinked, "bundle-edited", detail)


def _compared(walk: Walk) -> tuple[int, int] | None:
    """Of the auditor's own checkpoints that count, how many a part was held against. None: not a part, or no own."""
    own = [size for (size, _), restoration in walk.held.items() if restoration is None]
    if walk.whole or not own:
        return None
    linked = {*walk.proofs, int(walk.header["size"])} if walk.signed else set()
    return sum(size in linked for size in own), len(own)


def _check_rotations(walk: Walk) -> None:
    """What the bundle's head states of keys must be what the log's own entries say, both ways."""
    stated = {rotation.seq: rotation.note for rotation in walk.rotations}
    for seq, note in walk.rotated_at.items():
        if stated.get(seq) != note:
            walk.bad(seq, "key-swapped", "the bundle leaves out a key rotation of its log, or states another")
    for seq in stated:
        if walk.whole and not walk.displaced and seq not in walk.rotated_at:
            walk.bad(seq, "key-swapped", "a key rotation is stated that the log does not hold")


def _ordered(walk: Walk) -> tuple[Finding, ...]:
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


def _shifted(walk: Walk) -> bool:
    """Everything from the first bad entry on stands one or more places too early: something before it was removed."""
    return (
        len({place - stored for stored, place in walk.displaced}) == 1 and walk.displaced[0][1] > walk.displaced[0][0]
    )
