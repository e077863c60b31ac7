"""What runs by itself costs what is new, however long the log is. Counted in rows read, never in time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from audit.domain import anchor, partitions, records_check
from audit.domain.anchor import Anchored, anchor_file, anchored, anchored_now, publish
from audit.domain.append import append_entries
from audit.domain.check import check_evidence
from audit.domain.checkpoints import sign_checkpoint
from audit.domain.entry import Entry
from audit.domain.keyring import KeyRing
from audit.domain.keys import log_signer
from audit.domain.note import Checkpoint as SignedCheckpoint
from audit.domain.places import place_about
from audit.domain.records_check import check_records
from audit.domain.search import EntrySearch, StatementSearch, find_entries, find_statements
from audit.domain.startup import finish_unfinished
from audit.models import Checkpoint, LogEntry, SessionRecord, StatementRecord
from tests.audit.factories import authorised, completed, opened
from tests.rows import reading, rows_read

MANY = 1_000  # statements
STATEMENTS, ENTRIES = "audit_statementrecord", "audit_logentry"


@pytest.fixture
def long_log(db) -> None:
    write_long_log()


def write_long_log(statements: int = MANY) -> None:
    """Sessions of fifty statements, all of one gateway, and what the planner knows of them."""
    for session in range(statements // 50):
        name = f"s{session:02}"  # names follow time, as real ones do
        pairs = [(authorised(f"{name}-{at}", name), completed(f"{name}-{at}", name)) for at in range(50)]
        append_entries([opened(name), *(entry for pair in pairs for entry in pair)], gateway="g1")
    known_to_the_planner()


def known_to_the_planner() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT gin_clean_pending_list('audit_statement_touched')")
        cursor.execute(f"ANALYZE {STATEMENTS}, {ENTRIES}, audit_sessionrecord, audit_checkpoint")


@pytest.fixture
def read_of_anchors(monkeypatch) -> list[int]:
    """How many characters of the anchor file were looked at, each time."""
    looked: list[int] = []

    def counted(stream: str) -> list[str]:
        looked.append(len(stream))
        return split(stream)

    split = anchor.split_notes
    monkeypatch.setattr(anchor, "split_notes", counted)
    return looked


# --- anchors: a note a minute, for years ---


def note(at: int) -> str:
    signer = log_signer()
    return signer.sign(SignedCheckpoint(signer.name, at, bytes([at % 251]) * 32, (f"time {at}",)).text())


@pytest.mark.parametrize("block", [1, 7, 100, 1_000, 1 << 16])
@pytest.mark.parametrize("left_behind", ["", "half a note", "\n\n\n", "\u2014 x y\n\u2014 z", "\u2014 z\n\u00e9\n\n"])
def test_anchored_notes_are_the_same_from_either_end(db, monkeypatch, block, left_behind):
    monkeypatch.setattr(anchor, "_BLOCK", block)
    origin = log_signer().name
    for at in range(9):
        publish(note(at), origin=origin)
    path = anchor_file(origin)
    path.write_text(left_behind + path.read_text(encoding="utf-8") + left_behind, encoding="utf-8")

    assert list(anchored_now(origin).newest_first()) == anchored(origin)[::-1]


def test_what_is_anchored_afterwards_is_not_among_what_was_anchored_then(db):
    origin = log_signer().name
    publish(note(1), origin=origin)
    then = anchored_now(origin)
    publish(note(2), origin=origin)

    assert list(then.newest_first()) == [note(1)]
    assert list(Anchored(Path("/nowhere/notes"), 5).newest_first()) == []


def test_signing_reads_the_end_of_the_anchor_file(db, read_of_anchors):
    sign_checkpoint()
    origin = log_signer().name
    path = anchor_file(origin)
    path.write_text((note(0) + "\n") * 2_000 + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert path.stat().st_size > 4 * anchor._BLOCK
    read_of_anchors.clear()

    append_entries([opened()])
    sign_checkpoint()

    assert 0 < sum(read_of_anchors) <= anchor._BLOCK


# --- checks of what is new ---


def test_incremental_check_verifies_the_checkpoints_since_the_last(db, monkeypatch, read_of_anchors):
    for at in range(41):
        append_entries([opened(f"s{at}-{number}") for number in range(50)])
        sign_checkpoint()
    assert check_evidence(checked_by="test").findings == ()
    opened_notes: list[str] = []
    verify = KeyRing.checkpoint
    monkeypatch.setattr(KeyRing, "checkpoint", lambda ring, text: opened_notes.append(text) or verify(ring, text))

    found = check_evidence(checked_by="test", incremental=True)

    assert found.findings == ()
    assert found.after > 1_000
    assert len(opened_notes) < 30


def test_incremental_check_finds_a_new_checkpoint_that_was_removed(db):
    for at in range(30):
        append_entries([opened(f"s{at}-{number}") for number in range(50)])
        sign_checkpoint()
    assert check_evidence(checked_by="test").findings == ()
    newer = [sign_checkpoint() for at in range(2) if append_entries([opened(f"n{at}")])]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("DELETE FROM audit_checkpoint WHERE id = %s", [newer[0].pk])
        cursor.execute("SET LOCAL session_replication_role = origin")

    (finding,) = check_evidence(checked_by="test", incremental=True).findings

    assert (finding.seq, finding.kind) == (newer[0].size, "checkpoint-missing")


def test_newest_records_are_compared_without_reading_the_others(long_log):
    append_entries([opened("late"), authorised("l1", "late"), completed("l1", "late")])

    with reading(STATEMENTS, "audit_sessionrecord", most=150):
        assert check_records(newest=20) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("UPDATE audit_statementrecord SET rows = 9 WHERE id = 'l1'", "record-edited"),
        ("UPDATE audit_statementrecord SET last_seq = 1 WHERE id = 'l1'", "record-missing"),
        ("UPDATE audit_statementrecord SET first_seq = 1, last_seq = 1 WHERE id = 'l1'", "record-missing"),
        ("DELETE FROM audit_statementrecord WHERE id = 'l1'", "record-missing"),
        ("UPDATE audit_sessionrecord SET first_seq = 1 WHERE id = 'late'", "record-missing"),
    ],
)
def test_a_changed_new_record_is_found_all_the_same(long_log, change, kind):
    append_entries([opened("late"), authorised("l1", "late"), completed("l1", "late")])
    with connection.cursor() as cursor:
        cursor.execute(change)

    assert kind in {finding.kind for finding in check_records(newest=20)}


@pytest.mark.django_db(transaction=True)
def test_check_of_records_keeps_no_snapshot_while_it_reads_the_log(monkeypatch):
    """Appends would read every version of the log's head that somebody's snapshot may ask for."""
    for session in range(3):
        append_entries([opened(f"s{session}"), authorised(f"a{session}", f"s{session}")])
    seen: list[tuple[int, object]] = []

    def watched(start: int, end: int):
        for batch in batches(start, end):
            yield batch
            seen.append((end - start, snapshot_of_this_process()))
            if len(seen) == 1:
                append_beside()

    batches = records_check._batches
    monkeypatch.setattr(records_check, "_batches", watched)

    assert check_records() == []

    assert [entries for entries, _ in seen] == [6, 2]  # what came meanwhile is in both readings
    assert seen[0][1] is None


def snapshot_of_this_process() -> object:
    """The oldest transaction its connection keeps others' rows for, as another connection sees it."""
    pid = connection.connection.info.backend_pid
    with ThreadPoolExecutor(1) as other:
        return other.submit(_asked, "SELECT backend_xmin::text FROM pg_stat_activity WHERE pid = %s", pid).result()


def _asked(question: str, value: int) -> object:
    try:
        with connection.cursor() as cursor:
            cursor.execute(question, [value])
            return cursor.fetchone()[0]
    finally:
        connection.close()


def append_beside() -> None:
    """By another connection, as a gateway does: this one finds the check's twins of the tables."""

    def append() -> None:
        try:
            append_entries([completed("a0", "s0"), authorised("late", "s0")])
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        other.submit(append).result()


def test_a_check_that_fails_leaves_no_twins_of_the_tables(db, monkeypatch):
    append_entries([opened(), authorised("a1")])
    monkeypatch.setattr(records_check, "_read", lambda seq, canonical: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        check_records()

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname = 'audit_statementrecord'")
        assert cursor.fetchone() == (1,)


# --- what else looks at the log now and then ---


def test_how_wide_partitions_are_is_asked_of_few_entries(long_log):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE audit_logentry SET at = at - interval '60 days' WHERE seq <= 1500")
        cursor.execute("SET LOCAL session_replication_role = origin")
    known_to_the_planner()

    with reading(ENTRIES, most=100):
        partitions._width()


def test_the_place_of_a_moment_is_found_among_entries_of_any_age(db):
    now = datetime.now(UTC)
    for days in range(40, 0, -1):
        at_us = int((now - timedelta(days=days)).timestamp() * 1e6)
        append_entries([Entry(kind="session.opened", session_id=f"d{days}", body={}, at_us=at_us)])

    assert place_about(now - timedelta(days=30, hours=1)) == 10
    assert place_about(now) == 40
    assert place_about(now - timedelta(days=400)) == 0


def test_where_one_cannot_be_made_appends_do_not_wait_for_another_try_at_once(db, monkeypatch, caplog):
    monkeypatch.setattr(partitions._Refused, "at_s", float("-inf"))
    monkeypatch.setattr(partitions, "stated_size", lambda: 100_000)
    monkeypatch.setattr(partitions, "place_about", lambda moment: 0)
    parameters = connection.get_connection_params()
    reader = psycopg.connect(**{name: parameters[name] for name in ("host", "port", "user", "password", "dbname")})
    with reader:
        for table in partitions.TABLES:  # as a dump does, for as long as it takes
            reader.execute(f"LOCK TABLE {table}_rest IN ACCESS SHARE MODE")
        assert partitions.extend_partitions() == 0
        tries = caplog.text.count("partition not made now")
        assert tries
        assert partitions.extend_partitions() == 0
        assert caplog.text.count("partition not made now") == tries
    reader.close()
    monkeypatch.setattr(partitions._Refused, "at_s", float("-inf"))

    assert partitions.extend_partitions() == 2


def test_what_a_dead_gateway_left_is_found_without_reading_all_it_did(db):
    write_long_log(3_000)
    SessionRecord.objects.exclude(pk="s59").update(closed_at=datetime.now(UTC))
    StatementRecord.objects.filter(session_id="s01").update(recording="hmac-sha256:ab")
    StatementRecord.objects.filter(pk="s59-49").update(recording="hmac-sha256:cd")
    known_to_the_planner()

    with reading(STATEMENTS, most=400):
        finish_unfinished(["g1"])

    assert [entry.statement_id for entry in LogEntry.objects.filter(kind="recording.lost")] == ["s59-49"]


def test_who_has_not_been_here_for_long_is_found_without_reading_what_came_since(db):
    """Theirs stand between those of others, as they do: the planner takes going back through all of them for cheap."""
    for batch in range(20):
        append_entries([said_by(f"agent-{at % 4}", f"e{batch:02}-{at:02}") for at in range(100)])
    for batch in range(30):
        append_entries([said_by(f"agent-{at % 3}", f"l{batch:02}-{at:02}") for at in range(100)])
    known_to_the_planner()

    with reading(ENTRIES, STATEMENTS, most=300):
        entries = find_entries(EntrySearch(subject="agent-3"))
        more = find_entries(EntrySearch(subject="agent-3"), after=entries.after)
        statements = find_statements(StatementSearch(subject="agent-3"))
        with_connection = find_statements(StatementSearch(subject="agent-3", connection="clinic"))

    assert [row.pk for row in entries.rows] == list(range(2000, 1800, -4))
    assert [row.pk for row in more.rows] == list(range(1800, 1600, -4))
    assert [row.first_seq for row in statements.rows] == list(range(2000, 1800, -4))
    assert statements.rows == with_connection.rows


def said_by(subject: str, statement: str) -> Entry:
    body = {**authorised(statement).body, "subject": subject}
    return Entry(kind="statement.authorised", session_id="s1", statement_id=statement, body=body)


def test_rows_are_counted(long_log):
    """The counters these tests rest on do count."""
    before = rows_read(STATEMENTS)
    assert StatementRecord.objects.filter(command_tag="nothing").count() == 0
    assert rows_read(STATEMENTS) - before >= MANY
    assert Checkpoint.objects.count() == 0
