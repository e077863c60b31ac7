"""The whole check of the stored evidence, as `audit_check`, the daily task and the start of a gateway run it."""

from __future__ import annotations

from dataclasses import dataclass

from audit.domain.append import append_entries, stated_size
from audit.domain.contents import RecordingCounts, check_recordings
from audit.domain.damage import note_findings
from audit.domain.entry import Entry, Json
from audit.domain.findings import Finding
from audit.domain.integrity import check_chain
from audit.domain.keys import log_keys
from audit.domain.records_check import check_records
from audit.domain.subject_index import check_subjects

RECENT_ENTRIES = 5_000  # what a starting gateway looks at: a second or two


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at and what is wrong. `recordings` is None where they were not opened."""

    entries: int
    findings: tuple[Finding, ...]
    recordings: RecordingCounts | None


def check_evidence(*, checked_by: str) -> Checked:
    """Check everything stored, remember what is wrong, and record that it was checked."""
    size = stated_size()
    chain = check_chain(log_keys())
    stored, counts = check_recordings(size)
    records = check_records()
    subjects = check_subjects(size)
    for check, findings in (("log", chain), ("recordings", stored), ("records", records), ("subjects", subjects)):
        note_findings(findings, check=check, found_by=checked_by)
    found = (*chain, *stored, *records, *subjects)
    body: dict[str, Json] = {
        "subject": checked_by,
        "entries": size,
        "recordings_named": counts.named,
        "recordings_intact": counts.intact,
        "recordings_lost": counts.lost,
        "findings": len(found),
    }
    append_entries([Entry(kind="evidence.checked", body=body)])
    return Checked(size, found, counts)


def check_recent(*, checked_by: str) -> list[Finding]:
    """Compare the newest records with the log. What a gateway does at its start, beside signing."""
    findings = check_records(newest=RECENT_ENTRIES)
    note_findings(findings, check="recent-records", found_by=checked_by)
    return findings
