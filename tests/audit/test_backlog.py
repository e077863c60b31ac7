"""What waits for what on the way into the log; without a database."""

from __future__ import annotations

import pytest

from audit.backlog import Backlog
from audit.domain.entry import Entry, Receipt


def entry(session: str, *, durability: str = "os") -> Entry:
    return Entry("statement.completed", {}, session, durability=durability)


def ignored(_: Receipt | Exception) -> None:
    """Of somebody who waits."""


@pytest.fixture(autouse=True)
def soon_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.backlog.OVERTAKE_BEHIND", 0)


def journaled(backlog: Backlog, end: int) -> None:
    assert backlog.journaled(end), "a run begins with it"


def take_in(backlog: Backlog) -> None:
    run = backlog.runs.popleft()
    backlog.took_in(run, place=run.end, entries=run.entries)


def test_what_found_no_room_in_the_journal_stands_before_what_was_journaled_after_it() -> None:
    backlog = Backlog()
    journaled(backlog, 10)
    backlog.enqueue(entry("a"), None, after=10)
    journaled(backlog, 20)  # the end of the same session, for instance

    assert backlog.has_run
    assert not backlog.has_batch
    take_in(backlog)
    assert backlog.is_behind
    assert not backlog.has_run
    batch = backlog.take_batch()
    assert [queued.entry.session_id for queued in batch] == ["a"]
    assert not backlog.has_run
    backlog.end_batch()
    assert backlog.has_run


def test_run_does_not_wait_for_entries_of_durability_database_when_the_log_is_behind() -> None:
    backlog = Backlog()
    backlog.enqueue(entry("a", durability="database"), ignored, after=0)
    journaled(backlog, 10)

    assert backlog.has_run


def test_what_is_owed_stands_where_it_stood() -> None:
    """A batch overtakes what waits for the journal; one that failed does not stay in front of it."""
    backlog = Backlog()
    journaled(backlog, 10)
    backlog.enqueue(entry("waits"), None, after=10)
    backlog.enqueue(entry("overtakes", durability="database"), None, after=10)
    backlog.enqueue(entry("hurries", durability="database"), ignored, after=10)

    batch = backlog.take_batch()
    assert [queued.entry.session_id for queued in batch] == ["overtakes", "hurries"]
    assert not backlog.has_written(1)  # it is in the queue, behind a batch of later ones
    backlog.owe(batch)
    backlog.end_batch()

    assert [queued.number for queued in backlog.queue] == [1, 2]
    assert not backlog.has_written(1)
