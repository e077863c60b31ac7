"""A log that is far behind slows statements to its pace: they wait for room in the journal, and none fails."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from audit.answers import RecordUnavailable, Within
from audit.domain.entry import Entry
from audit.domain.integrity import check_chain
from audit.domain.keys import log_keys
from audit.domain.template import Filling, Template
from audit.models import LogEntry
from audit.room import Room, Waiting
from audit.sequencer import SequencerFailed
from audit.writer import AuditWriter
from tests.audit.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT = 8


def entry(session: str, number: int, *, kind: str = "statement.authorised", durability: str = "os") -> Entry:
    body = {"connection": "clinic", "rows": number}
    return Entry(kind, body, session, f"{session}-{number}", durability=durability)


def closed(session: str) -> Entry:
    return Entry("session.closed", {"connection": "clinic", "reason": "client"}, session, durability="os")


def kept() -> list[tuple[str, str, str]]:
    return list(LogEntry.objects.order_by("seq").values_list("session_id", "statement_id", "kind"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("audit.writer.MAX_BEHIND", LIMIT)


@pytest.fixture
async def writer(tmp_path):
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    yield writer
    if not writer._closing:
        await writer.close()


class Held:
    """The sequencer does nothing until it is let go, or fails as often as it is told to."""

    def __init__(self, writer: AuditWriter) -> None:
        self.go, self.fails, self.failed = asyncio.Event(), 0, 0
        self._take_in = writer._sequencer.take_in
        writer._sequencer.take_in = self

    async def __call__(self, *args: object, **options: object) -> None:
        await self.go.wait()
        if self.failed < self.fails:
            self.failed += 1
            raise SequencerFailed("ended")
        await self._take_in(*args, **options)


async def fill(writer: AuditWriter) -> None:
    for number in range(LIMIT):
        assert writer.append_now(entry("full", number)) is not None
    assert writer.append_now(entry("full", LIMIT)) is None


async def test_statements_go_on_at_the_pace_of_the_log(writer):
    """Many times the limit, of sessions that each wait for their own: none lost, doubled, or out of its order."""
    most: list[int] = []

    async def session(name: str, durability: str) -> None:
        for number in range(15):
            began = entry(name, number, durability=durability)
            receipt = await writer.append(began)
            assert (receipt.seq, receipt.durability) == (None, durability)
            writer.append_later(entry(name, number, kind="statement.completed", durability=durability))
            most.append(writer.behind)
        writer.append_later(closed(name))

    names = {f"s{at}": ("os", "disk")[at % 2] for at in range(6)}
    await asyncio.gather(*(session(name, durability) for name, durability in names.items()))
    await writer.close()

    found = await in_thread(kept)
    for name in names:
        kinds = ("statement.authorised", "statement.completed")
        statements = [(name, f"{name}-{number}", kind) for number in range(15) for kind in kinds]
        assert [each for each in found if each[0] == name] == [*statements, (name, "", "session.closed")]
    assert len(found) == 6 * 31
    assert max(most) >= LIMIT  # a control: there was no room
    assert max(most) <= LIMIT + 2 * len(names)  # what has happened goes past the limit, and nothing else
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_no_session_overtakes_another_that_waits(writer):
    held = Held(writer)
    await fill(writer)
    admitted: list[str] = []

    async def session(name: str) -> None:
        for number in range(4):
            await writer.append(entry(name, number))
            admitted.append(name)

    sessions = [asyncio.create_task(session(name)) for name in "abcde"]
    await asyncio.sleep(0)
    held.go.set()
    await asyncio.gather(*sessions)

    rounds = [admitted[at : at + 5] for at in range(0, 20, 5)]
    assert [Counter(each) for each in rounds] == [Counter("abcde")] * 4


async def test_every_door_waits_behind_who_waits_already(writer):
    held = Held(writer)
    await fill(writer)
    first = asyncio.create_task(writer.append(entry("a", 1)))
    await asyncio.sleep(0)
    writer._backlog.behind -= 2  # as if the log had gone on, and nobody had looked yet

    whole = entry("b", 1)
    template, filling = Template(whole), Filling(whole.statement_id)
    assert writer.append_now(whole) is None
    assert writer.append_like(template, filling) is None
    assert len(writer._room.waiting) == 1
    writer._backlog.behind += 2
    held.go.set()

    assert (await first).durability == "os"


async def test_what_happened_already_is_journaled_at_once(writer):
    held = Held(writer)
    await fill(writer)
    end = entry("full", 0, kind="statement.completed")

    writer.append_later(end)
    assert writer.append_like_later(Template(entry("full", 1, kind="statement.completed")), Filling("full-1"))
    owed = writer._backlog.owed
    held.go.set()

    assert owed == 0
    assert writer.behind == LIMIT + 2


async def test_past_the_reserve_nothing_new_begins_before_the_log_has_what_happened(writer, monkeypatch):
    monkeypatch.setattr(writer, "most_kept", LIMIT)
    held = Held(writer)
    await fill(writer)

    writer.append_later(entry("a", 1, kind="statement.completed"))
    following = asyncio.create_task(writer.append(entry("a", 2)))
    await asyncio.sleep(0)
    held.go.set()
    await following
    await writer.close()

    found = [each for each in await in_thread(kept) if each[0] == "a"]
    assert found == [("a", "a-1", "statement.completed"), ("a", "a-2", "statement.authorised")]


async def test_cancelled_client_leaves_nothing_of_what_it_waited_for(writer):
    held = Held(writer)
    await fill(writer)
    gone, stays = (asyncio.create_task(writer.append(entry(name, 1))) for name in ("gone", "stays"))
    await asyncio.sleep(0)
    assert len(writer._room.waiting) == 2  # a control

    gone.cancel()
    await asyncio.wait({gone})
    held.go.set()
    await stays
    await writer.close()

    sessions = {session for session, _, _ in await in_thread(kept)}
    assert sessions == {"full", "stays"}


async def test_end_of_a_session_stands_behind_what_it_waited_for(writer):
    held = Held(writer)
    await fill(writer)
    answers: list[object] = []
    whole = entry("a", 1, durability="disk")
    other = asyncio.create_task(writer.append(entry("b", 1)))
    writer.append_soon(Template(whole), Filling(whole.statement_id), lambda: whole, answers.append)

    writer.append_later(closed("a"))
    while not answers:
        await asyncio.sleep(0.01)
    waits = not other.done()
    held.go.set()
    await other
    await writer.close()

    found = await in_thread(kept)
    assert waits
    assert [answer.durability for answer in answers] == ["disk"]
    assert [each for each in found if each[0] == "a"] == [
        ("a", "a-1", "statement.authorised"),
        ("a", "", "session.closed"),
    ]


@pytest.mark.parametrize(("fails", "refused"), [(1, False), (2, True)])
async def test_sequencer_that_goes_on_failing_refuses_who_waits(writer, fails, refused):
    """Once may be a process that ended: the next one takes over."""
    held = Held(writer)
    await fill(writer)
    held.fails = fails
    held.go.set()

    waits = asyncio.create_task(writer.append(entry("a", 1)))
    await asyncio.wait({waits})

    assert isinstance(waits.exception(), RecordUnavailable) is refused


async def test_sequencer_that_is_dead_refuses_who_waits_in_time(writer, monkeypatch):
    monkeypatch.setattr("audit.writer.WITHIN_S", 0.05)
    monkeypatch.setattr("audit.answers.WITHIN_S", 0.05)
    held = Held(writer)
    await fill(writer)
    answers: list[object] = []
    whole = entry("a", 2)
    writer.append_soon(Template(whole), Filling(whole.statement_id), lambda: whole, answers.append)

    with pytest.raises(RecordUnavailable):
        await writer.append(entry("a", 1))
    while not answers:
        await asyncio.sleep(0.01)
    held.go.set()
    await writer.close()

    assert isinstance(answers[0], RecordUnavailable)
    assert {session for session, _, _ in await in_thread(kept)} == {"full"}


async def test_closing_refuses_who_waits(writer):
    held = Held(writer)
    await fill(writer)
    waits = asyncio.create_task(writer.append(entry("a", 1)))
    await asyncio.sleep(0)

    held.go.set()
    await writer.close()

    with pytest.raises(RecordUnavailable):
        await waits


async def test_journal_too_long_in_bytes_makes_statements_wait_too(writer, monkeypatch):
    monkeypatch.setattr("audit.writer.MAX_BYTES_BEHIND", 1)
    held = Held(writer)
    assert writer.append_now(entry("a", 1)) is not None

    assert writer.append_now(entry("a", 2)) is None
    waits = asyncio.create_task(writer.append(entry("a", 2)))
    held.go.set()

    assert (await waits).durability == "os"


def test_room_is_bounded_and_counts_who_left(monkeypatch):
    monkeypatch.setattr("audit.room.MAX_WAITING", 4)
    monkeypatch.setattr("audit.room.MAX_WAITING_BYTES", 20)
    room, told = Room(), []
    waiting = Waiting(b"12345", "os", "s", told.append)

    first = room.wait(waiting)
    room.wait(waiting)
    with pytest.raises(RecordUnavailable):
        room.wait(waiting)
    room.leave(first)
    room.leave(first)
    with pytest.raises(RecordUnavailable):
        room.wait(Waiting(b"12345678901", "os", "s", told.append))
    room.wait(waiting)
    assert told == []

    room.refuse("why")

    assert [str(answer) for answer in told] == ["why", "why"]
    room.wait(Waiting(b"12345678901234567890", "os", "s", told.append))
    assert len(room.leave_session("s")) == 1
    assert (room.waiting, room._queues, room._sessions, room._bytes) == ({}, {}, {}, 0)


def waits(room: Room, principal: str, session: str) -> int:
    """How many places this principal got, until it was refused one."""
    got = 0
    while True:
        try:
            room.wait(Waiting(b"12345", "os", session, lambda _: None, principal))
        except RecordUnavailable:
            return got
        got += 1


def test_however_many_places_one_takes_another_has_its_own(monkeypatch):
    monkeypatch.setattr("audit.room.MAX_WAITING", 120)
    room = Room()

    assert waits(room, "greedy", "a") == 60
    assert waits(room, "greedy", "another session") == 0
    assert [waits(room, name, name) for name in ("b", "c", "d", "e")] == [30, 15, 8, 4]
    room.leave_session("a")
    assert waits(room, "e", "e") > 20


def test_one_long_statement_does_not_take_what_others_need(monkeypatch):
    monkeypatch.setattr("audit.room.MAX_WAITING_BYTES", 100)
    room = Room()
    room.wait(Waiting(b"1" * 90, "os", "a", lambda _: None, "greedy"))

    with pytest.raises(RecordUnavailable):
        room.wait(Waiting(b"1", "os", "a", lambda _: None, "greedy"))
    assert waits(room, "other", "b") == 1


def test_principals_are_let_in_by_turns_each_in_its_order():
    room = Room()
    for number in range(4):
        room.wait(Waiting(b"%d" % number, "os", f"s{number % 2}", lambda _: None, "greedy"))
    for number in range(4, 6):
        room.wait(Waiting(b"%d" % number, "os", "b", lambda _: None, "b"))
    room.wait(Waiting(b"6", "os", "c", lambda _: None, "c"))

    assert b"".join(room.next().payload for _ in range(7)) == b"0461523"
    assert (room.waiting, room._queues, room._sessions, room._bytes) == ({}, {}, {}, 0)


async def test_agent_that_fills_the_room_keeps_nobody_else_out(writer, monkeypatch):
    monkeypatch.setattr("audit.room.MAX_WAITING", 6)
    held = Held(writer)
    await fill(writer)
    order: list[str] = []

    async def statement(subject: str, number: int) -> None:
        body = {"connection": "clinic", "subject": subject, "actor": None}
        about = Entry("statement.authorised", body, f"{subject}-{number}", f"{subject}-{number}", durability="os")
        await writer.append(about)
        order.append(subject)

    greedy = [asyncio.create_task(statement("greedy", number)) for number in range(20)]
    await asyncio.sleep(0)
    other = asyncio.create_task(statement("other", 1))
    await asyncio.sleep(0)
    held.go.set()
    done = await asyncio.gather(*greedy, other, return_exceptions=True)

    assert done[-1] is None
    assert [isinstance(each, RecordUnavailable) for each in done].count(True) == 17
    assert order.index("other") == 1


async def test_who_was_refused_a_place_is_not_answered_as_well(writer, monkeypatch):
    """The exception sent the statement the long way; an answer later would have it run a second time."""
    monkeypatch.setattr("audit.answers.WITHIN_S", 0.05)
    monkeypatch.setattr("audit.room.MAX_WAITING", 2)
    held = Held(writer)
    await fill(writer)
    answers: list[str] = []
    whole = entry("a", 1, durability="disk")
    template, filling = Template(whole), Filling(whole.statement_id)

    writer.append_soon(template, filling, lambda: whole, lambda _: answers.append("has a place"))
    with pytest.raises(RecordUnavailable):
        writer.append_soon(template, filling, lambda: whole, lambda _: answers.append("refused"))
    told = asyncio.get_running_loop().create_future()
    Within(told.set_result)  # of the same length and begun last: it is told last
    await told
    held.go.set()

    assert answers == ["has a place"]
