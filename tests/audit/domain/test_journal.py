"""The journal's format: what comes back after any end, and what is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.domain.journal import RECORD, Journal, JournalCorrupt, JournalFull, Tail, lock_journal, read_records

KEY, KEY_ID = b"k" * 32, b"12345678"
SMALL = 4096


def journal(root: Path, *, segment_bytes: int = SMALL) -> Journal:
    return Journal(root, journal_id="j" * 36, key=KEY, key_id=KEY_ID, segment_bytes=segment_bytes)


def contents(root: Path, tail: Tail | None = None) -> list[bytes]:
    records = read_records(root / ("j" * 36), key_for={KEY_ID: KEY}.get, tail=tail or Tail())
    return [record.payload for record in records]


@settings(max_examples=25, deadline=None)
@given(payloads=st.lists(st.binary(min_size=1, max_size=900), max_size=30), ways=st.lists(st.booleans(), min_size=30))
def test_journal_gives_back_what_was_appended_over_any_number_of_segments(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], ways: list[bool]
) -> None:
    root = tmp_path_factory.mktemp("journal")
    written = journal(root)

    spans = []
    for payload, mapped in zip(payloads, ways, strict=False):
        start = written.end
        spans.append((start, written.append(payload, mapped=mapped)))

    assert [written.read(*span) for span in spans] == payloads
    assert contents(root) == payloads
    written.close(taken_in=True)
    assert list(root.iterdir()) == []


def test_record_that_was_being_written_is_dropped_and_named(tmp_path: Path) -> None:
    written = journal(tmp_path)
    written.append(b"first")
    written.append(b"second")
    path = next(written.directory.glob("*.journal"))
    written.close(taken_in=False)
    data = bytearray(path.read_bytes())
    at = data.index(b"second")
    data[at + 3 :] = bytes(len(data) - at - 3)  # the machine stopped half-way
    path.write_bytes(data)

    tail = Tail()
    assert contents(tmp_path, tail) == [b"first"]
    assert tail.torn > 0


def _of_three_records(root: Path) -> tuple[Path, bytearray, int]:
    """A journal's file, what it holds, and where the length of its second record is."""
    written = journal(root)
    for payload in (b"first", b"second", b"third"):
        written.append(payload)
    path = next(written.directory.glob("*.journal"))
    written.close(taken_in=False)
    data = bytearray(path.read_bytes())
    return path, data, data.index(b"second") - RECORD


def test_records_behind_a_length_that_was_taken_away_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    path, data, at = _of_three_records(tmp_path)
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)

    tail = Tail()
    assert contents(tmp_path, tail) == [b"first"]
    assert tail.torn == 2 * RECORD + len("second" + "third")


def test_length_past_the_segment_is_no_half_written_record(tmp_path: Path) -> None:
    path, data, at = _of_three_records(tmp_path)
    data[at : at + 4] = (1 << 30).to_bytes(4, "big")
    path.write_bytes(data)

    with pytest.raises(JournalCorrupt):
        contents(tmp_path)


@pytest.mark.parametrize("place", ["first", "second"])
def test_altered_record_is_noticed_unless_it_is_the_last(tmp_path: Path, place: str) -> None:
    written = journal(tmp_path)
    for payload in (b"first", b"second", b"third"):
        written.append(payload)
    path = next(written.directory.glob("*.journal"))
    written.close(taken_in=False)
    path.write_bytes(path.read_bytes().replace(place.encode(), place.encode()[::-1]))

    with pytest.raises(JournalCorrupt):
        contents(tmp_path)


def test_segment_that_is_missing_is_noticed(tmp_path: Path) -> None:
    written = journal(tmp_path)
    for number in range(20):
        written.append(b"%d" % number * 400)
    paths = sorted(written.directory.glob("*.journal"))
    assert len(paths) > 2
    written.close(taken_in=False)
    paths[1].unlink()

    with pytest.raises(JournalCorrupt):
        contents(tmp_path)


def test_journal_of_another_key_is_not_believed(tmp_path: Path) -> None:
    journal(tmp_path).append(b"forged")

    with pytest.raises(JournalCorrupt):
        list(read_records(tmp_path / ("j" * 36), key_for=lambda key_id: None, tail=Tail()))


def test_released_segments_are_removed_and_a_full_journal_refuses(tmp_path: Path) -> None:
    written = journal(tmp_path)
    with pytest.raises(JournalFull):
        _fill(written)
    full = len(list(written.directory.glob("*.journal")))

    written.release(written.end)
    written.append(b"room again")

    assert len(list(written.directory.glob("*.journal"))) < full


def test_living_process_keeps_its_journal_to_itself(tmp_path: Path) -> None:
    written = journal(tmp_path)

    assert lock_journal(written.directory) is None
    written.close(taken_in=False)
    assert lock_journal(written.directory) is not None


def _fill(written: Journal) -> None:
    for _ in range(1000):
        written.append(b"x" * 2000)


def test_spare_made_ahead_is_the_next_segment_and_leaves_nothing_behind(tmp_path: Path) -> None:
    written = journal(tmp_path)
    while not written.wants_spare:
        written.append(b"x" * 900)
    written.make_spare()
    before = os.stat(written.directory / "spare").st_ino
    for _ in range(4):
        written.append(b"y" * 900)

    newest = max(written.directory.glob("*.journal"))
    assert newest.stat().st_ino == before
    assert len(contents(tmp_path)) == 3 + 4
    written.close(taken_in=True)
    assert list(tmp_path.iterdir()) == []


def test_after_a_sync_that_failed_none_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes pages it could not write for written: the next sync would succeed and mean nothing."""
    written = journal(tmp_path)
    written.append(b"first")
    written.sync()

    def fails(_: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fails)
        with pytest.raises(OSError, match="no space"):
            written.sync()

    with pytest.raises(OSError, match="earlier sync"):
        written.sync()


def test_sync_reaches_every_segment_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = journal(tmp_path)
    real, synced = os.fdatasync, []
    monkeypatch.setattr(os, "fdatasync", lambda file: (synced.append(os.fstat(file).st_ino), real(file))[1])
    for _ in range(10):
        written.append(b"z" * 900)
    written.sync()

    files = {path.stat().st_ino for path in written.directory.glob("*.journal")}
    assert len(files) > 2
    assert set(synced) == files
    synced.clear()
    written.sync()
    assert len(synced) == 1


def test_file_that_is_being_synced_is_kept(tmp_path: Path) -> None:
    """Its number may be used by another file at once, which would be synced in its place."""
    written = journal(tmp_path)
    written.append(b"first")
    assert written.begin_sync() is None  # its name is not on the disk yet
    written.sync()
    file = written.begin_sync()
    assert file is not None
    for _ in range(10):
        written.append(b"z" * 900)

    written.release(written.end)
    os.fstat(file)  # is open
    written.end_sync(failed=False)
    written.release(written.end)

    assert len(list(written.directory.glob("*.journal"))) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_sync_that_failed_elsewhere_is_as_final(tmp_path: Path) -> None:
    written = journal(tmp_path)
    written.append(b"first")
    written.sync()
    assert written.begin_sync() is not None

    written.end_sync(failed=True)

    assert written.begin_sync() is None
    with pytest.raises(OSError, match="earlier sync"):
        written.sync()


def test_new_segment_is_synced_the_long_way_once(tmp_path: Path) -> None:
    written = journal(tmp_path)
    for _ in range(10):
        written.append(b"z" * 900)
    assert written.begin_sync() is None

    written.sync()

    file = written.begin_sync()
    assert file is not None
    assert os.fstat(file).st_ino == max(written.directory.glob("*.journal")).stat().st_ino
