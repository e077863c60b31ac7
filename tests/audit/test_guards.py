"""What somebody does to the evidence's tables as wholes is refused by the database, or found and located by the checks.

The guards are against mistakes and injected SQL: whoever owns the tables can remove a trigger or detach a partition.
Then the log's hashes, and what its entries name, say what is gone.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import InternalError, ProgrammingError, connection, transaction

from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.check import check_evidence
from audit.domain.keys import audit_vkey
from audit.domain.note import Verifier
from audit.domain.subject_keys import ensure_subject_key
from audit.domain.verify import Report, Verdict, verify_bundle
from tests.audit.factories import authorised, opened
from tests.audit.test_accounting import met, shown_to
from tests.audit.test_recording_months import recorded
from tests.audit.test_retention import LONG_AGO

TABLES = [
    "audit_logentry",
    "audit_checkpoint",
    "audit_logstate",
    "audit_loghead",
    "audit_journalposition",
    "audit_sealedtext",
    "audit_subjectsighting",
    "audit_recording",
    "audit_recordingchunk",
    "audit_sessionrecord",
    "audit_statementrecord",
]


@pytest.fixture(autouse=True)
def evidence(db: None) -> None:
    """Entry 1 makes the key of subjects; 2 opens a session, 3 is a statement, 4 and 5 show a patient, 6 a result."""
    ensure_subject_key()
    append_entries([opened(), authorised("a0"), met("a1"), shown_to("a1", "4711")])
    recorded("a2", LONG_AGO)


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def found() -> dict[str, int]:
    """Kinds of damage and the first place of each."""
    findings = check_evidence(checked_by="test").findings
    return {finding.kind: finding.seq for finding in reversed(findings)}


@pytest.mark.parametrize("table", TABLES)
def test_no_table_of_the_evidence_can_be_emptied(table: str):
    with pytest.raises((InternalError, ProgrammingError), match="append-only: TRUNCATE"), transaction.atomic():
        run(f"TRUNCATE {table} CASCADE")

    assert found() == {}


TEXTS, SUBJECTS, RESULTS = "audit_sealedtext", "audit_subjectsighting", "audit_recordingchunk"
MISSED = {TEXTS: ("text-missing", 3), SUBJECTS: ("subject-missing", 5), RESULTS: ("recording-edited", 6)}
ATTACKS = ["ALTER TABLE {0} DETACH PARTITION {0}_p0", "DROP TABLE {0}_p0", "TRUNCATE {0}_p0"]


@pytest.mark.parametrize("attack", ATTACKS, ids=["detached", "dropped", "emptied"])
@pytest.mark.parametrize("table", MISSED)
def test_a_partition_that_is_taken_away_is_found_and_located(table: str, attack: str, tmp_path: Path):
    kind, seq = MISSED[table]
    assert found() == {}  # the control
    run(attack.format(table))

    assert found()[kind] == seq
    report = exported(tmp_path)
    if table == SUBJECTS:  # an index: what it is made of lies sealed beside the entries, and that is what is exported
        assert report.verdict is Verdict.INTACT
    else:
        assert report.verdict is Verdict.TAMPERED
        assert (kind, seq) in {(finding.kind, finding.seq) for finding in report.findings}


def exported(tmp_path: Path) -> Report:
    with (tmp_path / "bundle").open("wb") as out:
        write_bundle(out, scope=Scope(), with_text=True, requested_by="test")
    return verify_bundle(tmp_path / "bundle", keys=[Verifier.parse(audit_vkey())])


UNGUARDED = "ALTER TABLE audit_logentry DISABLE TRIGGER USER"


@pytest.mark.parametrize(
    ("attack", "kind", "seq"),
    [
        ("UPDATE audit_logentry SET canonical = '{}' WHERE seq = 3", "edited", 3),
        ("TRUNCATE audit_logentry", "truncated", 1),
    ],
)
def test_a_trigger_that_is_removed_leaves_the_log_defended_by_its_hashes(
    tmp_path: Path, attack: str, kind: str, seq: int
):
    run(UNGUARDED, attack)

    report = exported(tmp_path)

    assert report.verdict is Verdict.TAMPERED
    assert (kind, seq) in {(finding.kind, finding.seq) for finding in report.findings}
