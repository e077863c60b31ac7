"""Restorations in a bundle: declared before everything they excuse, believed only as entries of the log. Pure.

A bundle that leaves one out, declares one the log does not hold, or holds another one than the auditor accepted, is
tampered with. One that nobody accepted is no finding, and no pass either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from audit.domain.merkle import leaf_hash, verify_inclusion
from audit.domain.note import Checkpoint, NoteProblem, open_checkpoint
from audit.domain.restoration import Restoration, names, read_restoration
from audit.domain.verify_walk import Walk, moment


def read_declared(walk: Walk, record: Mapping[str, Any]) -> None:
    """A restoration as the bundle's head states it. Whether it holds, `trust_restorations` finds out."""
    try:
        proof = [bytes.fromhex(node) for node in record.get("proof") or ()]
        walk.declared.append((record["entry"].encode(), proof))
    except (LookupError, TypeError, ValueError, AttributeError):
        walk.bad(0, "restoration-forged", "a restoration that cannot be read")


def trust_restorations(walk: Walk) -> None:
    """Once the keys are known: each must carry a note of theirs."""
    for canonical, proof in walk.declared:
        try:
            restoration = read_restoration(canonical, keys=walk.keys)
        except NoteProblem as error:
            walk.bad(0, "restoration-forged", str(error))
            continue
        walk.restorations.append(restoration)
        walk.restoration_proofs[restoration.seq] = proof


def disowning(walk: Walk, note: str) -> Restoration | None:
    """The restoration that disowns the checkpoint of this note, whichever of the log's keys signed it."""
    if not walk.restorations:
        return None
    try:
        return names(walk.restorations, open_checkpoint(note, walk.keys.keys))
    except NoteProblem:
        return None


def conclude_restorations(walk: Walk) -> None:
    """What the head declares must be what the log holds, both ways, and what the auditor accepted must be there."""
    declared = {restoration.seq: restoration.leaf for restoration in walk.restorations}
    for seq, leaf in walk.restored_at.items():
        if declared.get(seq) != leaf:
            walk.bad(seq, "restoration-hidden", "the bundle's head leaves out a restoration of its log")
    for restoration in walk.restorations:
        if not _holds(walk, restoration):
            walk.bad(restoration.seq, "restoration-forged", "a restoration is declared that the log does not hold")
    for seq, leaf in sorted(walk.trusted.restorations):
        if declared.get(seq) != leaf:
            detail = "a restoration you accepted is not in this log: it was cut or restored once more since"
            walk.bad(seq, "restoration-missing", detail)


def _holds(walk: Walk, restoration: Restoration) -> bool:
    if walk.whole:
        return bool(walk.displaced) or walk.restored_at.get(restoration.seq) == restoration.leaf
    size = int(walk.header["size"])
    signed: Checkpoint | None = walk.checkpoints.get(size)
    return signed is not None and verify_inclusion(
        leaf=restoration.leaf,
        index=restoration.seq - 1,
        size=size,
        proof=walk.restoration_proofs[restoration.seq],
        root=signed.root,
    )


def note_restored(walk: Walk, seq: int, canonical: bytes) -> None:
    """An entry of the log that is one."""
    walk.restored_at[seq] = leaf_hash(canonical)


def told(restoration: Restoration, *, held: int, proven: int) -> str:
    """What a restoration says, for a person; what comes from the bundle stands in quotation marks.

    `held`: how many of the checkpoints it disowns are the auditor's own; `proven`: the largest size up to which an own
    checkpoint of the auditor's agrees with the log, below the restoration.
    """
    said = (
        f"entry {restoration.seq} says that the log was restored from a backup, at {moment(restoration.time_s)} by "
        f"{json.dumps(restoration.by)}, because {json.dumps(restoration.reason)}. It disowns "
        f"{len(restoration.named)} signed checkpoints, of up to {restoration.lost_to} entries: what the log held after "
        f"entry {restoration.base}, and up to at least entry {restoration.lost_to}, is not the history in this bundle"
    )
    said += f"; {held} of these checkpoints are among yours" if held else ""
    if proven:
        return said + f"; your own checkpoints show the first {proven} entries to be as they were"
    return said + f"; that the first {restoration.base} entries are as they were rests on the operator's word"
