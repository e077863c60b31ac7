"""`audit_check` and damage: recordings, columns and records compared with the log, and what a finding means."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest
from django.core.management import call_command
from django.db import connection

from audit.answers import RecordUnavailable
from audit.domain import damage
from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.check import check_evidence, check_recent
from audit.domain.checkpoints import sign_checkpoint
from audit.domain.contents import check_recordings
from audit.domain.entry import Entry
from audit.domain.keys import log_signer
from audit.domain.session_counts import count_sessions
from audit.domain.startup import finish_unfinished
from audit.domain.subject_keys import erase_subject_key, rotate_subject_key
from audit.domain.verify import Report, Verdict, verify_bundle
from audit.models import LogDamage, LogEntry
from audit.writer import AuditWriter
from tests.audit.factories import authorised, completed, denied, opened
from tests.audit.test_admin import record
from tests.audit.test_tampering import superuser


@pytest.fixture
def recorded(transactional_db) -> str:
    """A session with one recorded result; returns its digest."""
    digest = asyncio.run(record([(b"1", b"***-**-****")] * 3, statement="a1"))
    append_entries([opened(), authorised("a1"), completed("a1", recording=digest), denied("d1")])
    # Old enough for its recording to be expected.
    return digest


def verified(tmp_path) -> Report:
    with (tmp_path / "b").open("wb") as out:
        write_bundle(out, scope=Scope(), with_text=False, requested_by="auditor")
    return verify_bundle(tmp_path / "b", keys=[log_signer().verifier])


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr("audit.domain.contents.SETTLING_S", -5)


def test_result_that_was_read_again_counts_as_a_recording_of_its_own(recorded, tmp_path):
    digest = asyncio.run(record([(b"1", b"***-**-****")], statement="a1"))
    again = replace(completed("a1", recording=digest), kind="statement.read_again")
    append_entries([again])

    report = verified(tmp_path)

    assert report.verdict is Verdict.INTACT
    assert report.recordings is not None
    assert (report.recordings["named"], report.recordings["intact"]) == (2, 2)


def test_intact_evidence_has_no_finding_and_counts_its_recordings(recorded, tmp_path):
    checked = check_evidence(checked_by="auditor")

    assert checked.findings == ()
    assert checked.recordings is not None
    assert (checked.recordings.named, checked.recordings.intact) == (1, 1)
    assert LogEntry.objects.filter(kind="evidence.checked").count() == 1
    report = verified(tmp_path)
    assert report.verdict is Verdict.INTACT
    assert report.recordings is not None
    assert report.recordings["intact"] == 1


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM audit_recordingchunk", "recording-edited"),
        (
            "UPDATE audit_recordingchunk SET data = set_byte(data, 40, 1 + get_byte(data, 40) % 254)",
            "recording-edited",
        ),
        ("DELETE FROM audit_recordingchunk; DELETE FROM audit_recording", "recording-missing"),
        ("UPDATE audit_recording SET digest = 'hmac-sha256:00'", "recording-missing"),
        # Pages look a result up by its statement: elsewhere it would be hidden, a second one could stand in for it.
        ("UPDATE audit_recording SET statement_id = 'other'", "recording-edited"),
        (
            "INSERT INTO audit_recording SELECT 'zz', session_id, statement_id, format, digest, salt_box, plain_bytes,"
            " stored_bytes, chunks, created_at, closed_at FROM audit_recording",
            "recording-edited",
        ),
    ],
)
def test_changed_recording_is_found_by_a_default_bundle(recorded, at_once, tmp_path, statement, kind):
    with connection.cursor() as cursor:
        cursor.execute(statement)

    report = verified(tmp_path)

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (3, kind)


def test_recording_that_a_crash_lost_is_recorded_as_lost_and_no_finding(transactional_db, at_once, tmp_path):
    append_entries([opened(), authorised("a1"), completed("a1", recording="hmac-sha256:ab")], gateway="gone")
    assert [finding.kind for finding in check_recordings(3)[0]] == ["recording-missing"]

    finish_unfinished(["gone"])

    assert LogEntry.objects.filter(kind="recording.lost").count() == 1
    assert verified(tmp_path).verdict is Verdict.INTACT


@pytest.mark.parametrize(
    ("statement", "seq", "kind"),
    [
        ("UPDATE audit_statementrecord SET subject = 'nobody' WHERE id = 'a1'", 2, "record-edited"),
        ("UPDATE audit_statementrecord SET masked = '[]' WHERE id = 'a1'", 2, "record-edited"),
        ("UPDATE audit_sessionrecord SET rows = 0", 1, "record-edited"),
        ("DELETE FROM audit_statementrecord WHERE id = 'd1'", 4, "record-missing"),
        ("DELETE FROM audit_sessionrecord", 1, "record-missing"),
        (
            "CREATE TEMP TABLE t AS SELECT * FROM audit_statementrecord WHERE id = 'a1'; UPDATE t SET id = 'x';"
            " INSERT INTO audit_statementrecord SELECT * FROM t; DROP TABLE t",
            2,
            "record-inserted",
        ),
    ],
)
def test_changed_record_is_located(recorded, statement, seq, kind):
    count_sessions()
    with connection.cursor() as cursor:
        cursor.execute(statement)

    findings = check_recent(checked_by="gateway start")

    assert [(finding.seq, finding.kind) for finding in findings] == [(seq, kind)]
    assert check_evidence(checked_by="auditor").findings == tuple(findings)


@pytest.mark.parametrize(
    "change", ["kind = 'session.opened'", "subject = 'x'", "session_id = ''", "at = at + interval '1 day'"]
)
def test_changed_column_beside_a_leaf_is_located(db, change):
    append_entries([opened(), authorised("a1"), completed("a1"), denied("d1")])
    superuser(f"UPDATE audit_logentry SET {change} WHERE seq = 2")

    found = check_evidence(checked_by="auditor").findings

    assert [(finding.seq, finding.kind) for finding in found] == [(2, "columns-edited")]


def test_records_do_not_depend_on_how_entries_were_batched(db):
    """A hold, then a denial that says less, in one batch and in two: one reading of the log."""
    hold = authorised("h1")
    held = Entry(kind="statement.held", session_id="s1", statement_id="h1", body=hold.body, sensitive=hold.sensitive)
    refused = denied("h1")
    refused = Entry(kind=refused.kind, session_id="s1", statement_id="h1", body={**refused.body, "rule": ""})
    append_entries([opened(), held, refused])

    assert check_evidence(checked_by="auditor").findings == ()


def test_damage_is_kept_until_the_check_finds_it_no_more(db):
    append_entries([opened(), authorised("a1"), completed("a1")])
    superuser("UPDATE audit_statementrecord SET subject = 'nobody'")

    check_recent(checked_by="gateway start")
    check_recent(checked_by="gateway start")

    assert [(row.seq, row.kind) for row in damage.current_damage()] == [(2, "record-edited")]
    assert LogEntry.objects.filter(kind="log.damage_found").count() == 1
    superuser("UPDATE audit_statementrecord SET subject = 'demo-agent'")
    check_recent(checked_by="gateway start")
    assert not damage.current_damage().exists()
    assert LogDamage.objects.count() == 1


@pytest.mark.parametrize("setting", ["alert", "stop"])
def test_damage_stops_serving_only_where_configured(transactional_db, settings, setting):
    settings.HOOPWEB_ON_LOG_DAMAGE = setting
    append_entries([opened(), authorised("a1")])
    superuser_now("UPDATE audit_statementrecord SET subject = 'nobody'")
    check_recent(checked_by="gateway start")
    damage.refresh()
    try:
        if setting == "stop":
            with pytest.raises(RecordUnavailable, match="damaged"):
                asyncio.run(written(authorised("a2")))
        else:
            assert asyncio.run(written(authorised("a2"))).seq
    finally:
        LogDamage.objects.all().delete()
        assert damage.refresh() is False


def test_command_names_each_place_and_exits_1(db):
    append_entries([opened(), authorised("a1"), completed("a1")])
    call_command("audit_check", stdout=(said := io.StringIO()))
    assert said.getvalue().startswith("intact: 3 entries; 0 of 0 recordings opened")
    superuser("UPDATE audit_sessionrecord SET client_address = '10.0.0.1'")

    with pytest.raises(SystemExit) as stop:
        call_command("audit_check", stderr=(said := io.StringIO()))

    assert stop.value.code == 1
    expected = "DAMAGED: entry 1: record-edited: the session's record does not say what the log says"
    assert said.getvalue().strip() == expected


async def written(entry: Entry):
    writer = AuditWriter()
    await writer.start()
    try:
        return await writer.append(entry)
    finally:
        await writer.close()


def superuser_now(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_an_incremental_check_looks_at_what_is_new(db, monkeypatch):
    monkeypatch.setattr("audit.domain.check.OVERLAP", 0)
    append_entries([opened(), authorised("a"), completed("a")])
    sign_checkpoint()
    assert check_evidence(checked_by="test").after == 0
    append_entries([authorised("b"), completed("b")])
    sign_checkpoint()

    second = check_evidence(checked_by="test", incremental=True)

    assert second.after == 3
    assert second.findings == ()
    append_entries([authorised("c")])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_sealedtext WHERE seq = (SELECT max(seq) FROM audit_sealedtext)")
    assert [f.kind for f in check_evidence(checked_by="test", incremental=True).findings] == ["text-missing"]


def test_an_incremental_check_after_a_bad_one_begins_before_it(db, monkeypatch):
    monkeypatch.setattr("audit.domain.check.OVERLAP", 0)
    append_entries([opened(), authorised("a"), completed("a")])
    sign_checkpoint()
    check_evidence(checked_by="test")
    append_entries([authorised("b")])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_sealedtext WHERE seq = 5")
    for _ in range(2):
        assert check_evidence(checked_by="test", incremental=True).findings != ()

    assert damage.current_damage().exists()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM audit_subjectkeyrow WHERE id = (SELECT min(id) FROM audit_subjectkeyrow)", "subject-key-missing"),
        ("UPDATE audit_subjectkeyrow SET erased_at = now(), sealed = ''", "subject-key-missing"),
        (
            "UPDATE audit_subjectkeyrow SET sealed = (SELECT sealed FROM audit_subjectkeyrow ORDER BY id LIMIT 1)"
            " WHERE id = (SELECT max(id) FROM audit_subjectkeyrow)",
            "subject-key-edited",
        ),
    ],
)
def test_a_key_of_subjects_tokens_that_is_gone_is_found(db, statement, kind):
    """Without it every question about its tokens would be answered with "nobody"."""
    for _ in range(2):
        rotate_subject_key(by="admin")
    assert check_evidence(checked_by="auditor").findings == ()

    with connection.cursor() as cursor:
        cursor.execute(statement)

    assert kind in {finding.kind for finding in check_evidence(checked_by="auditor").findings}


def test_a_key_that_was_erased_with_an_entry_is_no_finding(db):
    first, _ = rotate_subject_key(by="admin"), rotate_subject_key(by="admin")

    erase_subject_key(key_id=first, by="admin")

    assert check_evidence(checked_by="auditor").findings == ()
