"""Group commit over a real database: order, failure, and one gapless log under several processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection, transaction

from audit.answers import RecordUnavailable
from audit.domain.append import append_entries, append_prepared
from audit.domain.canonical import EntryRefused
from audit.domain.checkpoints import checkpoint_loop, sign_checkpoint
from audit.domain.entry import Entry
from audit.domain.integrity import check_chain
from audit.domain.keys import log_keys
from audit.domain.liveness import liveness_key
from audit.domain.session_counts import count_sessions
from audit.domain.startup import finish_unfinished, seem_dead
from audit.models import LogEntry, SealedText, SessionRecord, StatementRecord
from audit.writer import AuditWriter
from tests.audit.factories import authorised, completed, denied, opened
from tests.audit.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def kept_plans() -> list[str]:
    """What this thread's connection has prepared."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [text for (text,) in cursor.fetchall()]


async def test_concurrent_appends_get_gapless_receipts_in_the_order_asked():
    writer = AuditWriter(gateway_id="g1")
    await writer.start()

    receipts = await asyncio.gather(*(writer.append(authorised(f"a{at}")) for at in range(100)))
    await writer.close()

    assert [receipt.seq for receipt in receipts] == list(range(1, 101))
    assert {receipt.durability for receipt in receipts} == {"database"}
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_a_receipt_means_the_entry_is_committed_with_its_text_and_record():
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    receipt = await writer.append(authorised("a1"))

    def stored():
        statement = StatementRecord.objects.get(id="a1")
        return (
            LogEntry.objects.get(seq=receipt.seq).kind,
            SealedText.objects.filter(seq=receipt.seq).exists(),
            (statement.status, statement.gateway, statement.rule),
        )

    assert await in_thread(stored) == ("statement.authorised", True, ("running", "g1", "agents-read"))
    await writer.close()


async def test_plans_of_the_ordinary_way_are_kept():
    writer = AuditWriter(gateway_id="g1")
    for number in range(3):
        await writer.append(opened(f"s{number}"))  # never with one statement

    kept = await writer._commits.in_thread(kept_plans)
    await writer.close()

    assert any(text.startswith("INSERT INTO audit_loghead") for text in kept)


async def test_later_entries_are_written_in_order_by_close():
    writer = AuditWriter()
    await writer.append(opened())
    for at in range(20):
        writer.append_later(authorised(f"a{at}"))
        writer.append_later(completed(f"a{at}"))
    await writer.close()

    def stored():
        kinds = list(LogEntry.objects.order_by("seq").values_list("statement_id", "kind"))
        count_sessions()
        session = SessionRecord.objects.get()
        return kinds, (session.statements, session.rows), set(StatementRecord.objects.values_list("status", flat=True))

    kinds, counts, statuses = await in_thread(stored)
    expected = [(f"a{at}", kind) for at in range(20) for kind in ("statement.authorised", "statement.completed")]
    assert kinds == [("", "session.opened"), *expected]
    assert counts == (20, 40)
    assert statuses == {"completed"}


async def until_healthy(writer):
    """A writer that failed refuses until it has written what it owes."""
    async with asyncio.timeout(60):
        while not writer.healthy or writer._backlog.owed or writer._backlog._committing:
            await asyncio.sleep(0.02)


async def test_failed_commit_fails_every_waiter_and_keeps_what_is_owed():
    writer = AuditWriter()
    await writer.append(authorised("a1"))
    await in_thread(sql, "ALTER TABLE audit_sealedtext RENAME TO sealedtext_gone")
    try:
        results = await asyncio.gather(
            *(writer.append(authorised(f"b{at}")) for at in range(5)), return_exceptions=True
        )
        assert {type(result) for result in results} == {RecordUnavailable}
        writer.append_later(denied("owed"))
        await asyncio.sleep(0.3)
        assert not writer.healthy
        with pytest.raises(RecordUnavailable):
            await writer.append(opened("s2"))
    finally:
        await in_thread(sql, "ALTER TABLE sealedtext_gone RENAME TO audit_sealedtext")
    await until_healthy(writer)
    receipt = await writer.append(opened("s3"))
    await writer.close()

    kinds = await in_thread(lambda: list(LogEntry.objects.order_by("seq").values_list("kind", flat=True)))
    assert kinds == ["statement.authorised", "statement.denied", "session.opened"]
    assert receipt.seq == 3


async def test_writer_whose_batch_hangs_is_not_healthy(monkeypatch):
    monkeypatch.setattr("audit.writer.WITHIN_S", 0.3)
    writer = AuditWriter()
    await writer.append(opened())
    locked, done = threading.Event(), threading.Event()

    def hold_the_log():
        with transaction.atomic():
            sql("LOCK audit_loghead")
            locked.set()
            done.wait(30)

    holding = asyncio.create_task(in_thread(hold_the_log))
    await asyncio.to_thread(locked.wait, 30)
    healthy = writer.healthy
    asked = asyncio.create_task(writer.append(opened("s2")))
    await asyncio.sleep(0.6)
    while_it_hangs = writer.healthy
    done.set()
    await asyncio.gather(holding, asked, return_exceptions=True)
    await until_healthy(writer)
    await writer.close()

    assert (healthy, while_it_hangs) == (True, False)


async def test_writer_that_failed_is_healthy_again_though_nobody_asks():
    """A balancer that hears of it sends nobody any more: no entry comes that could show that the log is back."""
    writer = AuditWriter()
    await writer.append(opened())
    await in_thread(sql, "ALTER TABLE audit_logstate RENAME TO logstate_gone")
    try:
        with pytest.raises(RecordUnavailable):
            await writer.append(opened("s2"))
        await asyncio.sleep(0.5)
        while_it_is_gone = writer.healthy
    finally:
        await in_thread(sql, "ALTER TABLE logstate_gone RENAME TO audit_logstate")
    async with asyncio.timeout(20):
        while not writer.healthy:
            await asyncio.sleep(0.02)
    receipt = await writer.append(opened("s3"))
    await writer.close()

    assert not while_it_is_gone
    assert receipt.seq == 2
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_nobody_waits_for_a_log_that_is_tried_again():
    """An attempt that hangs until its time is over is no reason to believe in the next one."""
    writer = AuditWriter()
    await writer.append(opened())
    locked, done = threading.Event(), threading.Event()

    def hold_the_log():
        with transaction.atomic():
            sql("LOCK audit_logstate")
            locked.set()
            done.wait(60)

    holding = asyncio.create_task(in_thread(hold_the_log))
    await asyncio.to_thread(locked.wait, 30)
    writer.append_later(denied("owed"))
    async with asyncio.timeout(30):
        while not (writer._failing and writer._backlog._committing and not writer._backlog.owed):
            await asyncio.sleep(0.01)
    began = time.monotonic()
    with pytest.raises(RecordUnavailable):
        await writer.append(opened("s2"))
    took_s = time.monotonic() - began
    done.set()
    await holding
    await until_healthy(writer)
    await writer.close()

    assert took_s < 1


async def test_writer_whose_loop_died_is_not_healthy():
    writer = AuditWriter()
    await writer.append(opened())
    healthy = writer.healthy
    writer._tasks[0].cancel()
    await asyncio.wait(writer._tasks)
    without_its_loop = writer.healthy
    await writer.close()

    assert (healthy, without_its_loop) == (True, False)


async def test_an_unwritable_entry_fails_alone():
    writer = AuditWriter()

    bad = writer.append(Entry(kind="x", body={"n": 1.5}))  # type: ignore[dict-item]
    results = await asyncio.gather(writer.append(opened()), bad, writer.append(opened("s2")), return_exceptions=True)
    await writer.close()

    assert [type(result).__name__ for result in results] == ["Receipt", "EntryRefused", "Receipt"]
    assert isinstance(results[1], EntryRefused)


async def test_a_commit_whose_answer_was_lost_is_not_written_twice(monkeypatch):
    lost = []

    def answers_late(*args, **kwargs):
        receipts = append_prepared(*args, **kwargs)
        if not lost:
            lost.append(receipts)
            raise ConnectionError("the answer was lost")
        return receipts

    monkeypatch.setattr("audit.log_commits.append_prepared", answers_late)
    writer = AuditWriter()
    writer.append_later(denied("d1"))
    while not lost:
        await asyncio.sleep(0.01)
    await until_healthy(writer)
    receipt = await writer.append(opened())
    await writer.close()

    assert receipt.seq == 2
    assert await in_thread(LogEntry.objects.count) == 2


async def test_a_commit_that_ends_after_its_answer_was_lost_is_not_written_twice(monkeypatch):
    """The server goes on committing (a synchronous standby that hangs) while the client has lost the connection."""
    under_way, may_end = threading.Event(), threading.Event()
    slow: list[threading.Thread] = []

    def committing(*args, **kwargs):
        try:
            with transaction.atomic():
                append_prepared(*args, **kwargs)
                under_way.set()
                may_end.wait(timeout=20)
        finally:
            connection.close()

    def loses_its_answer(*args, **kwargs):
        if slow:
            return append_prepared(*args, **kwargs)
        slow.append(threading.Thread(target=committing, args=args, kwargs=kwargs))
        slow[0].start()
        under_way.wait(timeout=20)
        threading.Timer(1.0, may_end.set).start()  # the writer has tried again by then
        raise ConnectionError("the answer was lost")

    monkeypatch.setattr("audit.log_commits.append_prepared", loses_its_answer)
    writer = AuditWriter()
    writer.append_later(denied("d1"))
    await asyncio.to_thread(may_end.wait, 20)
    await asyncio.to_thread(slow[0].join)
    await writer.close()

    assert await in_thread(LogEntry.objects.count) == 1


async def test_a_shrunken_log_stops_the_writer():
    writer = AuditWriter()
    for at in range(5):
        await writer.append(opened(f"s{at}"))

    def cut():
        sql(
            "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM audit_logentry;"
            "DELETE FROM audit_loghead; COMMIT"
        )

    await in_thread(cut)

    with pytest.raises(RecordUnavailable):
        await writer.append(opened("s9"))
    await writer.close()


@pytest.mark.parametrize("name", ["nul\x00name", "lone\ud800", "\\u0000", "x" * 5000, "emoji😀"])
async def test_no_client_word_makes_an_entry_unwritable(name):
    writer = AuditWriter()

    entry = Entry(kind="session.opened", session_id="s", body={"subject": name, "groups": [name]})
    receipt = await writer.append(entry)
    await writer.close()

    assert receipt.seq == 1
    assert await in_thread(lambda: check_chain(log_keys())) == []


WRITER_PROCESS = """
import asyncio, sys, django
django.setup()
from audit.writer import AuditWriter
from tests.audit.factories import authorised
async def main(name):
    writer = AuditWriter(gateway_id=name)
    await writer.start()
    for batch in range(10):
        await asyncio.gather(*(writer.append(authorised(f"{name}-{batch}-{at}")) for at in range(20)))
    await writer.close()
asyncio.run(main(sys.argv[1]))
"""


def environment(settings) -> dict[str, str]:
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "hoopweb.settings",
        "HOOPWEB_DATABASE_URL": url,
        "HOOPWEB_EVIDENCE_KEYS": settings.HOOPWEB_EVIDENCE_KEYS,
        "HOOPWEB_LOG_SIGNING_KEY": settings.HOOPWEB_LOG_SIGNING_KEY,
    }


def test_two_processes_write_one_gapless_log(settings):
    command = [sys.executable, "-c", WRITER_PROCESS]
    processes = [subprocess.Popen([*command, name], env=environment(settings)) for name in ("g1", "g2")]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]

    assert list(LogEntry.objects.order_by("seq").values_list("seq", flat=True)) == list(range(1, 401))
    assert check_chain(log_keys()) == []
    assert sign_checkpoint().size == 400


def test_processes_that_start_together_settle_what_was_left_once():
    count = 40  # enough for any two that do not wait for each other to meet
    append_entries([entry for at in range(count) for entry in (opened(f"s{at}"), authorised(f"d{at}", f"s{at}"))])
    together = threading.Barrier(3)

    def start() -> int:
        try:
            connection.ensure_connection()
            together.wait(60)
            return finish_unfinished(seem_dead())
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as threads:
        marked = [future.result(60) for future in [threads.submit(start) for _ in range(3)]]

    assert sorted(marked) == [0, 0, count]
    ends = [json.loads(bytes(row.canonical)) for row in LogEntry.objects.filter(kind="statement.completed")]
    closed = [json.loads(bytes(row.canonical)) for row in LogEntry.objects.filter(kind="session.closed")]
    assert sorted(end["statement"] for end in ends) == sorted(f"d{at}" for at in range(count))
    assert sorted(end["session"] for end in closed) == sorted(f"s{at}" for at in range(count))


def holders(gateway_id: str) -> list[int]:
    """The server processes whose connections show that this gateway lives."""
    key = liveness_key(gateway_id) & (2**64 - 1)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s",
            [key >> 32, key & (2**32 - 1)],
        )
        return [row[0] for row in cursor.fetchall()]


def test_quiet_process_whose_database_was_away_is_not_taken_for_dead():
    """Its writer notices with its next commit, which may be hours away: what it runs would be called unfinished."""

    async def held_by(count: int) -> list[int]:
        async with asyncio.timeout(60):
            while len(pids := await in_thread(holders, "quiet")) != count:
                await asyncio.sleep(0.05)
        return pids

    async def main():
        writer = AuditWriter(gateway_id="quiet")
        await writer.start()
        await writer.append(opened("s1"))
        await writer.append(authorised("running", "s1"))
        looking = asyncio.create_task(checkpoint_loop(gateway_id="quiet"))
        for pid in await held_by(2):
            await in_thread(sql, f"SELECT pg_terminate_backend({pid}, 60000)")
        await held_by(1)
        seems = await in_thread(seem_dead)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await writer.close()
        return seems

    assert asyncio.run(main()) == set()


def test_sign_of_life_of_a_machine_that_lost_its_power_is_over_in_two_minutes():
    """A server asks a silent client after two hours, and repeats what it sent for a quarter of an hour."""

    def silence():
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, setting::int FROM pg_settings WHERE name LIKE 'tcp\\_%'")
            return dict(cursor.fetchall())

    async def main():
        writer = AuditWriter(gateway_id="g1")
        await writer.start()
        found = await writer._commits.in_thread(silence)
        await writer.close()
        return found

    found = asyncio.run(main())
    asked_s = found["tcp_keepalives_idle"] + found["tcp_keepalives_interval"] * found["tcp_keepalives_count"]
    assert (asked_s, found["tcp_user_timeout"]) == (120, 120_000)


def test_statements_of_dead_processes_are_marked_unfinished_and_living_ones_left_alone():
    append_entries([opened("s1"), authorised("dead", "s1")], gateway="gone")

    async def main():
        writer = AuditWriter(gateway_id="alive")
        await writer.start()
        await writer.append(opened("s2"))
        await writer.append(authorised("running", "s2"))
        marked = await in_thread(finish_unfinished, ["gone", "alive"])
        again = await in_thread(finish_unfinished, ["gone", "alive"])
        await writer.close()
        return marked, again

    assert asyncio.run(main()) == (1, 0)
    assert dict(StatementRecord.objects.values_list("id", "status")) == {"dead": "unfinished", "running": "running"}
    assert dict(SessionRecord.objects.values_list("id", "close_reason")) == {"s1": "gateway-ended", "s2": ""}
    assert check_chain(log_keys()) == []
