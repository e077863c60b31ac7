"""A purge empties whole partitions of sealed texts and subjects, keeps what is held, and waits for one to be due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection

from audit.domain import partitions
from audit.domain.append import append_entries
from audit.domain.check import check_evidence
from audit.domain.partitions import SEALED, TABLES, WAIT, extend_partitions
from audit.domain.retention import purge
from audit.domain.subject_keys import ensure_subject_key
from audit.models import LegalHold, RetentionPolicy, SealedText, SubjectSighting
from hoopweb.celery import app
from tests.audit.test_accounting import met, shown_to
from tests.audit.test_retention import aged, closed

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=3_000)


@pytest.fixture(autouse=True)
def evidence(db) -> None:
    """Partitions of ten places. Entry 1 makes the key, 2 to 21 are ten statements of patients, 3,000 days old."""
    for table in TABLES:
        repartition(table, 11, 21, 31, 100_000)
    ensure_subject_key()
    for number in range(10):
        at = OLD + timedelta(hours=number)
        session = f"s{number % 2}"
        append_entries([aged(met(f"a{number}"), at, session=session)])
        append_entries([aged(shown_to(f"a{number}", str(number)), at, session=session)])
    append_entries([aged(closed("s0"), OLD + timedelta(hours=10)), aged(closed("s1"), OLD + timedelta(hours=10))])


def repartition(table: str, *bounds: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {table}_p0")
        for low, high in zip((0, *bounds), bounds, strict=False):
            cursor.execute(
                f"CREATE TABLE {table}_p{low} PARTITION OF {table} FOR VALUES FROM ({low or 'MINVALUE'}) TO ({high})"
            )


def files(table: str = SEALED) -> dict[str, int]:
    """Where each partition's rows lie: emptied ones get a new file, deleted rows stay in the old one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, pg_relation_filenode(c.oid) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
            " WHERE inhparent = %s::regclass",
            [table],
        )
        return dict(cursor.fetchall())


def places() -> list[int]:
    return list(SealedText.objects.filter(seq__lte=30).order_by("seq").values_list("seq", flat=True))


def test_whole_partitions_go_with_their_files_and_the_evidence_stays_intact():
    assert places() == list(range(2, 22))

    purge(by="test")

    assert places() == []
    assert SubjectSighting.objects.count() == 0
    assert [part.low for part in partitions.partitions(SEALED)] == [21, 31]  # what was over is dropped
    assert check_evidence(checked_by="test").findings == ()
    append_entries([met("b"), shown_to("b", "7")])
    assert SubjectSighting.objects.count() == 1
    assert purge(by="test") == []


def test_a_hold_keeps_its_partition_and_in_it_only_what_it_covers():
    LegalHold.objects.create(
        name="case 1", reason="litigation", placed_by="admin", session="s1", until=OLD + timedelta(hours=2)
    )
    before = files()

    purge(by="test")

    assert places() == [4, 5]  # the second statement, of the first partition
    assert files()["audit_sealedtext_p0"] == before["audit_sealedtext_p0"]
    assert "audit_sealedtext_p11" not in files()
    assert check_evidence(checked_by="test").findings == ()


def test_a_class_that_is_kept_longer_keeps_its_rows():
    RetentionPolicy.objects.filter(pk="subjects").update(days=36_500)

    purge(by="test")

    assert places() == list(range(3, 22, 2))  # the ends of statements, where subjects are sealed
    assert SubjectSighting.objects.count() == 10
    assert check_evidence(checked_by="test").findings == ()


def test_what_is_in_a_partition_that_is_over_waits_for_the_last_of_it():
    days = RetentionPolicy.objects.get(pk="texts").days
    half = OLD + timedelta(hours=2, minutes=30, days=days)  # three of five statements of the first partition are due

    assert {due.record_class for due in purge(by="test", now=half)} == {"projections"}  # their tables are whole
    assert places() == list(range(2, 22))

    purge(by="test", now=OLD + timedelta(hours=6, days=days))

    assert places() == list(range(11, 22))  # the first partition whole, of the second nothing


def test_nothing_waits_longer_than_it_may():
    """The log went quiet in the middle of a partition: what is due in it goes by itself."""
    days = RetentionPolicy.objects.get(pk="texts").days
    later = aged(met("late"), OLD + 3 * WAIT, session="s0")
    for table in TABLES:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {table}_p31")
            cursor.execute(f"CREATE TABLE {table}_p31 PARTITION OF {table} FOR VALUES FROM (31) TO (33)")
    append_entries([later] * 10)  # entries 24 to 33: partition 21 to 30 is over
    due = OLD + WAIT + timedelta(days=days + 1)

    purge(by="test", now=due)

    assert [place for place in places() if place <= 23] == []
    assert 24 in places()


def test_partitions_are_made_ahead_and_nothing_fails_for_want_of_one(monkeypatch):
    monkeypatch.setattr(partitions, "LEAST", 50_000)
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DROP TABLE {table}_p31")

    append_entries([met(f"n{number}") for number in range(20)])  # beyond 31: into the default partition
    assert SealedText.objects.filter(seq__gt=31).exists()
    assert extend_partitions() == 2
    assert extend_partitions() == 0

    newest = partitions.partitions(SEALED)[-1]
    assert newest.low > 50_000  # behind everything that strayed
    assert newest.high - newest.low == 100_000


def test_a_log_that_grows_fast_stays_within_what_was_made_for_it(monkeypatch):
    """Ten thousand entries a second, and a look every ten seconds: nothing strays into the default partition."""
    assert app.conf.beat_schedule["make room for evidence"]["schedule"] <= 10
    for table in TABLES:
        with connection.cursor() as cursor:  # nothing but what an installation begins with
            cursor.execute(f"DROP TABLE {table}_p11, {table}_p21, {table}_p31")
        repartition(table, 100_000)
    monkeypatch.setattr(partitions, "place_about", lambda moment: 0)  # all of it is younger than a month
    made = 0
    for size in range(50_000, 3_000_000, 100_000):
        monkeypatch.setattr(partitions, "stated_size", lambda size=size: size)
        made += extend_partitions()
        assert all(partitions.partitions(table)[-1].high >= size + 100_000 for table in TABLES)

    assert made <= 20  # a few, each as large as the log then was


@pytest.mark.parametrize("rows", ["there", "none"])
def test_the_migration_keeps_every_row_there_and_back(rows):
    if rows == "none":
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM audit_sealedtext; DELETE FROM audit_subjectsighting")
    before = (list(SealedText.objects.order_by("seq").values_list()), SubjectSighting.objects.count())

    call_command("migrate", "audit", "0013", verbosity=0)
    assert (list(SealedText.objects.order_by("seq").values_list()), SubjectSighting.objects.count()) == before
    call_command("migrate", "audit", verbosity=0)

    assert (list(SealedText.objects.order_by("seq").values_list()), SubjectSighting.objects.count()) == before
    assert [part.table for part in partitions.partitions(SEALED)] == ["audit_sealedtext_p0"]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN SELECT * FROM audit_sealedtext WHERE seq = 5")
        plan = str(cursor.fetchall())
    assert "on audit_sealedtext_p0" in plan
    assert "_rest" not in plan  # other partitions are not looked into
