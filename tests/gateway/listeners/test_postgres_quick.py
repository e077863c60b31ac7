"""The compiled way through the express lane changes no byte and no record, and asks everything the lane asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.domain.snapshot import StaleSnapshot
from gateway.listeners import postgres_express
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import SYNC, RawClient, describe, errors, kinds, parse, query, rows
from tests.gateway.listeners.test_postgres_express import (
    NAMES,
    SSN,
    TRANSCRIPTS,
    _without_ids,
    again,
    played,
    run,
    shut_lane,
    told,
)

pytestmark = pytest.mark.skipif(postgres_express.QuickLane is None, reason="nobody compiled it")

# What of a transcript the compiled way serves when the lane has seen all of it once or twice.
SERVED = {
    "simple, masked": 2,
    "simple, several rows": 0,
    "extended, masked": 2,
    "prepared, text and binary": 2,
    "in a transaction": 8,
    "no columns": 4,
    "no columns, in several ways": 20,
    "no columns, prepared": 10,
    "no columns, in a transaction": 12,
    "transactions, one after another": 18,
    "a transaction that fails": 16,
    "transactions of prepared words": 16,
    "a portal at the end of its transaction": 12,
    "settings of a transaction": 8,
    "not described": 6,
    "not described, never": 6,
    "not described, parsed every time": 6,
    "some rows": 10,
    "some rows of a described portal": 6,
}


@pytest.fixture(params=["os", "os masked-results", "disk"])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    durability, _, recording = request.param.partition(" ")
    running = await Gateway(recording=recording or "metadata", durability=durability).start()
    yield running
    await running.stop()


class Watched:
    """The compiled lane, and what it answered."""

    requests: list[bool] = []
    answers: list[bool] = []
    lanes: list[Any] = []

    def __init__(self, session: Any, *others: Any) -> None:
        self.session = session
        self.real, self.otherwise = self._make(session, *others), others[-1]
        self.lanes.append(self)

    def serve(self, data: bytes) -> bool:
        self.requests.append(self.real.request(data))
        return self.requests[-1] or self.otherwise(data)

    def answer(self, data: bytes) -> bool:
        self.answers.append(self.real.answer(data))
        return self.answers[-1]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    fresh = type("Fresh", (Watched,), {"requests": [], "answers": [], "lanes": []})
    fresh._make = staticmethod(postgres_express.QuickLane)  # type: ignore[attr-defined]
    made = postgres_express.Steps
    monkeypatch.setattr(postgres_express, "QuickLane", fresh)
    monkeypatch.setattr(postgres_express, "Steps", lambda lane, *others: made(lane.real, *others))
    return fresh


@pytest.mark.parametrize("name", TRANSCRIPTS)
@pytest.mark.by_turns(2)
async def test_transcript_is_the_same_shut_interpreted_and_compiled(
    gateway: Gateway, watched: type[Watched], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    requests, _ = TRANSCRIPTS[name]
    with monkeypatch.context() as shut:
        shut_lane(shut)
        expected = await played(gateway, requests * 2)
    with monkeypatch.context() as interpreted:
        interpreted.setattr(postgres_express, "QuickLane", None)
        between = await played(gateway, requests * 2)

    found = await played(gateway, requests * 2)

    for heard, recorded in (between, found):
        assert [_without_ids(one) for one in heard] == [_without_ids(one) for one in expected[0]]
        assert recorded == expected[1]
    assert sum(watched.requests) >= SERVED.get(name, 0)


async def quick(gateway: Gateway, watched: type[Watched], request: bytes) -> RawClient:
    """A session in which `request` was served on the compiled way."""
    raw = await RawClient.connect(gateway)
    for _ in range(3):
        await raw.ask(request)
    assert watched.requests[-1]
    assert watched.answers[-1]
    return raw


async def test_prepared_statement_whose_names_may_have_changed_is_left_to_the_ordinary_way(
    gateway: Gateway, watched: type[Watched]
) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(parse(SSN, name="kept"), SYNC)
    for _ in range(4):
        await raw.ask(again("kept"))
    assert watched.requests[-1]

    watched.lanes[-1].session.plans._changed()
    shown = rows(await raw.ask(again("kept")))

    assert not watched.requests[-1]
    assert shown == [[b"[REDACTED]"]]


@pytest.mark.parametrize("request_", [query(SSN), run(SSN), parse(SSN) + told("", most=1)])
async def test_no_value_passes_unmasked(gateway: Gateway, watched: type[Watched], request_: bytes) -> None:
    raw = await quick(gateway, watched, request_)

    assert rows(await raw.ask(request_)) == [[b"[REDACTED]"]]

    assert watched.answers[-1]
    assert gateway.record.of("statement.completed")[-1].body["masked"] == [
        {"column": "ssn", "rule": "ssn", "technique": "redact", "count": 1}
    ]
    assert len(gateway.record.of("statement.authorised")) == len(gateway.record.of("statement.completed")) == 4


async def test_nothing_runs_without_a_record(gateway: Gateway, watched: type[Watched]) -> None:
    raw = await quick(gateway, watched, query(SSN))

    gateway.record.broken = True
    heard = await raw.ask(query(SSN))

    # One that waits is given back when it hears that there is no record.
    assert watched.requests[-1] is (gateway.durability != "os")
    assert kinds(heard) == "EZ"
    assert "record" in errors(heard)[0]["M"] or "audit" in errors(heard)[0]["M"]


async def test_its_record_is_there_before_the_server_hears_of_it(gateway: Gateway, watched: type[Watched]) -> None:
    raw = await quick(gateway, watched, query(SSN))
    upstream = watched.lanes[-1].session.upstream
    sent: list[int] = []
    write = upstream._transport.write

    class Transport:
        def write(self, data: bytes) -> None:
            sent.append(len(gateway.record.of("statement.authorised")))
            write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    real, upstream._transport = upstream._transport, Transport()
    await raw.ask(query(SSN))
    upstream._transport = real

    assert watched.requests[-1]
    assert sent == [4]


@pytest.mark.parametrize("change", ["stale", "rules", "analysis", "age", "quota"])
async def test_it_does_not_outlive_what_it_rests_on(
    gateway: Gateway, watched: type[Watched], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    raw = await quick(gateway, watched, query(SSN))
    lane = watched.lanes[-1]
    (recurring,) = lane.otherwise.__self__._queries.values()
    snapshots = type(lane.session.services.snapshots)
    match change:
        case "stale":

            def stale(_: object) -> Any:
                raise StaleSnapshot("too old")

            monkeypatch.setattr(snapshots, "current", stale)
        case "rules":
            recurring._snapshot = replace(recurring._snapshot, version=2)
        case "analysis":
            recurring._recollection = SimpleNamespace(holds=lambda: False, shape="")
        case "age":
            recurring.known.until = 0.0
        case "quota":
            recurring.plain = False

    await raw.ask(query(SSN))

    assert not watched.requests[-1]


@pytest.mark.parametrize(
    "name",
    ["resting", "at_boundary", "can_send", "reason", "_retiring", "cancelling", "holding", "deferred", "_outgoing",
     "relay.skipping", "relay.broken", "relay._queue", "relay._exchange", "meaning.unsettled"],
)  # fmt: skip
async def test_whatever_makes_a_session_not_rest_is_seen(gateway: Gateway, watched: type[Watched], name: str) -> None:
    raw = await quick(gateway, watched, query(SSN))
    session = watched.lanes[-1].session
    assert session.at_rest
    assert watched.lanes[-1].real.at_rest()
    owner = session if "." not in name else getattr(session, name.split(".", maxsplit=1)[0])
    attribute = name.rsplit(".", 1)[-1]

    before = getattr(owner, attribute)
    setattr(owner, attribute, {list: [1], str: "set"}.get(type(before), not before))
    found, said = watched.lanes[-1].real.at_rest(), session.at_rest
    setattr(owner, attribute, before)

    assert not found
    assert not said
    raw.close()


async def test_rules_that_change_while_it_runs_are_asked_again(
    gateway: Gateway, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "select ssn, pg_sleep(0.2) from people where id = 7"
    raw = await quick(gateway, watched, query(slow))

    raw.writer.write(query(slow))
    while len(watched.requests) < 4:
        await asyncio.sleep(0.01)

    def stale(_: object) -> Any:
        raise StaleSnapshot("too old")

    monkeypatch.setattr(type(watched.lanes[-1].session.services.snapshots), "current", stale)
    for _ in range(2):
        await raw.reader.read()  # whatever it hears: the session may not go on under rules nobody knows

    assert watched.requests[-1]
    assert not watched.answers[-1]


async def test_unnamed_statement_is_the_one_made_last(gateway: Gateway, watched: type[Watched]) -> None:
    raw = await RawClient.connect(gateway)
    for text, width in ((SSN, 1), (NAMES, 3)):
        for _ in range(3):
            heard = await raw.ask(run(text))
            assert {len(row) for row in rows(heard)} == {width}
        heard = await raw.ask(again(""))
        assert {len(row) for row in rows(heard)} == {width}
    assert sum(watched.requests) >= 2


async def test_unnamed_statement_is_kept_while_the_same_is_parsed_and_nobody_described_it(
    gateway: Gateway, watched: type[Watched]
) -> None:
    raw = await RawClient.connect(gateway)

    async def unnamed_after(request: bytes) -> Any:
        assert not errors(await raw.ask(request))
        return watched.lanes[-1].session.statements.get("")

    for _ in range(2):
        await raw.ask(run(SSN))
    first = await unnamed_after(run(SSN))
    served = sum(watched.requests)
    assert await unnamed_after(run(SSN)) is first
    await unnamed_after(describe("S", "") + SYNC)
    assert first.shape.fields is not None
    described = await unnamed_after(run(SSN))
    assert described is not first
    assert described.shape.fields is None
    await unnamed_after(run(NAMES))
    assert (await unnamed_after(run(SSN))).text == first.text
    assert sum(watched.requests) >= served + 3


async def test_what_the_log_calls_shown_is_shown_and_ends_once_whatever_comes_after(
    gateway: Gateway, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    for _ in range(3):
        await raw.ask(run(SSN))
    assert watched.answers[-1]
    gateway.record.entries.clear()

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("gateway.listeners.postgres_express.read_extended", fails)
    heard = await raw.ask(run(SSN))
    async with asyncio.timeout(60):
        while not gateway.record.of("session.closed"):
            await asyncio.sleep(0.01)

    assert rows(heard) == [[b"[REDACTED]"]]
    assert [entry.body["status"] for entry in gateway.record.of("statement.completed")] == ["completed"]
