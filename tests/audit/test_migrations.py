"""Migrations of the record: they find what an installation has, and keep nobody from writing it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from audit.domain.append import JournalSpan, append_entries, append_prepared
from audit.domain.chain import prepare
from audit.domain.head import read_head
from audit.domain.integrity import check_chain
from audit.domain.keys import log_keys
from audit.domain.records_check import check_records
from audit.domain.sealing import evidence_sealer
from tests.audit.factories import denied, opened

BEFORE, AFTER = [("audit", "0016_bucket_anchors")], [("audit", "0017_ascending_indexes")]
WRITE = (
    "INSERT INTO audit_statementrecord SELECT (jsonb_populate_record(NULL::audit_statementrecord, "
    "jsonb_object_agg(column_name, CASE data_type WHEN 'jsonb' THEN '[]'::jsonb WHEN 'ARRAY' THEN '[]'::jsonb "
    "WHEN 'boolean' THEN 'false' "
    "WHEN 'timestamp with time zone' THEN '\"2026-01-01\"' WHEN 'bigint' THEN '0' WHEN 'integer' THEN '0' "
    "ELSE to_jsonb('%s'::text) END))).* FROM information_schema.columns WHERE table_name = 'audit_statementrecord'"
)

pytestmark = pytest.mark.django_db(transaction=True)


def newest() -> list[tuple[str, str]]:
    return [node for node in MigrationExecutor(connection).loader.graph.leaf_nodes() if node[0] == "audit"]


@pytest.fixture
def older() -> Iterator[None]:
    """The database as it was before the migration; newest again afterwards."""
    migrate(BEFORE)
    yield
    migrate(newest())


@pytest.fixture
def with_key_index() -> Iterator[None]:
    """The same for the migration after it."""
    migrate(AFTER)
    yield
    migrate(newest())


def migrate(to: list[tuple[str, str]]) -> None:
    MigrationExecutor(connection).migrate(to)


def indexes() -> dict[str, bool]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid IN ('audit_statementrecord'::regclass, 'audit_logentry'::regclass)"
        )
        return dict(cursor.fetchall())


def key_indexes() -> list[str]:
    """Of sealed texts and all their partitions."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename ~ '^audit_sealedtext' AND indexdef ~ 'key_id'")
        return [name for (name,) in cursor.fetchall()]


def writer() -> psycopg.Connection:
    settings = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return psycopg.connect(**{name: settings[name] for name in names if name in settings})


def waits_for_a_lock(statement: str, *, asked: psycopg.Connection) -> bool:
    """Whether a statement with these words comes to wait for a lock; `asked` itself is left waiting for nobody."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    deadline = time.monotonic() + 90
    waiting = False
    while not waiting and time.monotonic() < deadline:
        waiting = asked.execute(waits, (f"%{statement}%",)).fetchone() != (0,)
        asked.rollback()
    return waiting


def test_indexes_of_the_record_are_made_beside_who_writes_it(older: None) -> None:
    """One writer is midway in a transaction when the migration begins; the next one waits for neither."""
    migrating = threading.Thread(target=lambda: (migrate(AFTER), connection.close()))
    with writer() as first, writer() as second:
        first.execute(WRITE % "first")
        migrating.start()
        waiting = waits_for_a_lock("INDEX", asked=second)

        second.execute("SET lock_timeout = '20s'")
        second.execute(WRITE % "second")
        second.rollback()
        first.rollback()
    migrating.join()

    assert waiting  # a control: it met the first one
    found = indexes()
    assert all(found.values())
    assert {"audit_entry_by_subject", "audit_statement_in_time"} <= found.keys()
    assert not {"audit_entry_kind", "audit_statement_newest"} & found.keys()


def test_an_attempt_that_was_interrupted_is_made_again(older: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX audit_statement_in_time ON audit_statementrecord (id)")
        cursor.execute("DROP INDEX audit_entry_kind")

    migrate(AFTER)

    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'audit_statement_in_time'")
        assert cursor.fetchone()[0].endswith("(at, id)")
    assert "audit_entry_kind" not in indexes()


def test_the_index_of_sealed_texts_goes_without_a_queue_of_writers_behind_a_reader(with_key_index: None) -> None:
    before = key_indexes()
    migrating = threading.Thread(target=lambda: (migrate(newest()), connection.close()))
    with writer() as reader, writer() as appending:
        reader.execute("SELECT count(*) FROM audit_sealedtext")  # and goes on reading
        migrating.start()
        waiting = waits_for_a_lock("DROP INDEX", asked=appending)

        appending.execute("SET lock_timeout = '20s'")
        appending.execute("INSERT INTO audit_sealedtext (seq, key_id, box) VALUES (9000000, '', '')")
        appending.rollback()
        reader.rollback()
    migrating.join()

    assert len(before) > 1  # a control: the partitions' too
    assert waiting
    assert key_indexes() == []


def test_a_log_goes_on_with_heads_that_are_added_and_back() -> None:
    append_entries([opened(), denied("d1")])
    for at in range(3):
        entry = prepare(denied(f"j{at}"), gateway="g1", sealer=evidence_sealer())
        append_prepared([entry], span=JournalSpan("j1", at, at + 1))
    head = read_head()

    migrate([("audit", "0022_anchor_authority")])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT size, head, frontier FROM audit_logstate")
            size, leaf, frontier = cursor.fetchone()
            cursor.execute("SELECT integrated FROM audit_journalposition WHERE journal = 'j1'")
            assert cursor.fetchall() == [(3,)]
            cursor.execute("SELECT statements, denied, last_seq FROM audit_sessionrecord")
            assert cursor.fetchall() == [(4, 4, 5)]
    finally:
        migrate(newest())

    assert (size, bytes(leaf), bytes(frontier)) == (5, head.leaf, head.frontier.to_bytes())
    assert read_head() == head
    append_entries([denied("d2")])
    assert (check_chain(log_keys()), check_records()) == ([], [])
