"""The restorations the log holds, and going on after one (docs/decisions/0050).

`restore_log` is for a control database that came back from a backup: the log is whole as far as it goes, and anchors
know of more. It refuses to explain anything else away.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from django.db import connection, transaction

from audit.domain.anchor import anchored
from audit.domain.append import append_entries
from audit.domain.checkpoints import TAIL, LogDamaged, lock_signing, sign_checkpoint
from audit.domain.damage import note_findings
from audit.domain.entry import Entry
from audit.domain.findings import Finding
from audit.domain.head import lock_head
from audit.domain.integrity import check_chain, roots_at, signed_checkpoints
from audit.domain.keyring import KeyRing
from audit.domain.keys import configured_signers, log_keys, log_origin, log_signer
from audit.domain.note import NoteProblem, open_checkpoint
from audit.domain.restoration import KIND, Named, Restoration, read_restoration, restoration_body
from audit.domain.stored_certificates import FORGED, UNSIGNED
from audit.domain.stored_restorations import disowned, stored_restorations
from audit.models import LogEntry

MAX_REASON = 500


class RestorationRefused(ValueError):
    """There is nothing to disown, or what is wrong is not what a restore leaves behind."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a restoration would disown: checkpoints of more than `base` entries that the log does not hold."""

    base: int
    named: frozenset[Named]


def restore_log(*, reason: str, by: str, notes: Sequence[str] = ()) -> Restoration:
    """Disown the anchored checkpoints the log does not hold, and sign again. `notes`: others that somebody kept.

    Raises RestorationRefused, LogDamaged (nothing is written), SigningKeyProblem, or OSError.
    """
    if not 0 < len(reason) <= MAX_REASON or not reason.isprintable():
        raise RestorationRefused(f"the reason has {len(reason)} characters, expected 1 to {MAX_REASON} printable ones")
    with transaction.atomic(), connection.cursor() as cursor:
        lock_signing(cursor)
        head = lock_head()
        loss = find_loss(notes)
        signer = log_signer()
        body = restoration_body(
            signer=signer,
            by=by,
            reason=reason,
            base=loss.base,
            named=loss.named,
            seq=head.size + 1,
            prev=head.leaf,
            time_s=int(time.time()),
        )
        append_entries([Entry(kind=KIND, body=body)])
    sign_checkpoint()
    # What an earlier check found is looked at again: only that is gone which the restoration explains.
    found = check_chain(log_keys())
    for check in ("log", TAIL):
        note_findings(found, check=check, found_by=by)
    entry = LogEntry.objects.get(seq=head.size + 1)
    return read_restoration(bytes(entry.canonical), keys=log_keys())


def find_loss(notes: Sequence[str] = ()) -> Loss:
    """What is anchored and not stored. Raises RestorationRefused, or LogDamaged for what no restore leaves behind."""
    keys = log_keys()
    stored = {(checkpoint.size, checkpoint.root) for checkpoint, _ in signed_checkpoints(keys)[0]}
    known = stored | disowned(stored_restorations(keys)[0])
    named = frozenset(_claimed([*anchored(log_origin()), *notes], keys) - known)
    # Certificates nobody signed are confirmed once the log is signed again; what they cannot excuse is found by itself.
    found = [finding for finding in check_chain(keys, anchors=False) if finding.kind not in (FORGED, UNSIGNED)]
    findings = [*found, *_removed(named, stored)]
    if findings:
        raise LogDamaged(findings)
    if not named:
        raise RestorationRefused("the log holds every checkpoint that was anchored: there is nothing to disown")
    smallest = min(size for size, _ in named)
    return Loss(max((size for size, _ in stored if size < smallest), default=0), named)


def _removed(named: Collection[Named], stored: Collection[Named]) -> list[Finding]:
    """Checkpoints of this very log before its newest one: a backup would hold them, somebody removed them."""
    newest = max((size for size, _ in stored), default=0)
    own = set(roots_at({size for size, _ in named if size < newest}).items())
    detail = "anchored, of this log, and not among the stored checkpoints"
    return [Finding(size, "checkpoint-missing", detail) for size, _ in sorted(own & set(named))]


def _claimed(notes: Iterable[str], keys: KeyRing) -> set[Named]:
    """Sizes and roots that keys of this log signed, those only the configuration knows included: a hand-over to one of
    them may be among what was lost."""
    verifiers = [*keys.keys, *(signer.verifier for signer in configured_signers())]
    claimed = set()
    for note in notes:
        try:
            checkpoint = open_checkpoint(note, verifiers)
        except NoteProblem as error:
            raise RestorationRefused(f"among what was anchored is a note no key of this log signed: {error}") from None
        claimed.add((checkpoint.size, checkpoint.root))
    return claimed
