"""Recordings outside the database: in a directory, and in a bucket of a real S3 server (moto's, over HTTP)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError
from django.core.management import CommandError, call_command
from django.db import connection

from audit.answers import RecordUnavailable
from audit.domain.append import append_entries
from audit.domain.box import SealProblem
from audit.domain.check import check_evidence
from audit.domain.chunk_store import StoreProblem, StoreUnavailable, outside_store
from audit.domain.chunks import CHUNK_BYTES
from audit.domain.recordings import check_recording, read_recording
from audit.domain.retention import purge
from audit.models import Recording, RecordingChunk
from audit.recording_sink import RecordingSink
from audit.tasks import check, purge_evidence
from hoopweb.checks import recordings_check
from hoopweb.embedded.ports import free_port
from tests.audit.factories import authorised, completed, opened
from tests.audit.test_leap import signed

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "store-key:store-secret"
LONG = b"one row of a masked result\n" * (3 * CHUNK_BYTES // 27)


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, object]]:
    """The endpoint of an S3 server with bucket `evidence`, and a client of another maker that looks into it."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                client.create_bucket(Bucket="evidence")
                break
            except BotoCoreError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield endpoint, client
    finally:
        server.terminate()
        server.wait(60)


class Directory:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(str(file.relative_to(self.path)) for file in self.path.rglob("*") if file.is_file())

    def read(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        (self.path / key).write_bytes(data)

    def remove(self, key: str) -> None:
        (self.path / key).unlink()


class Bucket:
    def __init__(self, client) -> None:  # type: ignore[no-untyped-def]
        self.client = client
        for key in list(self.names()):
            self.remove(key)

    def names(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket="evidence", Prefix="hoopweb/").get("Contents", [])
        return sorted(item["Key"] for item in found)

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket="evidence", Key=key)["Body"].read()

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket="evidence", Key=key, Body=data)

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket="evidence", Key=key)


@pytest.fixture(params=["directory", "bucket"])
def place(request, settings, tmp_path):  # type: ignore[no-untyped-def]
    """Somebody else's hands on what is stored outside."""
    if request.param == "directory":
        settings.HOOPWEB_RECORDING_STORE = f"file://{tmp_path}/recordings"
        return Directory(tmp_path / "recordings")
    endpoint, client = request.getfixturevalue("s3")
    settings.HOOPWEB_RECORDING_STORE = "s3://evidence/hoopweb"
    settings.HOOPWEB_RECORDING_STORE_ENDPOINT = endpoint
    settings.HOOPWEB_RECORDING_STORE_REGION = "us-east-1"
    settings.HOOPWEB_RECORDING_STORE_SECRET = SECRET
    return Bucket(client)


def record(data: bytes = LONG, *, statement: str = "a1") -> Recording:
    async def main() -> str:
        sink = RecordingSink()
        recording = sink.open(session_id="s1", statement_id=statement, format="pgwire")
        for low in range(0, len(data), 65_536):
            recording.write(data[low : low + 65_536])
            await recording.drain()
        digest = await recording.close()
        await sink.close()
        return digest

    return Recording.objects.get(digest=asyncio.run(main()))


def test_a_recording_outside_reads_back_and_no_row_holds_it(place):
    stored = record()

    assert len(place.names()) == stored.chunks == 3
    assert RecordingChunk.objects.filter(data__isnull=False).count() == 0
    assert b"".join(read_recording(stored)) == LONG
    check_recording(stored)
    for key in list(place.names()):
        assert b"masked result" not in place.read(key)


def test_what_was_stored_in_the_database_before_stays_readable(place, settings):
    outside, settings.HOOPWEB_RECORDING_STORE = settings.HOOPWEB_RECORDING_STORE, ""
    before = record(b"before", statement="a0")
    settings.HOOPWEB_RECORDING_STORE = outside
    after = record(b"after")

    assert [b"".join(read_recording(found)) for found in (before, after)] == [b"before", b"after"]


def lose(place) -> None:  # type: ignore[no-untyped-def]
    place.remove(place.names()[1])


def edit(place) -> None:  # type: ignore[no-untyped-def]
    key = place.names()[0]
    data = bytearray(place.read(key))
    data[60] ^= 1
    place.write(key, bytes(data))


def swap(place) -> None:  # type: ignore[no-untyped-def]
    first, second = place.names()[:2]
    one, other = place.read(first), place.read(second)
    place.write(first, other)
    place.write(second, one)


@pytest.mark.parametrize("damage", [lose, edit, swap])
def test_what_happens_to_an_object_is_found_and_located(place, damage):
    stored = record()
    append_entries([opened(), authorised("a1"), completed("a1", recording=stored.digest)])
    assert check_evidence(checked_by="test").findings == ()

    damage(place)

    (found,) = check_evidence(checked_by="test").findings
    assert (found.seq, found.kind) == (3, "recording-edited")
    with pytest.raises(SealProblem):
        list(read_recording(stored))


def test_a_store_that_is_away_is_not_called_damage_and_takes_no_statement(place, settings, monkeypatch):
    stored = record()
    append_entries([opened(), authorised("a1"), completed("a1", recording=stored.digest)])
    store = outside_store()

    monkeypatch.setattr(store, "_store", Away())

    with pytest.raises(StoreUnavailable):
        check_evidence(checked_by="test")

    async def main() -> None:
        sink = RecordingSink()
        first = sink.open(session_id="s1", statement_id="a2", format="pgwire")
        first.write(b"kept")
        await first.close()
        while sink.healthy:
            await asyncio.sleep(0.02)
        with pytest.raises(RecordUnavailable):
            sink.open(session_id="s1", statement_id="a3", format="pgwire")
        monkeypatch.undo()
        await sink.close()

    asyncio.run(main())
    assert b"".join(read_recording(Recording.objects.get(statement_id="a2"))) == b"kept"


def test_commands_say_in_words_that_the_store_is_away(place, monkeypatch, tmp_path, capsys, caplog):
    signed(2)  # so that the clock is believed
    old = datetime.now(UTC) - timedelta(days=3_000)
    stored = record()
    append_entries([opened(), replace(completed("a1", recording=stored.digest), at_us=int(old.timestamp() * 1e6))])
    monkeypatch.setattr(outside_store(), "_store", Away())

    with pytest.raises(CommandError, match=r"recordings cannot be opened.*did not do what it was asked"):
        call_command("audit_bundle", output=tmp_path / "b.jsonl")
    for command in ("audit_check", "audit_purge"):
        with pytest.raises(SystemExit) as stop:
            call_command(command)
        assert stop.value.code == 2
        assert "did not do what it was asked" in capsys.readouterr().err
    check(incremental=False)
    purge_evidence()

    assert [line.split(":")[0] for line in caplog.messages if "evidence not" in line] == [
        "evidence not checked",
        "evidence not purged, or not all of it",
    ]
    assert list(tmp_path.glob("*.jsonl")) == []
    assert Recording.objects.count() == 1
    monkeypatch.undo()
    call_command("audit_purge")
    assert (Recording.objects.count(), place.names()) == (0, [])
    assert check_evidence(checked_by="test").findings == ()


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> object:
        raise OSError("away")


def test_a_purge_takes_the_objects_with_the_rows(place):
    old = datetime.now(UTC) - timedelta(days=3_000)
    stored = record()
    kept = record(b"young", statement="a2")
    aged = replace(completed("a1", recording=stored.digest), at_us=int(old.timestamp() * 1e6))
    append_entries([opened(), aged, completed("a2", recording=kept.digest)])

    purge(by="test")

    assert [recording.statement_id for recording in Recording.objects.all()] == ["a2"]
    assert len(place.names()) == 1
    assert check_evidence(checked_by="test").findings == ()


def test_recordings_move_out_and_back_and_strays_are_swept(place, settings, capsys):
    outside, settings.HOOPWEB_RECORDING_STORE = settings.HOOPWEB_RECORDING_STORE, ""
    stored = record()
    settings.HOOPWEB_RECORDING_STORE = outside

    call_command("audit_recordings", to_store=True)
    assert len(place.names()) == 3
    assert b"".join(read_recording(stored)) == LONG
    call_command("audit_recordings", to_database=True)
    assert place.names() == []
    assert b"".join(read_recording(stored)) == LONG
    store = outside_store()
    assert store is not None
    with connection.cursor() as cursor:  # a process that put its object and was killed before its commit
        record(b"stray", statement="a9")
        cursor.execute("DELETE FROM audit_recordingchunk WHERE data IS NULL")
    call_command("audit_recordings", sweep=True)
    assert len(place.names()) == 1  # younger than a day: it may be on its way
    assert [len(page) for page in store.strays(older_than=timedelta())] == [1]


@pytest.mark.parametrize(
    ("url", "secret", "endpoint"),
    [
        ("ftp://bucket", "", ""),
        ("s3://", "", ""),
        ("file:///", "", ""),
        ("s3://key:secret@bucket", "", ""),
        ("s3://bucket", "no colon", ""),
        ("s3://bucket", "", "http://s3.example.org"),
        ("gs://bucket", "not json", ""),
    ],
)
def test_a_store_that_is_none_is_named_at_the_start(settings, url, secret, endpoint):
    settings.HOOPWEB_RECORDING_STORE = url
    settings.HOOPWEB_RECORDING_STORE_SECRET = secret
    settings.HOOPWEB_RECORDING_STORE_ENDPOINT = endpoint

    with pytest.raises(StoreProblem) as caught:
        outside_store()

    assert [error.id for error in recordings_check(None)] == ["hoopweb.E007"]
    assert not secret or secret not in str(caught.value)
