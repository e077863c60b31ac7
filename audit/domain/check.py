"""The whole check of the stored evidence, as `audit_check`, the daily task and the start of a gateway run it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from audit.domain.append import append_entries
from audit.domain.chain import Head
from audit.domain.contents import RecordingCounts, check_recordings
from audit.domain.damage import note_findings
from audit.domain.entry import Entry, Json
from audit.domain.findings import Finding
from audit.domain.head import stated_size
from audit.domain.integrity import check_chain, checked_head
from audit.domain.keys import log_keys
from audit.domain.purges import nothing_purged
from audit.domain.records_check import check_records
from audit.domain.subject_index import check_subjects
from audit.domain.subject_key_check import check_subject_keys
from audit.models import LogEntry

OVERLAP = 1_000  # entries an incremental check looks at once more
RECENT_ENTRIES = 5_000  # what a starting gateway looks at: a second or two


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at and what is wrong. `recordings` is None where they were not opened."""

    entries: int
    findings: tuple[Finding, ...]
    recordings: RecordingCounts | None
    after: int = 0  # entries up to here were left to an earlier check


def check_evidence(*, checked_by: str, incremental: bool = False) -> Checked:
    """Check everything stored, remember what is wrong, and record that it was checked.

    `incremental`: entries since the newest check that found nothing, with the texts, recordings, subjects and records
    that belong to them. It does not see damage done since to what was checked before: the whole check does.
    """
    with nothing_purged():
        return _check(checked_by=checked_by, incremental=incremental)


def _check(*, checked_by: str, incremental: bool) -> Checked:
    size = stated_size()
    start = _checked_before() if incremental else None
    after = start.size if start is not None else 0
    chain = check_chain(log_keys(), start=start)
    stored, counts = check_recordings(size, after=after)
    records = check_records(newest=size - after if after else None)
    subjects = [*check_subject_keys(), *check_subjects(size, after=after)]
    found = (*chain, *stored, *records, *subjects)
    # A part cannot say that what another check found elsewhere is gone.
    prefix = "recent-" if start is not None else ""
    for check, findings in (("log", chain), ("recordings", stored), ("records", records), ("subjects", subjects)):
        note_findings(findings, check=prefix + check, found_by=checked_by)
        if start is None:
            note_findings([], check="recent-" + check, found_by=checked_by)
    body: dict[str, Json] = {
        "subject": checked_by,
        "after": after,
        "entries": size,
        "recordings_named": counts.named,
        "recordings_intact": counts.intact,
        "recordings_lost": counts.lost,
        "recordings_purged": counts.purged,
        "findings": len(found),
    }
    append_entries([Entry(kind="evidence.checked", body=body)])
    return Checked(size, found, counts, after)


def _checked_before() -> Head | None:
    """Where the last check that found nothing ended, as far as a checkpoint vouches for it."""
    newest = LogEntry.objects.filter(kind="evidence.checked").order_by("-seq").values_list("canonical", flat=True)[:100]
    for canonical in newest:
        body = json.loads(bytes(canonical))["body"]
        if body.get("findings") == 0:
            # Recordings that were still being stored then are looked at again.
            size = max(0, int(body["entries"]) - OVERLAP)
            return checked_head(log_keys(), size=size)
    return None


def check_recent(*, checked_by: str) -> list[Finding]:
    """Compare the newest records with the log. What a gateway does at its start, beside signing."""
    findings = check_records(newest=RECENT_ENTRIES)
    note_findings(findings, check="recent-records", found_by=checked_by)
    return findings
