"""Whether every key of subjects' tokens the log speaks of is still there: without it, its tokens find nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator

from audit.domain.findings import Finding
from audit.domain.subject_keys import opens
from audit.models import LogEntry, SubjectKeyRow

_MADE, _ERASED = "subjects.key_rotated", "subjects.key_erased"


def check_subject_keys() -> list[Finding]:
    """A key that is gone without an entry that erases it would let every question about its tokens say "nobody"."""
    erased = {number for _, number in _numbers(_ERASED)}
    rows = {row.pk: row for row in SubjectKeyRow.objects.all()}
    findings = []
    for seq, number in _numbers(_MADE):
        if number in erased:
            continue
        row = rows.get(number)
        if row is None or row.erased_at is not None:
            detail = f"key {number} of subjects' tokens is gone, and no entry of the log erases it"
            findings.append(Finding(seq, "subject-key-missing", detail))
        elif not opens(row):
            findings.append(Finding(seq, "subject-key-edited", f"key {number} of subjects' tokens does not open"))
    return findings


def _numbers(kind: str) -> Iterator[tuple[int, int]]:
    """(place, key) of the entries of a kind. One that cannot be read is named by the chain's check."""
    rows = LogEntry.objects.filter(kind=kind).order_by("seq").values_list("seq", "canonical")
    for seq, canonical in rows:
        try:
            yield seq, int(json.loads(bytes(canonical))["body"]["key"])
        except (ValueError, KeyError, TypeError):
            continue
