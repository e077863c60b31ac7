"""A purge of results empties whole months, puts back the few that are held, and takes objects outside along."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from audit.domain.append import append_entries
from audit.domain.check import check_evidence
from audit.domain.chunk_partitions import _LOCK, CHUNKS, extend_months, months
from audit.domain.chunks import seal_chunk, seal_salt
from audit.domain.commitment import StreamDigest
from audit.domain.exclusive import alone
from audit.domain.recordings import RecordingRow, read_recording, store_recordings
from audit.domain.retention import purge
from audit.domain.sealing import evidence_sealer
from audit.models import LegalHold, Recording, RecordingChunk, RetentionPolicy
from tests.audit.factories import completed
from tests.audit.test_retention import aged, kept_for

MARCH, APRIL, MAY = (datetime(2019, month, 1, tzinfo=UTC) for month in (3, 4, 5))


def recorded(statement: str, at: datetime, *, session: str = "s1") -> None:
    """A stored result, as a gateway of that time would have left it, and the entry that names it."""
    recording, data, sealer = f"recording-{statement}", statement.encode() * 400 + os.urandom(4_000), evidence_sealer()
    digest = StreamDigest(os.urandom(32))
    digest.update(data)
    chunk = seal_chunk(data, recording=recording, index=0, last=True, sealer=sealer)
    row = RecordingRow(
        recording_id=recording,
        session_id=session,
        statement_id=statement,
        format="pgwire",
        created_at=at,
        stored_bytes=len(chunk.data),
        digest=digest.name,
        salt_box=seal_salt(digest.salt, recording=recording, sealer=sealer),
        plain_bytes=len(data),
        chunks=1,
        closed_at=at,
    )
    store_recordings([row], [chunk])
    append_entries([aged(completed(statement, recording=digest.name), at, session=session)])


@pytest.fixture(autouse=True)
def evidence(db: None) -> None:
    """Months of 2019 as a gateway of then would have made them; twelve results of March, two of April, one of now."""
    bounds = [
        (f"{CHUNKS}_p0", "MINVALUE", f"'{MARCH.isoformat()}'"),
        (f"{CHUNKS}_p201903", f"'{MARCH.isoformat()}'", f"'{APRIL.isoformat()}'"),
        (f"{CHUNKS}_p201904", f"'{APRIL.isoformat()}'", f"'{MAY.isoformat()}'"),
        (f"{CHUNKS}_p201905", f"'{MAY.isoformat()}'", f"'{after_this_month():%Y-%m-%d} 00:00:00+00'"),
    ]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {CHUNKS}_p0")
        for table, low, high in bounds:
            cursor.execute(f"CREATE TABLE {table} PARTITION OF {CHUNKS} FOR VALUES FROM ({low}) TO ({high})")
    for number in range(12):
        recorded(f"m{number}", MARCH + timedelta(days=number), session=f"s{number}")
    recorded("a0", APRIL)
    recorded("a1", APRIL + timedelta(days=20))
    recorded("now", datetime.now(UTC))


def after_this_month() -> datetime:
    """A first of a month that is still to come when the test ends, though the month may end meanwhile."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return (tomorrow.replace(day=1) + timedelta(days=32)).replace(day=1)


def tables() -> set[str]:
    return {month.table.removeprefix(f"{CHUNKS}_p") for month in months()}


def files() -> dict[str, int]:
    """Where each month's rows lie: emptied ones get a new file, deleted rows stay in the old one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, pg_relation_filenode(c.oid) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
            " WHERE inhparent = %s::regclass",
            [CHUNKS],
        )
        return dict(cursor.fetchall())


def left() -> set[str]:
    return set(Recording.objects.values_list("statement_id", flat=True))


def damage() -> tuple[object, ...]:
    return check_evidence(checked_by="test").findings


def test_whole_months_go_with_their_files():
    assert damage() == ()

    purge(by="test")

    assert left() == {"now"}
    assert RecordingChunk.objects.count() == 1
    assert tables() == {"201905"}
    assert damage() == ()
    assert purge(by="test") == []


def test_the_few_that_are_held_are_put_back():
    LegalHold.objects.create(name="case", reason="litigation", placed_by="admin", session="s7")
    before = files()

    purge(by="test")

    assert left() == {"m7", "now"}
    assert files()[f"{CHUNKS}_p201903"] != before[f"{CHUNKS}_p201903"]
    assert tables() == {"201903", "201905"}
    (held,) = Recording.objects.filter(statement_id="m7")
    assert b"".join(read_recording(held)).startswith(b"m7m7")
    assert damage() == ()


def test_a_month_of_which_much_is_held_goes_row_by_row():
    LegalHold.objects.create(name="case", reason="litigation", placed_by="admin", until=MARCH + timedelta(days=3))
    before = files()

    purge(by="test")

    assert left() == {"m0", "m1", "m2", "now"}
    assert RecordingChunk.objects.count() == 4
    assert files()[f"{CHUNKS}_p201903"] == before[f"{CHUNKS}_p201903"]
    assert damage() == ()


def test_a_month_waits_until_all_of_it_is_due_unless_results_are_kept_for_days():
    days = RetentionPolicy.objects.get(pk="recordings").days
    middle = MARCH + timedelta(days=6, hours=1)

    purge(by="test", now=middle + timedelta(days=days))
    assert len(left()) == 15

    kept_for("recordings", 30)
    purge(by="test", now=middle + timedelta(days=30))
    assert left() == {"m7", "m8", "m9", "m10", "m11", "a0", "a1", "now"}
    assert damage() == ()


def test_objects_outside_go_with_their_month(settings, tmp_path: Path):
    settings.HOOPWEB_RECORDING_STORE = f"file://{tmp_path / 'store'}"
    recorded("outside", APRIL + timedelta(days=3))
    recorded("young", datetime.now(UTC))

    purge(by="test")

    assert left() == {"young", "now"}
    objects = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert [path.name for path in objects] == [
        chunk.address for chunk in RecordingChunk.objects.filter(data__isnull=True)
    ]
    assert damage() == ()


def in_own_connection(function):
    try:
        return function()
    finally:
        connection.close()


def test_months_are_made_ahead_and_nothing_fails_for_want_of_one():
    now = datetime.now(UTC)
    assert extend_months(now=now) in (1, 2)
    assert extend_months(now=now) == 0
    ahead = months()[-1].high
    assert ahead > now + timedelta(days=45)

    recorded("late", ahead + timedelta(days=70))  # nobody made its month: into the default partition
    assert extend_months(now=ahead + timedelta(days=71)) >= 1

    assert months()[-1].low is not None
    assert RecordingChunk.objects.filter(recording_id="recording-late").count() == 1
    assert damage() == ()


def test_of_two_that_make_months_at_once_one_does():
    """Two checks that began in one moment: the second found the first one's table there, and did not check."""
    later = months()[-1].high + timedelta(days=70)
    with ThreadPoolExecutor(max_workers=1) as other, alone(_LOCK) as mine:
        assert mine
        assert other.submit(in_own_connection, lambda: extend_months(now=later)).result() == 0

    assert extend_months(now=later) >= 1


def test_the_migration_keeps_every_result_there_and_back():
    before = {row.pk: b"".join(read_recording(row)) for row in Recording.objects.all()}

    call_command("migrate", "audit", "0014", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*), count(DISTINCT id) FROM {CHUNKS}")
        assert cursor.fetchone() == (15, 15)
    call_command("migrate", "audit", verbosity=0)

    assert {row.pk: b"".join(read_recording(row)) for row in Recording.objects.all()} == before
    assert tables() == {"0"}
    assert damage() == ()
