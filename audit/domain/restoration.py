"""A log that went on after a restore from a backup, and which signed checkpoints it disowns for that. Pure.

Checkpoints that were anchored after the backup speak of entries the restored log does not hold. A `log.restored` entry
names exactly these, by size and root, and carries a note of the log's key: `<origin>/restoration`, the entry's place,
the leaf before it, a digest of what the entry says, and a time. So nobody without the key can excuse a cut log, a
restoration cannot be carried to another place or beginning, and a checkpoint it does not name contradicts as ever.

A restoration proves an admission, not a loss: whoever holds the key can cut a log and admit it. Whether there was a
reason, the auditor decides, and accepts this one entry by its hash (`accept`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from audit.domain.keyring import KeyRing
from audit.domain.merkle import leaf_hash
from audit.domain.note import Checkpoint, NoteProblem, Signer

KIND = "log.restored"
SUFFIX = "/restoration"

Named = tuple[int, bytes]  # a checkpoint's size and root


@dataclass(frozen=True, slots=True)
class Restoration:
    """Entry `seq`: who says why that the named checkpoints, all of more than `base` entries, are not of this log."""

    seq: int
    leaf: bytes
    base: int
    named: frozenset[Named]
    by: str
    reason: str
    time_s: int

    @property
    def lost_to(self) -> int:
        """How many entries the log had at least before it was restored."""
        return max(size for size, _ in self.named)

    @property
    def acceptance(self) -> str:
        """What an auditor gives the verifier to accept this restoration, and no other one at its place."""
        return f"{self.seq}:{self.leaf.hex()}"


def restoration_body(
    *, signer: Signer, by: str, reason: str, base: int, named: Iterable[Named], seq: int, prev: bytes, time_s: int
) -> dict[str, Any]:
    """The body of the entry at `seq` behind `prev`."""
    checkpoints = [[size, root.hex()] for size, root in sorted(named)]
    said: dict[str, Any] = {"subject": by, "reason": reason, "base": base, "checkpoints": checkpoints}
    text = _text(origin=signer.name, seq=seq, prev=prev, said=said, time_s=time_s)
    return {**said, "note": signer.sign(text)}


def read_restoration(canonical: bytes, *, keys: KeyRing) -> Restoration:
    """The restoration an entry is, signed by the key that counted at its place. Raises NoteProblem."""
    try:
        content = json.loads(canonical)
        if content["kind"] != KIND:
            raise NoteProblem("not a restoration of a log")
        body, seq = content["body"], int(content["seq"])
        note, base = str(body["note"]), int(body["base"])
        named = frozenset((int(size), bytes.fromhex(root)) for size, root in body["checkpoints"])
        time_s = int(note.partition("\n\n")[0].rpartition("time ")[2])
        by, reason = str(body["subject"]), str(body["reason"])
        prev = bytes.fromhex(content["prev"])
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, NoteProblem):
            raise
        raise NoteProblem("a restoration that cannot be read") from None
    signed = keys.text(note, size=seq)
    if not any(signed == _text(origin=key.name, seq=seq, prev=prev, said=body, time_s=time_s) for key in keys.keys):
        raise NoteProblem("a restoration's note is not about this entry")
    if not named or base < 0 or any(size <= base or len(root) != 32 for size, root in named):
        raise NoteProblem("a restoration names no checkpoint, or one that it shares with the log before")
    return Restoration(seq, leaf_hash(canonical), base, named, by, reason, time_s)


def names(restorations: Iterable[Restoration], checkpoint: Checkpoint) -> Restoration | None:
    """The restoration that disowns exactly this checkpoint, if one does."""
    pair = (checkpoint.size, checkpoint.root)
    return next((restoration for restoration in restorations if pair in restoration.named), None)


def _text(*, origin: str, seq: int, prev: bytes, said: Any, time_s: int) -> str:
    stated: Sequence[Any] = [said["subject"], said["reason"], said["base"], said["checkpoints"]]
    digest = hashlib.sha256(json.dumps(stated, separators=(",", ":")).encode()).hexdigest()
    return f"{origin}{SUFFIX}\n{seq}\n{prev.hex()}\n{digest}\ntime {time_s}\n"
