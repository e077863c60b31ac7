"""The restorations the log holds: which anchored checkpoints are not held against it."""

from __future__ import annotations

from collections.abc import Iterable

from audit.domain.findings import Finding
from audit.domain.keyring import KeyRing
from audit.domain.note import NoteProblem, parse_checkpoint, split_note
from audit.domain.restoration import KIND, Named, Restoration, read_restoration
from audit.models import LogEntry


def stored_restorations(keys: KeyRing) -> tuple[list[Restoration], list[Finding]]:
    """The restorations that verify, oldest first, and what is wrong with the others: they excuse nothing."""
    good: list[Restoration] = []
    findings: list[Finding] = []
    rows = LogEntry.objects.filter(kind=KIND).order_by("seq").values_list("seq", "canonical")
    for seq, canonical in rows:
        try:
            good.append(read_restoration(bytes(canonical), keys=keys))
        except NoteProblem as error:
            findings.append(Finding(seq, "restoration-forged", str(error)))
    return good, findings


def disowned(restorations: Iterable[Restoration]) -> set[Named]:
    """Sizes and roots of the checkpoints any of them names."""
    return {pair for restoration in restorations for pair in restoration.named}


def stated_by(note: str) -> Named | None:
    """Size and root a note states, its signature not looked at; None when it is no checkpoint."""
    try:
        checkpoint = parse_checkpoint(split_note(note)[0])
    except NoteProblem:
        return None
    return checkpoint.size, checkpoint.root
