"""The short way into the log, over a real database: the same rows, once, whatever becomes of connection and head."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection, connections

from audit import log_commits, one_trip
from audit.answers import RecordUnavailable
from audit.domain.append import append_entries, append_prepared
from audit.domain.canonical import CanonicalBody, EntryRefused
from audit.domain.chain import link, prepare
from audit.domain.contents import check_texts_and_columns
from audit.domain.entry import Entry
from audit.domain.head import read_head
from audit.domain.integrity import check_chain
from audit.domain.journaled import pack, unpack
from audit.domain.keys import log_keys
from audit.domain.one_statement import MAX_BYTES, fits
from audit.domain.records_check import check_records
from audit.domain.sealing import evidence_sealer
from audit.domain.sending import BULK
from audit.domain.session_counts import count_sessions
from audit.domain.template import Filling, Template
from audit.models import LogEntry, LogHead, SealedText, SessionRecord, StatementRecord
from audit.one_trip import OneTrip
from audit.writer import AuditWriter
from tests.audit.factories import WHO, authorised, completed, denied, opened
from tests.audit.test_bulk import of_statement
from tests.audit.test_bulk import opened as all_opened
from tests.audit.test_writer import sql
from tests.audit.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries each commit had that went the ordinary way, in a thread."""
    sizes: list[int] = []

    def noted(prepared, **kwargs):
        sizes.append(len(prepared))
        return append_prepared(prepared, **kwargs)

    monkeypatch.setattr(log_commits, "append_prepared", noted)
    return sizes


def dsn(**other: object) -> str:
    known = connection.settings_dict
    words = {"host": known["HOST"], "port": known["PORT"], "dbname": known["NAME"], "user": known["USER"]}
    return psycopg.conninfo.make_conninfo(**{**words, "password": known["PASSWORD"], **other})


def stored() -> list[object]:
    count_sessions()
    return [
        list(LogEntry.objects.order_by("seq").values()),
        list(SealedText.objects.order_by("seq").values()),
        list(StatementRecord.objects.order_by("pk").values()),
        list(SessionRecord.objects.order_by("pk").values()),
        list(LogHead.objects.order_by("-after").values("size", "head", "frontier")[:1]),
    ]


def empty() -> None:
    sql(
        "SET session_replication_role = replica;"
        "TRUNCATE audit_logentry, audit_sealedtext, audit_statementrecord, audit_sessionrecord;"
        "DELETE FROM audit_loghead; UPDATE audit_logstate SET log_id = gen_random_uuid();"
        "RESET session_replication_role"
    )


@pytest.mark.parametrize("journaled", [False, True])
async def test_one_statement_leaves_what_the_ordinary_way_leaves(journaled):
    entries = [entry for number in range(64) for entry in of_statement(number)]
    prepared = [prepare(entry, gateway="g1", sealer=evidence_sealer()) for entry in entries]
    if journaled:
        prepared = [unpack(pack(item)) for item in prepared]
    batches = [prepared[at : at + 1 + at % 5] for at in range(0, len(prepared), 5)]

    def ordinarily():
        append_entries(all_opened())
        for batch in batches:
            append_prepared(batch)
        before = stored()
        empty()
        append_entries(all_opened(), gateway="")
        return before, read_head()

    expected, head = await in_thread(ordinarily)
    with psycopg.connect(dsn(), autocommit=True) as own:
        trip = OneTrip(own)
        for batch in batches:
            assert fits(batch)
            leaves, after = link(head, batch)
            assert await trip.append(head, after, leaves, batch) == after
            head = after

    def compared():
        # The three openings are other entries than before, and so is what is chained to them.
        found = stored()
        chained = {"leaf", "prev", "canonical", "head", "frontier", "box", "opened_at"}
        for rows, wanted in zip(found, expected, strict=True):
            assert [{k: v for k, v in row.items() if k not in chained and row.get("seq", 9) > 3} for row in rows] == [
                {k: v for k, v in row.items() if k not in chained and row.get("seq", 9) > 3} for row in wanted
            ]
        return check_chain(log_keys()), check_records(), check_texts_and_columns(len(found[0]))

    assert await in_thread(compared) == ([], [], [])


async def test_only_the_first_batch_goes_the_ordinary_way(ordinary):
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())

    receipts = [await writer.append(authorised(f"a{at}")) for at in range(5)]
    writer.append_later(completed("a0"))
    await writer.close()

    assert [receipt.seq for receipt in receipts] == [2, 3, 4, 5, 6]
    assert ordinary == [1]
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])
    assert await in_thread(lambda: StatementRecord.objects.get(id="a0").status) == "completed"


async def test_batch_that_was_undone_once_leaves_the_short_way_open(ordinary):
    """What is undone takes the connection's prepared statements with it, the short way's among them."""
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    await writer.append(authorised("a0"))
    for number in range(2 * BULK):
        writer.append_later(authorised(f"a{number}"))  # a0 has a record, which nobody expects
    await writer.append(authorised("last"))

    receipt = await writer.append(authorised("next"))
    await writer.close()

    assert receipt.seq == 4 + 2 * BULK
    assert (ordinary[0], len(ordinary)) == (1, 2)
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


async def test_entries_of_templates_are_queued_as_they_are_spelled(ordinary):
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    begun = Template(Entry("statement.authorised", CanonicalBody(authorised("x").body), session_id="s1"))
    ended = Template(Entry("statement.completed", CanonicalBody(completed("x").body), session_id="s1"))
    answers: asyncio.Queue[object] = asyncio.Queue()

    writer.append_soon(begun, Filling("a1", sensitive={"statement": "select 1"}), pytest.fail, answers.put_nowait)
    receipt = await answers.get()
    assert writer.append_like_later(ended, Filling("a1"))
    await writer.close()

    assert (receipt.seq, receipt.durability, ordinary) == (2, "database", [1])
    assert await in_thread(lambda: list(LogEntry.objects.values_list("kind", flat=True).order_by("seq"))) == [
        "session.opened",
        "statement.authorised",
        "statement.completed",
    ]
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


async def test_what_others_append_meanwhile_stands_before(ordinary):
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    await in_thread(append_entries, [opened("s2"), opened("s3")])

    receipt = await writer.append(authorised("a1"))
    await in_thread(append_entries, [opened("s4")])
    later = await writer.append(authorised("a2"))
    await writer.close()

    assert (receipt.seq, later.seq) == (4, 6)
    assert ordinary == [1]
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


async def test_writers_that_are_outrun_over_and_over_lock_the_log(ordinary, monkeypatch):
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    real = OneTrip.append
    tries = []

    async def outrun(self, *args):
        tries.append(1)
        await in_thread(append_entries, [opened(f"o{len(tries)}")])
        return await real(self, *args)

    monkeypatch.setattr(OneTrip, "append", outrun)
    receipt = await writer.append(authorised("a1"))
    await writer.close()

    assert (len(tries), ordinary) == (log_commits.TRIES, [1, 1])
    assert receipt.seq == log_commits.TRIES + 2
    assert await in_thread(lambda: check_chain(log_keys())) == []


@pytest.fixture
def outrun(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every batch that was sent with one statement: whether others were quicker."""
    found: list[bool] = []
    real = OneTrip.append

    async def noted(self, before, after, leaves, prepared):
        head = await real(self, before, after, leaves, prepared)
        found.append(head != after)
        return head

    monkeypatch.setattr(OneTrip, "append", noted)
    return found


async def with_rivals(monkeypatch: pytest.MonkeyPatch) -> AuditWriter:
    """A writer that has seen somebody else append, twice, and does not forget it. The log has five entries."""
    monkeypatch.setattr(one_trip, "OTHERS_S", 600.0)
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    for at, entry in enumerate((opened("rival"), denied("d", "rival"))):
        await in_thread(append_entries, [entry])
        await writer.append(authorised(f"before{at}"))
    return writer


async def test_whoever_was_outrun_locks_the_log_before_it_makes_a_batch(ordinary, outrun, monkeypatch):
    writer = await with_rivals(monkeypatch)
    for at in range(1, 6):
        await in_thread(append_entries, [denied(f"d{at}", "rival")])
        await writer.append(authorised(f"a{at}"))
    await writer.close()

    assert outrun == [True, False, True, False, *[False] * 5]
    assert ordinary == [1]
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


async def test_what_queues_while_the_log_is_locked_by_others_goes_in_one_batch(outrun, monkeypatch):
    writer = await with_rivals(monkeypatch)
    with psycopg.connect(dsn()) as other:
        other.execute("SELECT 1 FROM audit_logstate FOR UPDATE")
        first = asyncio.create_task(writer.append(authorised("a1")))
        await until_waits_for_lock()
        rest = [asyncio.create_task(writer.append(authorised(f"a{at}"))) for at in range(2, 10)]
        await asyncio.sleep(0)
    receipts = await asyncio.gather(first, *rest)
    await writer.close()

    assert [receipt.seq for receipt in receipts] == list(range(6, 15))
    assert outrun == [True, False, True, False, False]
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_what_does_not_fit_gives_its_lock_back_and_goes_the_ordinary_way(ordinary, monkeypatch):
    writer = await with_rivals(monkeypatch)
    await writer.append(opened("s2"))
    await in_thread(append_entries, [opened("s3")])  # by another connection: it would wait for a lock left behind
    await writer.append(authorised("a1", "s2"))
    await writer.close()

    assert ordinary == [1, 1]
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


async def test_whoever_is_ended_with_the_log_locked_has_written_nothing_and_writes_again(monkeypatch):
    writer = await with_rivals(monkeypatch)
    real = OneTrip.append

    async def ended(self, *args):
        assert self.has_lock
        await in_thread(sql, f"SELECT pg_terminate_backend({self.connection.info.backend_pid})")
        monkeypatch.setattr(OneTrip, "append", real)
        return await real(self, *args)

    monkeypatch.setattr(OneTrip, "append", ended)
    writer.append_later(denied("owed"))
    with pytest.raises(RecordUnavailable):
        await writer.append(authorised("a1"))
    await until(lambda: writer.healthy)
    await writer.append(authorised("a2"))
    await writer.close()

    found = await in_thread(lambda: list(LogEntry.objects.order_by("seq").values_list("statement_id", flat=True)))
    assert found == ["", "", "before0", "d", "before1", "owed", "a2"]
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_process_that_ends_or_stops_with_the_log_locked_keeps_nobody_for_long(monkeypatch, how):
    writer = await with_rivals(monkeypatch)
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, dsn(), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"locked\n"
        waiting = asyncio.create_task(writer.append(authorised("a1")))
        await until_waits_for_lock()
        holder.send_signal(how)
        receipt = await waiting
    finally:
        with contextlib.suppress(ProcessLookupError):
            holder.kill()
        await holder.wait()
        await writer.close()

    assert receipt.seq == 6
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_whoever_is_outrun_once_goes_on_in_one_trip(outrun, monkeypatch):
    locked: list[bool] = []
    real = OneTrip.lock

    async def noted(self, known):
        locked.append(True)
        return await real(self, known)

    monkeypatch.setattr(OneTrip, "lock", noted)
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    await in_thread(append_entries, [opened("rival")])
    for at in range(4):
        await writer.append(authorised(f"a{at}"))
    await writer.close()

    assert outrun == [True, False, False, False, False]
    assert not locked
    assert await in_thread(lambda: check_chain(log_keys())) == []


# A gateway between the two trips of its turn.
HOLDER = """
import os, sys; os.environ["DJANGO_SETTINGS_MODULE"] = "hoopweb.settings"
import asyncio, django, psycopg; django.setup()
from audit.one_trip import OneTrip
async def main():
    trip = OneTrip(psycopg.connect(sys.argv[1], autocommit=True))
    assert await trip.lock(None)
    print("locked", flush=True)
    await asyncio.sleep(60)
    assert trip.has_lock
asyncio.run(main())
"""


async def until_waits_for_lock() -> None:
    """Until somebody waits for whoever has locked the log."""

    def waits() -> bool:
        with psycopg.connect(dsn()) as own:
            row = own.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)").fetchone()
        return row == (True,)

    while not await asyncio.to_thread(waits):
        await asyncio.sleep(0.01)


async def test_writers_at_once_write_one_gapless_log():
    writers = [AuditWriter(gateway_id=f"g{number}") for number in range(3)]

    async def writes(writer: AuditWriter, number: int) -> None:
        await writer.append(opened(f"s{number}"))
        for at in range(60):
            name = f"{number}-{at}"
            await writer.append(authorised(name, f"s{number}"))
            writer.append_later(completed(name, f"s{number}"))
        await writer.close()

    await asyncio.gather(*(writes(writer, number) for number, writer in enumerate(writers)))

    def found():
        seqs = list(LogEntry.objects.order_by("seq").values_list("seq", flat=True))
        count_sessions()
        counts = set(SessionRecord.objects.values_list("statements", "rows"))
        return seqs == list(range(1, 3 * 121 + 1)), counts, check_chain(log_keys()), check_records()

    assert await in_thread(found) == (True, {(60, 120)}, [], [])


async def test_a_shrunken_log_stops_the_short_way_too(ordinary):
    writer = AuditWriter()
    await writer.append(opened())
    for at in range(3):
        await writer.append(authorised(f"a{at}"))
    assert ordinary == [1]
    await in_thread(empty)

    with pytest.raises(RecordUnavailable):
        await writer.append(authorised("a9"))
    await writer.close()

    assert await in_thread(LogEntry.objects.count) == 0


async def test_a_head_somebody_altered_is_not_built_upon(ordinary):
    writer = AuditWriter()
    await writer.append(opened())
    await writer.append(authorised("a1"))
    await in_thread(
        sql,
        "SET session_replication_role = replica; UPDATE audit_loghead SET frontier = decode(repeat('00', 32), 'hex')"
        " WHERE size = 2; RESET session_replication_role",
    )

    receipt = await writer.append(authorised("a2"))
    await writer.close()

    assert receipt.seq == 3
    # As by the ordinary way it goes on from what is stored, so that the checks still find it.
    frontier = await in_thread(lambda: bytes(LogHead.objects.get(size=3).frontier))
    assert frontier[:32] == bytes(32)


async def test_an_unwritable_entry_fails_alone_on_the_short_way(ordinary):
    writer = AuditWriter()
    await writer.append(opened())

    bad = writer.append(Entry(kind="x", body={"n": 1.5}))  # type: ignore[dict-item]
    results = await asyncio.gather(
        writer.append(authorised("a1")), bad, writer.append(authorised("a2")), return_exceptions=True
    )
    await writer.close()

    assert [type(result).__name__ for result in results] == ["Receipt", "EntryRefused", "Receipt"]
    assert isinstance(results[1], EntryRefused)
    assert ordinary == [1]


async def test_a_failed_statement_fails_its_waiters_and_keeps_what_is_owed():
    writer = AuditWriter()
    await writer.append(opened())
    await writer.append(authorised("a1"))
    await in_thread(sql, "ALTER TABLE audit_sealedtext RENAME TO sealedtext_gone")
    try:
        with pytest.raises(RecordUnavailable):
            await writer.append(authorised("a2"))
        writer.append_later(denied("owed"))
        await asyncio.sleep(0.3)
        assert not writer.healthy
    finally:
        await in_thread(sql, "ALTER TABLE sealedtext_gone RENAME TO audit_sealedtext")
    await until(lambda: writer.healthy)
    receipt = await writer.append(authorised("a3"))
    await writer.close()

    kinds = await in_thread(lambda: list(LogEntry.objects.order_by("seq").values_list("statement_id", flat=True)))
    assert kinds == ["", "a1", "owed", "a3"]
    assert receipt.seq == 4


async def test_what_is_long_goes_the_ordinary_way(ordinary):
    writer = AuditWriter()
    await writer.append(opened())

    await writer.append(authorised("short", text="x" * (MAX_BYTES // 2)))
    await writer.append(authorised("long", text="x" * MAX_BYTES))
    await writer.close()

    assert ordinary == [1, 1]
    assert await in_thread(lambda: check_texts_and_columns(3)) == []


# --- connections that break ---


READY = b"Z\x00\x00\x00\x05I"


class Proxy:
    """Between the writer and the database. `lose_answers`: what the server says from now on gets to nobody.

    `unfinished`: the next answer is handed on without the word that the server is ready, and the connection ends.
    """

    def __init__(self) -> None:
        self.losing, self.unfinished = asyncio.Event(), False
        self._clients: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None]] = []

    def lose_answers(self) -> None:
        self.losing.set()

    def cut(self) -> None:
        """End the clients' connections; the server's stay open until it says something. New ones work."""
        for client in self._clients:
            client.transport.abort()
        self._clients.clear()
        self.losing = asyncio.Event()

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        host, port = connection.settings_dict["BEHIND"]
        server, to_server = await asyncio.open_connection(host, port)
        self._clients.append(to_client)
        self.tasks.append(asyncio.create_task(self._pass(client, to_server, None)))
        self.tasks.append(asyncio.create_task(self._pass(server, to_client, self.losing)))

    async def _pass(self, source, target, losing) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if losing is not None and self.unfinished:
                    assert data.endswith(READY)
                    target.write(data.removesuffix(READY))
                    self.unfinished = False
                    break
                if losing is None or not losing.is_set():
                    target.write(data)
                    await target.drain()
        target.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """Every thread's next connection to the database goes through it."""
    known = connections.settings["default"]
    monkeypatch.setitem(known, "BEHIND", (known["HOST"], int(known["PORT"])))
    made = Proxy()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    monkeypatch.setitem(known, "HOST", "127.0.0.1")
    monkeypatch.setitem(known, "PORT", str(server.sockets[0].getsockname()[1]))
    yield made
    server.close()
    await asyncio.wait(made.tasks, timeout=5)


async def until(holds) -> None:
    for _ in range(1200):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never was so")


async def test_a_statement_whose_answer_was_lost_is_not_written_twice(ordinary, proxy):
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    await writer.append(authorised("a1"))
    proxy.lose_answers()

    writer.append_later(denied("d1"))
    host, port = connection.settings_dict["BEHIND"]
    with psycopg.connect(dsn(host=host, port=port), autocommit=True) as other:
        while other.execute("SELECT count(*) FROM audit_logentry").fetchone() != (3,):
            await asyncio.sleep(0.01)
    proxy.cut()
    await healthy(writer)
    receipt = await writer.append(authorised("a2"))
    await writer.close()

    assert (receipt.seq, ordinary[:1]) == (4, [1])
    assert await in_thread(LogEntry.objects.count) == 4
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


async def test_an_answer_that_does_not_say_the_transaction_ended_is_no_receipt(ordinary, proxy):
    """A server that is ended between a statement and its commit has answered the statement."""
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    await writer.append(authorised("a1"))
    proxy.unfinished = True

    with pytest.raises(RecordUnavailable):
        await writer.append(authorised("a2"))
    receipt = await writer.append(authorised("a3"))
    await writer.close()

    assert receipt.seq == 4  # here it was committed all the same
    assert ordinary == [1, 1]


async def healthy(writer: AuditWriter) -> None:
    await asyncio.sleep(0.2)
    await until(lambda: writer.healthy and not writer._backlog.owed and not writer._backlog._committing)


@pytest.mark.parametrize("ends_first", [True, False])
async def test_a_statement_that_is_under_way_when_its_connection_is_lost_is_not_written_twice(proxy, ends_first):
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    await writer.append(authorised("a1"))
    host, port = connection.settings_dict["BEHIND"]
    with psycopg.connect(dsn(host=host, port=port)) as other:
        other.execute("SELECT 1 FROM audit_logstate FOR UPDATE")
        writer.append_later(denied("d1"))
        await asyncio.sleep(0.3)
        proxy.cut()
        await asyncio.sleep(0.0 if ends_first else 1.0)  # the writer has tried again by then, and waits as well
        other.rollback()
    await healthy(writer)
    await writer.close()

    found = await in_thread(lambda: list(LogEntry.objects.order_by("seq").values_list("statement_id", flat=True)))
    assert found == ["", "a1", "d1"]
    assert await in_thread(lambda: (check_chain(log_keys()), check_records())) == ([], [])


async def test_a_statement_whose_backend_is_ended_is_written_again():
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    await writer.append(authorised("a1"))
    with psycopg.connect(dsn()) as other:
        other.execute("SELECT 1 FROM audit_logstate FOR UPDATE")
        writer.append_later(denied("d1"))
        waiting = asyncio.create_task(writer.append(authorised("a2")))
        await asyncio.sleep(0.3)
        await in_thread(
            sql,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()",
        )
        with pytest.raises(RecordUnavailable):
            await waiting
        other.rollback()
    await healthy(writer)
    await writer.close()

    found = await in_thread(lambda: list(LogEntry.objects.order_by("seq").values_list("statement_id", flat=True)))
    assert found == ["", "a1", "d1"]


async def test_what_does_not_fit_into_the_socket_at_once_is_sent_all_the_same():
    head = await in_thread(lambda: (append_entries([opened()]), read_head())[1])
    batch = [prepare(authorised("a1", text="x" * 200_000), gateway="g1", sealer=evidence_sealer())]
    with psycopg.connect(dsn(), autocommit=True) as own:
        with socket.socket(fileno=os.dup(own.pgconn.socket)) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        leaves, after = link(head, batch)
        assert await OneTrip(own).append(head, after, leaves, batch) == after

    assert await in_thread(lambda: (check_chain(log_keys()), check_texts_and_columns(2))) == ([], [])


async def test_sessions_of_many_statements_are_counted_once(ordinary):
    writer = AuditWriter(gateway_id="g1")
    await writer.append(opened())
    await asyncio.gather(*(writer.append(authorised(f"a{at}")) for at in range(40)))
    writer.append_later(Entry("request.refused", {**WHO, "reason": "x"}, session_id="s1"))
    await writer.close()

    await in_thread(count_sessions)
    assert await in_thread(lambda: list(SessionRecord.objects.values_list("statements", "last_seq"))) == [(40, 42)]
    assert ordinary == [1]


async def test_database_that_falls_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(one_trip, "SILENCE_S", 0.5)
    with contextlib.closing(psycopg.connect(dsn(), autocommit=True)) as own:
        trip = OneTrip(own)
        with psycopg.connect(dsn()) as other:
            other.execute("LOCK TABLE audit_loghead IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(psycopg.OperationalError, match="does not answer"):
                await trip.head()
