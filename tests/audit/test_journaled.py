"""Durability `os` and `disk`: acknowledged means kept, through kill -9, once, in order, with no gap."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings as live_settings
from django.db import connection

from audit import cores
from audit.answers import RecordUnavailable
from audit.backlog import MAX_RUN
from audit.domain.append import append_entries
from audit.domain.damage import SERVING
from audit.domain.entry import Entry, Receipt
from audit.domain.integrity import check_chain
from audit.domain.journal import HEADER, Journal, lock_intake
from audit.domain.journaled import pack, recover_journals
from audit.domain.keys import log_keys
from audit.domain.liveness import liveness_key
from audit.domain.lost_journals import report_lost_journals
from audit.domain.template import Filling, Template
from audit.live import LiveRecord
from audit.models import JournalPosition, LogEntry, SealedText
from audit.process_journal import ProcessJournal, open_journal
from audit.sequencer import SequencerFailed
from audit.writer import AuditWriter, append_alike, append_alike_python
from tests.audit.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]


def entry(number: int, *, durability: str = "os") -> Entry:
    return Entry(
        kind="statement.authorised",
        body={"connection": "clinic", "rows": number},
        session_id="s1",
        statement_id=f"a{number}",
        sensitive={"statement": f"select {number}"},
        durability=durability,
    )


def statements() -> list[str]:
    return list(
        LogEntry.objects.filter(kind="statement.authorised").order_by("seq").values_list("statement_id", flat=True)
    )


@pytest.mark.parametrize("durability", ["os", "disk"])
async def test_journaled_entries_reach_the_log_in_order_with_their_texts(tmp_path, durability):
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()

    receipts = [await writer.append(entry(number, durability=durability)) for number in range(300)]
    journals = list(tmp_path.iterdir())
    await writer.close()

    assert {(receipt.seq, receipt.durability) for receipt in receipts} == {(None, durability)}
    assert len(journals) == 1
    assert await in_thread(statements) == [f"a{number}" for number in range(300)]
    assert await in_thread(SealedText.objects.count) == 300
    assert await in_thread(lambda: check_chain(log_keys())) == []
    assert list(tmp_path.iterdir()) == []


async def test_entry_is_in_the_journal_when_append_now_returns(tmp_path):
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()

    receipt = writer.append_now(entry(1))
    written = b"".join(path.read_bytes() for path in tmp_path.glob("*/*.journal"))
    unwritable = writer.append_now(entry(2, durability="disk"))
    await writer.close()

    assert receipt is not None
    assert b'"statement":"a1"' in written
    assert b"select 1" not in written  # the text is sealed
    assert unwritable is None


async def test_statements_and_entries_of_the_database_keep_their_order(tmp_path):
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    for number in range(50):
        writer.append_now(entry(2 * number))
        await writer.append(entry(2 * number + 1, durability="database"))
    await writer.close()

    assert await in_thread(statements) == [f"a{number}" for number in range(100)]


async def test_sequencer_that_is_killed_loses_and_doubles_nothing(tmp_path):
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    for number in range(60):
        writer.append_now(entry(number))
        if number == 29:
            while writer.behind:
                await asyncio.sleep(0.01)
            writer._sequencer._process.kill()
    await writer.close()

    assert await in_thread(statements) == [f"a{number}" for number in range(60)]
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_sequencer_is_given_no_secret_but_the_evidence_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOPWEB_CREDENTIAL_PRIVATE_KEYS", "canary-4711")
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    writer.append_now(entry(1))
    while writer.behind:
        await asyncio.sleep(0.01)

    process = Path(f"/proc/{writer._sequencer._process.pid}")
    told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
    await writer.close()

    assert b"PATH=" in told
    assert b"canary-4711" not in told
    assert live_settings.HOOPWEB_EVIDENCE_KEYS.encode() not in told


async def test_sequencer_of_a_process_that_stays_on_a_core_uses_all_of_them(tmp_path):
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("a machine with one core")
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    cores.stay_on(min(before))
    try:
        await writer.start()
        writer.append_now(entry(1))
        while writer.behind:
            await asyncio.sleep(0.01)
        mine, its = os.sched_getaffinity(0), os.sched_getaffinity(writer._sequencer._process.pid)
        await writer.close()
    finally:
        cores.use(before)

    assert (mine, its) == ({min(before)}, before)


async def test_entry_somebody_waits_for_overtakes_a_burst(tmp_path, monkeypatch):
    monkeypatch.setattr("audit.backlog.OVERTAKE_BEHIND", 5)
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    for number in range(20):
        writer.append_now(entry(number))

    receipt = await writer.append(entry(20, durability="database"))
    await writer.close()

    assert receipt.seq == 1
    assert await in_thread(statements) == ["a20", *(f"a{number}" for number in range(20))]
    assert await in_thread(lambda: check_chain(log_keys())) == []


KILLED = """
import asyncio, os, sys
from pathlib import Path
import django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[2]
from audit.writer import AuditWriter
from tests.audit.test_journaled import entry

async def main():
    writer = AuditWriter(gateway_id="dying", journal_root=Path(sys.argv[1]))
    await writer.start()
    number = 0
    while True:
        await writer.append(entry(number, durability=sys.argv[3]))
        os.write(1, b"%d\\n" % number)
        number += 1
        if number % 50 == 0:
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


@pytest.mark.parametrize("durability", ["os", "disk"])
def test_killed_process_loses_nothing_acknowledged_and_doubles_nothing(tmp_path, durability):
    root = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(root), connection.settings_dict["NAME"], durability],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "hoopweb.settings",
            "HOOPWEB_HOME": str(live_settings.HOOPWEB_HOME),
            "HOOPWEB_EVIDENCE_KEYS": live_settings.HOOPWEB_EVIDENCE_KEYS,
            "HOOPWEB_LOG_SIGNING_KEY": live_settings.HOOPWEB_LOG_SIGNING_KEY,
            "HOOPWEB_DATABASE_URL": live_settings.HOOPWEB_DATABASE_URL,
            "SECRET_KEY": "x",
        },
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(700)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged += [int(line) for line in rest.split() if line]

    for journal in root.iterdir():
        os.close(lock_intake(journal))  # its sequencer ends with the transaction it was in
    already = len(statements())
    recovered = recover_journals(root)
    again = recover_journals(root)

    found = statements()
    assert found[: len(acknowledged)] == [f"a{number}" for number in acknowledged]
    assert len(found) - len(acknowledged) in (0, 1)  # one may have been written and not told yet
    assert recovered == len(found) - already
    assert again == 0
    assert check_chain(log_keys()) == []
    assert list(root.iterdir()) == []


def test_altered_journal_is_reported_and_set_aside(tmp_path):
    async def write() -> None:
        writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
        writer._journal = journal = ProcessJournal(await asyncio.to_thread(open_journal, tmp_path))
        for number in range(3):
            assert writer._kept(pack(writer._prepare(entry(number))))
        await journal.close(taken_in=0)

    asyncio.run(write())
    path = next(tmp_path.glob("*/*.journal"))
    path.write_bytes(path.read_bytes().replace(b'"statement":"a1"', b'"statement":"a9"'))

    assert recover_journals(tmp_path) == 1

    assert statements() == ["a0"]
    assert LogEntry.objects.filter(kind="journal.damaged").count() == 1
    assert [left.name.startswith("damaged-") for left in tmp_path.iterdir()] == [True]
    assert recover_journals(tmp_path) == 0
    assert JournalPosition.objects.count() == 1


def test_journal_of_another_version_says_so(tmp_path):
    directory = tmp_path / STARTED["journal"]
    directory.mkdir()
    header = HEADER.pack(b"hoopweb journal1", STARTED["journal"].encode(), bytes(8), 0, bytes(16))
    (directory / "0000000000000000.journal").write_bytes(header)

    assert recover_journals(tmp_path) == 0

    entry = LogEntry.objects.get(kind="journal.damaged")
    assert "is of another version: start that over it once more" in bytes(entry.canonical).decode()
    assert [left.name for left in tmp_path.iterdir()] == [f"damaged-{STARTED['journal']}"]


STARTED = {"host": socket.gethostname(), "journal": "5a1e0000-0000-4000-8000-000000000000"}


def started(**changed: str) -> None:
    append_entries([Entry("gateway.started", {"subject": "gateway", **STARTED, **changed})], gateway="dead")


def missing() -> int:
    return LogEntry.objects.filter(kind="journal.missing").count()


@pytest.mark.parametrize("left", ["nothing", "an-empty-directory"])
def test_journal_that_was_removed_while_nothing_ran_is_reported_once(tmp_path, left):
    started()
    if left == "an-empty-directory":
        (tmp_path / STARTED["journal"]).mkdir()

    recover_journals(tmp_path)

    assert [report_lost_journals(tmp_path), report_lost_journals(tmp_path)] == [1, 0]
    assert missing() == 1


@pytest.mark.parametrize("why", ["stopped", "elsewhere", "none", "taken-in", "set-aside", "alive"])
def test_journal_that_is_accounted_for_is_not_missed(tmp_path, why):
    """Each a control of the test above."""
    started(**{"elsewhere": {"host": "other"}, "none": {"journal": ""}}.get(why, {}))
    if why == "stopped":
        append_entries([Entry("gateway.stopped", {"subject": "gateway"})], gateway="dead")
    if why == "taken-in":
        append_entries([Entry("journal.recovered", {"journal": STARTED["journal"], "entries": 0})])
    if why == "set-aside":
        (tmp_path / f"damaged-{STARTED['journal']}").mkdir()
    lives = connection.copy()
    try:
        if why == "alive":
            with lives.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_lock(%s)", [liveness_key("dead")])
        assert report_lost_journals(tmp_path) == 0
    finally:
        lives.close()


def test_journal_of_a_killed_process_with_nothing_new_in_it_is_accounted_for(tmp_path):
    async def write() -> str:
        writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
        writer._journal = journal = ProcessJournal(await asyncio.to_thread(open_journal, tmp_path))
        await journal.close(taken_in=-1)
        return journal.directory.name

    started(journal=asyncio.run(write()))

    assert recover_journals(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    assert report_lost_journals(tmp_path) == 0


async def test_without_the_database_the_journal_goes_on_and_database_entries_are_refused(tmp_path):
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()

    def away(*_: object) -> None:
        raise OSError("no database")

    commit, writer._commits.commit = writer._commits.commit, away  # type: ignore[assignment,method-assign]
    assert writer.append_now(entry(0)) is not None
    with pytest.raises(RecordUnavailable):
        await writer.append(entry(1, durability="database"))
    assert writer.append_now(entry(2)) is not None
    writer._commits.commit = commit  # type: ignore[method-assign]
    await writer.close()

    assert await in_thread(statements) == ["a0", "a2"]


@pytest.mark.parametrize("durability", ["os", "disk"])
async def test_attempt_the_journal_cannot_have_is_recorded_by_the_log(tmp_path, monkeypatch, durability):
    """An agent may pad a statement past the journal's bound: its denial must be in the record all the same."""
    monkeypatch.setattr("audit.domain.journal.MAX_RECORD_BYTES", 4096)
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    padded = Entry(
        kind="statement.denied",
        body={"connection": "clinic", "code": "rejected-by-database"},
        session_id="s1",
        statement_id="padded",
        sensitive={"statement": "select ssn_ " + "/*" + os.urandom(8 << 20).hex() + "*/"},
        durability=durability,
    )

    receipt = await writer.append(padded)
    await writer.close()

    assert receipt.durability == "database"
    assert await in_thread(lambda: LogEntry.objects.get(kind="statement.denied").statement_id) == "padded"


async def test_name_too_long_for_an_index_stops_no_journal(tmp_path):
    """BigQuery's paths may be this long; an entry the log refuses would hold up all behind it, after a restart too."""
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    path = os.urandom(4000).hex()
    body = {"connection": "lake", "columns_read": [f"project.set.table.{path}"], "rule": path}

    writer.append_now(Entry("statement.authorised", body, session_id="s1", statement_id="long", durability="os"))
    writer.append_now(entry(1))
    await writer.close()

    assert await in_thread(statements) == ["long", "a1"]


async def test_backlog_of_a_journal_keeps_no_commit_waiting(tmp_path, monkeypatch):
    """The sequencer may be in the middle of thousands of entries: a statement of the database goes beside it."""
    monkeypatch.setattr("audit.backlog.OVERTAKE_BEHIND", 5)
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    answered = asyncio.Event()

    async def never(*_: object, **__: object) -> int:
        await answered.wait()
        raise SequencerFailed("ended")

    real, writer._sequencer.take_in = writer._sequencer.take_in, never  # type: ignore[union-attr,method-assign]
    for number in range(20):
        writer.append_now(entry(number))
    await asyncio.sleep(0.2)  # the sequencer has them

    receipts = [await asyncio.wait_for(writer.append(entry(number, durability="database")), 9) for number in (20, 21)]
    writer._sequencer.take_in = real  # type: ignore[union-attr,method-assign]
    answered.set()
    await writer.close()

    assert [receipt.seq for receipt in receipts] == [1, 2]
    assert await in_thread(statements) == ["a20", "a21", *(f"a{number}" for number in range(20))]
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_what_a_journal_could_not_have_overtakes_nothing(tmp_path, monkeypatch):
    """Its statement's first entry may be in the journal: what ended must not stand before what began."""
    monkeypatch.setattr("audit.backlog.OVERTAKE_BEHIND", 5)
    monkeypatch.setattr("audit.writer.MAX_BEHIND", 20)
    monkeypatch.setattr("audit.writer.MAX_KEPT", 20)
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    for number in range(20):
        assert writer.append_now(entry(number)) is not None

    writer.append_later(entry(20))  # no room: the log must have it
    receipt = await writer.append(entry(21, durability="database"))
    await writer.close()

    found = await in_thread(statements)
    assert receipt.seq == 1
    assert found == ["a21", *(f"a{number}" for number in range(21))]


async def test_entries_of_a_template_are_answered_when_they_are_durable(tmp_path):
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    answers: list[object] = []

    for number, durability in enumerate(["disk", "database", "disk"]):
        whole = entry(number, durability=durability)
        filling = Filling(whole.statement_id, sensitive=whole.sensitive)
        writer.append_soon(Template(whole), filling, lambda whole=whole: whole, answers.append)
    told_at_once = list(answers)
    while len(answers) < 3:
        await asyncio.sleep(0.01)
    await writer.close()

    assert told_at_once == []
    assert sorted(answer.durability for answer in answers) == ["database", "disk", "disk"]
    assert await in_thread(statements) == ["a0", "a1", "a2"]


async def test_disk_that_fails_answers_that_nothing_may_run(tmp_path, monkeypatch):
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()

    def fails(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fdatasync", fails)
    whole = entry(1, durability="disk")
    answers: list[object] = []
    writer.append_soon(Template(whole), Filling("a1", sensitive=whole.sensitive), lambda: whole, answers.append)
    with pytest.raises(RecordUnavailable):
        await writer.append(entry(2, durability="disk"))
    monkeypatch.undo()
    receipts = [await writer.append(entry(3, durability=durability)) for durability in ("disk", "os")]
    writer.append_soon(Template(whole), Filling("a4", sensitive=whole.sensitive), lambda: whole, answers.append)
    while len(answers) < 2:
        await asyncio.sleep(0.01)
    await writer.close()

    assert [type(answer) for answer in answers] == [RecordUnavailable, Receipt]
    # What was lost may have been before them: nothing is in the journal that the log does not have as well.
    assert [receipt.durability for receipt in (*receipts, answers[1])] == ["database"] * 3


def prepare_writer(writer: AuditWriter, root: Path, **options: int) -> None:
    """A writer with a journal, and nobody who takes it into a log."""
    journal = Journal(root, journal_id="j" * 36, key=bytes(32), key_id=bytes(8), **options)
    writer._journal = ProcessJournal(journal)
    writer._tasks = [None]
    writer._sealer = SimpleNamespace(_current=None, seal=lambda plaintext, bound_to: bound_to + plaintext)


@pytest.mark.skipif(append_alike is append_alike_python, reason="nobody compiled it")
@pytest.mark.parametrize("durability", ["os", "disk"])
async def test_the_usual_course_leaves_the_same_journal_as_the_ordinary_way(tmp_path, monkeypatch, durability):
    """The same bytes, chained the same, whoever put which one there."""
    journals = []
    for name, door in (("compiled", append_alike), ("interpreted", append_alike_python)):
        monkeypatch.setattr("audit.writer.append_alike", door)
        writer = AuditWriter(gateway_id="g1")
        prepare_writer(writer, tmp_path / name, segment_bytes=4096)
        template = Template(replace(entry(1, durability=durability), sensitive=None), blanks=("rows",))
        for number in range(40):  # over several segments
            filling = Filling(f"a{number}", (b"%d" % number,), at_us=1)
            assert writer.append_like_later(template, filling)
        run = writer._backlog.runs[-1]
        assert (writer.behind, run.end, run.entries) == (40, writer._journal.end, 40)
        journals.append([path.read_bytes() for path in sorted((tmp_path / name).rglob("*.journal"))])
        await writer._journal.close(taken_in=0)

    compiled, interpreted = (b"".join(journal) for journal in journals)
    assert len(journals[0]) > 1
    assert compiled == interpreted


@pytest.mark.skipif(append_alike is append_alike_python, reason="nobody compiled it")
async def test_the_usual_course_leaves_alone_what_is_not_usual(tmp_path):
    writer = AuditWriter(gateway_id="g1")
    template = Template(entry(1), blanks=("rows",))
    filling = Filling("a1", (b"1",))
    assert not append_alike(writer, template, filling, writer.most_behind)  # no journal

    prepare_writer(writer, tmp_path / "j")
    assert not append_alike(writer, template, filling, writer.most_behind)  # no run yet
    assert writer.append_like(template, filling) is not None
    assert append_alike(writer, template, filling, writer.most_behind)

    before = writer._journal.end
    backlog = writer._backlog
    for owner, name, value in (
        (writer, "_closing", True),
        (writer, "_tasks", []),
        (backlog, "behind", writer.most_behind),
        (backlog, "numbered", 1),
        (backlog.runs[-1], "entries", MAX_RUN),
    ):
        kept = getattr(owner, name)
        setattr(owner, name, value)
        assert not append_alike(writer, template, filling, writer.most_behind), name
        setattr(owner, name, kept)
    assert not append_alike(
        writer, Template(entry(1, durability="database"), blanks=("rows",)), filling, writer.most_behind
    )
    assert writer._journal.end == before
    await writer._journal.close(taken_in=0)


@pytest.mark.skipif(append_alike is append_alike_python, reason="nobody compiled it")
async def test_the_usual_course_goes_on_while_the_next_segment_is_made(tmp_path, monkeypatch):
    """Only who has it made goes the ordinary way: it takes as long as a disk does."""
    writer = AuditWriter(gateway_id="g1")
    prepare_writer(writer, tmp_path / "j", segment_bytes=8192)
    journal, made = writer._journal.journal, threading.Event()
    make = journal.make_spare
    monkeypatch.setattr(journal, "make_spare", lambda: made.wait(30) and make())
    template, filling = Template(entry(1), blanks=("rows",)), Filling("a1", (b"1",))
    while not journal.wants_spare:
        assert writer.append_like(template, filling) is not None
    assert writer._journal._making_spare is not None

    assert append_alike(writer, template, filling, writer.most_behind)

    made.set()
    await asyncio.wait({writer._journal._making_spare})
    await asyncio.sleep(0)
    assert append_alike(writer, template, filling, writer.most_behind)
    await writer._journal.close(taken_in=0)


async def test_nothing_is_journaled_over_a_damaged_log(tmp_path, monkeypatch):
    writer = AuditWriter(gateway_id="g1")
    prepare_writer(writer, tmp_path / "j")
    template, live = Template(entry(1), blanks=("rows",)), LiveRecord(writer)
    live._waiting = [{}] * 500
    assert writer.append_like(template, Filling("a1", (b"1",))) is not None
    if live.alike is not None:
        assert live.alike.append(template, Filling("a2", (b"2",)), lambda: entry(2), True)

    monkeypatch.setattr(SERVING, "stopped", True)

    assert writer.append_like(template, Filling("a3", (b"3",))) is None
    if live.alike is not None:
        assert not live.alike.append(template, Filling("a4", (b"4",)), lambda: entry(4), True)
        assert live.alike.append(template, Filling("a2", (b"5",)), lambda: entry(2), False)  # its end is kept
    await writer._journal.close(taken_in=0)
