"""The head of the log: found as fast whoever keeps a snapshot open, followed once, and counted once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from audit.domain import session_counts
from audit.domain.append import POSITION, JournalSpan, append_entries, append_prepared
from audit.domain.chain import link, prepare
from audit.domain.check import check_evidence
from audit.domain.checkpoints import sign_checkpoint
from audit.domain.head import HEAD, LOCK, AskedHead, LogShrank, lock_head, read_head
from audit.domain.integrity import check_chain
from audit.domain.keys import log_keys
from audit.domain.records_check import check_records
from audit.domain.sealing import evidence_sealer
from audit.domain.sending import ask
from audit.domain.session_counts import count_sessions
from audit.models import LogEntry, LogHead, LogState, SessionRecord
from audit.one_trip import OneTrip
from tests.audit.factories import authorised, completed, denied, opened
from tests.audit.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

APPENDS = 1_500
OWN = "beside-a-snapshot"  # no other test's rows are in its way
SESSION = "SELECT statements FROM audit_sessionrecord WHERE id = %s"


def other() -> psycopg.Connection[tuple[object, ...]]:
    known = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return psycopg.connect(**{name: known[name] for name in names if name in known})


def wait_for_a_waiter() -> None:
    """Return when somebody waits for a lock. Asked from within the transaction that holds it."""
    deadline = time.monotonic() + 60
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
                " AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            if cursor.fetchone() != (0,):
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits for the log")


@pytest.fixture
def snapshot() -> Iterator[None]:
    """Somebody reads the whole database, as pg_dump does, and is not done yet."""
    append_entries([opened(OWN)])
    with other() as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM audit_logentry")
        yield


def pages(question: str, *values: str) -> int:
    """How many pages the database looks at to answer it."""
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {question}", values)
        found = cursor.fetchone()[0]
        cursor.execute("RESET enable_seqscan")
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def counts() -> list[tuple[int, int, int, int]]:
    return list(SessionRecord.objects.order_by("id").values_list("statements", "denied", "rows", "last_seq"))


def superuser(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement)


def test_what_an_append_looks_up_is_found_at_once_while_a_snapshot_is_kept(snapshot: None) -> None:
    for at in range(APPENDS):
        entry = prepare(denied(f"d{at}", OWN), gateway="g1", sealer=evidence_sealer())
        append_prepared([entry], span=JournalSpan(OWN, at, at + 1))
        if at % 100 == 0:
            count_sessions()

    assert LogEntry.objects.count() == APPENDS + 1
    # Written over each time, their versions would be on fifty pages and more.
    assert pages(HEAD) < 10
    assert pages(POSITION, OWN) < 10
    assert pages(SESSION, OWN) < 10


def test_counting_goes_on_from_where_it_was_while_a_snapshot_is_kept(snapshot: None) -> None:
    for _ in range(5):
        for at in range(20):
            append_entries([denied(f"d{at}", OWN)])
        count_sessions()

    assert LogHead.objects.count() == 1
    assert session_counts._PLACE.after == LogHead.objects.get().after
    assert counts() == [(100, 100, 0, 101)]


def test_sessions_count_what_the_log_says_however_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_counts, "_MOST", 3)
    for session in ("s1", "s2"):
        append_entries([opened(session)])
        for at in range(5):
            append_entries([authorised(f"{session}-{at}", session), completed(f"{session}-{at}", session)])
        append_entries([denied(f"{session}-d", session)])

    assert counts() == [(0, 0, 0, 1), (0, 0, 0, 13)]
    assert check_records() == []  # which knows what is not counted yet
    for _ in range(2):
        count_sessions()
        assert counts() == [(6, 1, 10, 12), (6, 1, 10, 24)]
        assert check_records() == []
    assert LogHead.objects.values_list("size", "counts").get() == (24, [])


def test_sessions_are_counted_once_while_others_append_and_count() -> None:
    append_entries([opened()])

    def appends(name: str) -> None:
        try:
            for at in range(25):
                append_entries([authorised(f"{name}{at}"), completed(f"{name}{at}")])
                count_sessions()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(appends, "abcd"))
    count_sessions()

    assert counts() == [(100, 0, 200, 201)]
    assert (check_chain(log_keys()), check_records()) == ([], [])


def test_a_log_that_was_put_back_is_counted_from_its_beginning() -> None:
    append_entries([opened()])
    for at in range(5):
        append_entries([denied(f"d{at}")])
    count_sessions()
    superuser("DELETE FROM audit_logentry; DELETE FROM audit_sealedtext; DELETE FROM audit_statementrecord")
    superuser("DELETE FROM audit_sessionrecord; DELETE FROM audit_loghead")

    append_entries([opened()])
    append_entries([denied("d1")])
    count_sessions()

    assert counts() == [(1, 1, 0, 2)]


def test_numbers_that_somebody_altered_before_they_are_counted_are_found() -> None:
    append_entries([opened(), denied("d1")])
    sign_checkpoint()
    superuser("UPDATE audit_loghead SET counts = jsonb_set(counts, '{0,denied}', '0')")

    assert [(finding.seq, finding.kind) for finding in check_evidence(checked_by="test").findings] == [
        (1, "record-edited")
    ]
    count_sessions()
    assert [(finding.seq, finding.kind) for finding in check_evidence(checked_by="test").findings] == [
        (1, "record-edited")
    ]


def test_no_place_is_followed_twice() -> None:
    append_entries([opened()])
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO audit_loghead SELECT * FROM audit_loghead")


@pytest.fixture
def strict_server() -> Iterator[None]:
    """Its owner made every transaction serializable."""
    name = connection.get_connection_params()["dbname"]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
        connection.close()
        yield
        cursor = connection.cursor()
        cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")
    connection.close()


def test_entries_of_many_are_written_whatever_the_server_takes_for_isolation(strict_server: None) -> None:
    append_entries([opened("s1")])

    def write(start: int) -> None:
        try:
            for at in range(start, start + 10):
                append_entries([denied(f"d{at}", "s1")])
                count_sessions()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(0, 40, 10)))
    count_sessions()

    with other() as unasked:
        assert unasked.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
    assert LogEntry.objects.count() == 41
    assert counts() == [(40, 40, 0, 41)]
    assert check_chain(log_keys()) == []


def test_a_log_that_lost_its_state_is_not_built_upon() -> None:
    append_entries([opened()])
    superuser("DELETE FROM audit_logstate")

    with pytest.raises(LogShrank, match="its state is gone"):
        append_entries([denied("d1")])

    assert LogEntry.objects.count() == 1
    assert not LogState.objects.exists()


@pytest.mark.parametrize("head_is_gone", [False, True])
async def test_who_waited_for_the_lock_while_others_appended_writes_nothing(head_is_gone: bool) -> None:
    """It sees the log as it was when it began to wait: the head it knew, even where that row is gone by now."""
    await in_thread(append_entries, [opened()])
    head = await in_thread(read_head)
    batch = [prepare(denied("late"), gateway="g1", sealer=evidence_sealer())]
    leaves, after = link(head, batch)

    def overtakes() -> None:
        with transaction.atomic():
            lock_head()
            locked.set()
            wait_for_a_waiter()
            append_entries([denied("first")])
            append_entries([denied("second")])
            if head_is_gone:
                count_sessions()

    with contextlib.closing(other()) as own:
        own.autocommit = True
        trip, locked = OneTrip(own), Event()
        overtaking = asyncio.create_task(in_thread(overtakes))
        await asyncio.to_thread(locked.wait)
        appending = asyncio.create_task(trip.append(head, after, leaves, batch))
        await overtaking
        if head_is_gone:
            with pytest.raises(psycopg.errors.UniqueViolation):
                await appending
        else:
            assert await appending == await in_thread(read_head)

    said = await in_thread(lambda: list(LogEntry.objects.order_by("seq").values_list("statement_id", flat=True)))
    assert said == ["", "first", "second"]
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


def test_whoever_reads_the_numbers_does_not_wait_for_who_keeps_the_log_locked() -> None:
    append_entries([opened(), denied("d1")])
    with other() as keeper:
        keeper.execute("SELECT 1 FROM audit_logstate FOR UPDATE")
        count_sessions()
        before = counts()

    count_sessions()
    assert (before, counts()) == ([(0, 0, 0, 1)], [(1, 1, 0, 2)])


def test_a_log_that_another_made_between_the_lock_and_the_look_is_gone_on_with() -> None:

    def makes() -> None:
        append_entries([opened()])
        connection.close()

    with transaction.atomic():
        nothing_to_lock = ask(LOCK)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(makes).result()
        asked = AskedHead(nothing_to_lock, ask(HEAD))

        assert asked.head().size == 1
        append_entries([denied("d1")])

    assert (check_chain(log_keys()), check_records()) == ([], [])
