"""The express lane changes no byte and no record: every transcript is played with the lane shut and with it open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.listeners.postgres_express import ExpressLane
from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.client import Bind
from gateway.protocols.postgres.frames import ProtocolViolation, split_frames
from gateway.session.known import KnownStatement
from gateway.upstreams.postgres import UpstreamConnection
from gateway.upstreams.postgres_expectations import QueryResult
from gateway.upstreams.postgres_relay import Relay
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import (
    SYNC,
    RawClient,
    bind,
    close,
    describe,
    errors,
    execute,
    kinds,
    parse,
    query,
    rows,
    status,
)

SSN = "select ssn from people where id = 7"
NAMES = "select id, name, ssn from people where id < 4 order by id"
DIVIDED = "select 100 / $1"
SCORED = "update people set score = 1 where id = 9"
ADDED = "insert into people (id) values (9) on conflict do nothing"
GONE = "delete from people where id < 0"


def run(text: str) -> bytes:
    return parse(text) + bind() + describe() + execute() + SYNC


def again(name: str, *values: bytes, formats: tuple[int, ...] = ()) -> bytes:
    return client.encode_bind(Bind("", name, (), values, formats)) + describe() + execute() + SYNC


def bind_some(text: str, most: int) -> bytes:
    return parse(text) + bind() + describe() + execute(rows=most) + SYNC


def told(name: str, *values: bytes, formats: tuple[int, ...] = (), most: int = 0) -> bytes:
    """Executed as by who knows its columns already, and may want some rows only."""
    return client.encode_bind(Bind("", name, (), values, formats)) + execute(rows=most) + SYNC


def known(text: str, name: str) -> bytes:
    return parse(text, name) + describe("S", name) + SYNC


def typed(text: str, name: str) -> bytes:
    return client.encode_parse(client.Parse(name, text, (23,))) + SYNC


# Each is played twice over, so that what the first round leaves to remember serves the second.
TRANSCRIPTS: dict[str, tuple[list[bytes], int]] = {
    "simple, masked": ([query(SSN), query(f"{SSN};")], 3),
    "simple, several rows": ([query(NAMES)], 1),
    "simple, no row": ([query("select ssn from people where id = 0")], 1),
    "extended, masked": ([run(SSN), run(NAMES)], 2),
    "prepared, text and binary": (
        [
            parse(SSN, "s") + SYNC,
            again("s"),
            again("s", formats=(1,)),
            again("s", formats=(0,)),
            close("S", "s") + SYNC,
        ],
        5,
    ),
    "an error instead of rows": ([typed(DIVIDED, "d"), again("d", b"5"), again("d", b"0"), again("d", b"4"),
                                  close("S", "d") + SYNC], 5),
    "an error of a text of the same shape": ([query("select id / 1 from people where id = 7"),
                                              query("select id / 0 from people where id = 7"), query(SSN)], 3),
    "an error of a simple query": ([query("select ssn from people where id = 7 for update"),
                                    query("select id / 0 from people")], 2),
    "in a transaction": ([query("begin"), run(NAMES), execute() + SYNC, query(SSN), query("commit")], 1),
    "the unnamed statement afterwards": ([run(SSN), again(""), query(SSN), again("")], 4),
    "two requests at once": ([run(SSN) + run(NAMES), run(NAMES)], 1),
    "a statement that does not exist": ([again("nowhere"), query(SSN)], 1),
    "a portal after its transaction": ([run(SSN), execute() + SYNC], 1),
    "not described": ([known(SSN, "k"), told("k"), told("k", formats=(1,)), told("k"), close("S", "k") + SYNC], 5),
    "not described, never": ([parse(SSN, "k") + SYNC, told("k"), again("k"), told("k"), close("S", "k") + SYNC], 5),
    "not described, several rows or none": ([known(NAMES, "k"), told("k", formats=(1, 0, 1)), told("k"),
                                             known("select ssn from people where id = 0", "n"), told("n"), told("n"),
                                             close("S", "k") + SYNC, close("S", "n") + SYNC], 5),
    "not described, parsed every time": ([parse(SSN) + told(""), parse(NAMES) + told("", most=2), run(SSN),
                                          parse(SSN) + told("")], 4),
    "not described, an error": ([typed(DIVIDED, "d"), told("d", b"5"), told("d", b"0"), told("d", b"4"),
                                 parse("select id / 0 from people") + told(""), close("S", "d") + SYNC], 5),
    "not described, no columns": ([known("update people set score = 1 where id = 9", "u"), told("u"), told("u"),
                                   close("S", "u") + SYNC], 1),
    "not described, in a transaction": ([query("begin"), known(NAMES, "k"), told("k"), execute() + SYNC, told("k"),
                                         query("commit"), close("S", "k") + SYNC], 2),
    "some rows": ([known(NAMES, "k"), *(told("k", most=most) for most in (1, 2, 3, 4, 1)), close("S", "k") + SYNC], 5),
    "some rows of a described portal": ([bind_some(NAMES, 2), bind_some(SSN, 1), bind_some(NAMES, 9)], 3),
    "some rows, and the rest": ([query("begin"), known(NAMES, "k"), told("k", most=1), execute(rows=1) + SYNC,
                                 execute() + SYNC, told("k", most=2), query("rollback"), close("S", "k") + SYNC], 2),
}  # fmt: skip

WITHOUT_ROWS: dict[str, tuple[list[bytes], int]] = {
    "no columns": ([query(SCORED), query(SSN)], 2),
    "no columns, in several ways": ([
        query(SCORED), query(f"{SCORED};"), run(SCORED), parse(SCORED) + told(""), query(ADDED), query(GONE),
        query("update people set score = 1 / 0 where id = 9"), query(SCORED),
    ], 6),
    "no columns, prepared": ([
        typed("update people set score = 2 where id = $1", "u"), again("u", b"9"), told("u", b"9"),
        told("u", b"0", most=1), again("u", b"x"), known(GONE, "n"), told("n"), close("S", "u") + SYNC,
        close("S", "n") + SYNC,
    ], 5),
    "no columns, in a transaction": ([
        query("begin"), run(SCORED), describe() + SYNC, parse(SCORED, "s") + SYNC, again("s"), told("s"),
        describe() + SYNC, query(SCORED), query("rollback"), close("S", "s") + SYNC,
    ], 6),
    "a result of no columns": ([query("select from people where id < 3"), run("select from people where id < 3")], 2),
}  # fmt: skip
TRANSACTIONS: dict[str, tuple[list[bytes], int]] = {
    "transactions, one after another": ([
        query("begin"), query(SSN), query("commit"), query("BEGIN;"), run(NAMES), query("rollback"),
        query("start transaction"), query(SCORED), query("END;"),
    ], 9),
    "a transaction that fails": ([
        query("begin"), query("select id / 0 from people"), query(SSN), query("commit"), query(SSN), query("begin"),
        query("begin"), query("abort"), query("commit"),
    ], 6),
    "a portal at the end of its transaction": ([
        query("begin"), run(NAMES), query("commit"), execute() + SYNC, query("begin"), execute() + SYNC,
        query("rollback"),
    ], 5),
    "settings of a transaction": ([
        query("begin"), query("set local search_path to nowhere, public"), query(SSN), query("commit"), query(SSN),
        query("begin"), query("set datestyle to german"), query("rollback"), query(SSN),
    ], 4),
    "transactions of prepared words": ([
        parse("begin", "b") + parse("commit", "c") + SYNC, told("b"), query(SSN), told("c"), run("BEGIN"),
        run(NAMES), run("rollback"), again("b"), told("b"), told("c"), told("c"), query(SSN),
        close("S", "b") + close("S", "c") + SYNC,
    ], 8),
    "a portal of a word": ([
        query("begin"), run("begin"), execute() + SYNC, query("rollback"), run("begin"), describe() + SYNC,
        run("commit"), describe() + SYNC,
    ], 3),
    "a transaction that begins with its statement": ([
        parse("BEGIN") + bind() + execute() + run(SSN), run("COMMIT"),
        parse("BEGIN") + bind() + execute() + run(SCORED), run("ROLLBACK"),
    ], 2),
    "a transaction at once with its statement": ([
        query("begin") + query(SSN), query(SSN) + query("commit"), query("begin"), query("commit") + run(SSN),
        query(SSN),
    ], 3),
}  # fmt: skip
TRANSCRIPTS |= WITHOUT_ROWS | TRANSACTIONS


def shut_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything goes the ordinary way from here on."""
    monkeypatch.setattr(ExpressLane, "door", property(lambda lane: lambda data: False))
    monkeypatch.setattr(ExpressLane, "steps", None)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the lane answered, request by request; `shut` in it closes the lane."""
    answers: list[bool] = []
    door = ExpressLane.door.fget
    assert door is not None

    def watched(lane: ExpressLane) -> Callable[[bytes], bool]:
        serve = door(lane)

        def serve_watched(data: bytes) -> bool:
            answers.append(serve(data))
            return answers[-1]

        return serve_watched

    monkeypatch.setattr(ExpressLane, "door", property(watched))
    return answers


def queries_in(request: bytes) -> int:
    return sum([kind == ord("Q") for kind, _ in split_frames(request)])


async def played(gateway: Gateway, requests: list[bytes]) -> tuple[list[Any], list[Any]]:
    """Everything the client heard, and everything that was recorded but ids and times."""
    raw = await RawClient.connect(gateway)
    before = len(gateway.record.entries)
    heard = []
    for request in requests * 2:
        raw.writer.write(request)
        for _ in range(request.count(SYNC) + queries_in(request)):
            heard.append(await raw.until_ready())
    raw.close()
    recorded = [(e.kind, dict(e.body), e.sensitive) for e in gateway.record.entries[before:]]
    return heard, [entry for entry in recorded if entry[0].startswith("statement.")]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("name", TRANSCRIPTS)
@pytest.mark.by_turns(2)
async def test_transcript_is_the_same_with_the_lane_shut_and_open(
    gateway: Gateway, served: list[bool], monkeypatch: pytest.MonkeyPatch, name: str, waits: bool
) -> None:
    monkeypatch.setattr(KnownStatement, "waits", waits)
    requests, at_least = TRANSCRIPTS[name]
    with monkeypatch.context() as shut:
        shut_lane(shut)
        expected = await played(gateway, requests)

    found = await played(gateway, requests)

    assert len(found[0]) == len(expected[0])
    for one, other in zip(found[0], expected[0], strict=True):
        assert _without_ids(one) == _without_ids(other)
    assert found[1] == expected[1]
    assert sum(served) >= at_least


def _without_ids(frames: list[tuple[str, bytes]]) -> list[Any]:
    """Errors of ours name the session and the statement, those of a server where in its source they were noticed."""
    return [(kind, [server.decode_error(body)[key] for key in "SVC"] if kind == "E" else body) for kind, body in frames]


async def test_no_value_passes_the_lane_unmasked(gateway: Gateway, served: list[bool]) -> None:
    raw = await RawClient.connect(gateway)

    for request in (query(SSN), run(SSN), query(SSN), run(SSN), query(SSN)):
        heard = await raw.ask(request)
        assert rows(heard) == [[b"[REDACTED]"]]

    assert served[-3:] == [True, True, True]
    assert gateway.record.of("statement.completed")[-1].body["masked"] == [
        {"column": "ssn", "rule": "ssn", "technique": "redact", "count": 1}
    ]


@pytest.mark.parametrize("waits", [False, True])
async def test_nothing_runs_in_the_lane_without_a_record(
    gateway: Gateway, served: list[bool], monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr(KnownStatement, "waits", waits)
    raw = await RawClient.connect(gateway)
    await raw.ask(query(SSN))
    await raw.ask(query(SSN))
    assert served[-1]

    gateway.record.broken = True
    heard = await raw.ask(query(SSN))

    assert served[-1] is waits  # one that waits is given back when it hears that there is no record
    assert kinds(heard) == "EZ"
    assert "record" in errors(heard)[0]["M"] or "audit" in errors(heard)[0]["M"]


async def test_notice_and_slow_answer_leave_the_lane(gateway: Gateway, served: list[bool]) -> None:
    raw = await RawClient.connect(gateway)
    slow = "select ssn, pg_sleep(0.2) from people where id = 7"
    for _ in range(2):
        assert kinds(await raw.ask(query(slow))) == "TDCZ"

    raw.writer.write(query(slow))
    await asyncio.sleep(0.05)
    raw.writer.write(query(NAMES))
    first, second = await raw.until_ready(), await raw.until_ready()

    assert served.count(True) >= 2
    assert (kinds(first), kinds(second)) == ("TDCZ", "TDDDCZ")
    assert all(row[-1] == b"[REDACTED]" for row in rows(second))


@pytest.mark.parametrize("leave", [RawClient.close, lambda raw: raw.writer.transport.abort()])
async def test_client_that_leaves_meanwhile_is_recorded_as_cancelled(
    gateway: Gateway, served: list[bool], leave: Callable[[RawClient], None]
) -> None:
    raw = await RawClient.connect(gateway)
    slow = "select ssn, pg_sleep(1) from people where id = 7"
    await raw.ask(query(slow))

    raw.writer.write(query(slow))
    while not served[-1]:
        await asyncio.sleep(0.01)
    leave(raw)
    while len(gateway.record.of("session.closed")) < 1:
        await asyncio.sleep(0.01)

    outcomes = [entry.body["status"] for entry in gateway.record.of("statement.completed")]
    assert outcomes == ["completed", "cancelled"]
    assert len(gateway.record.of("statement.authorised")) == 2


async def test_portal_of_the_lane_can_be_executed_again_in_its_transaction(
    gateway: Gateway, served: list[bool]
) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    await raw.ask(run(NAMES))
    heard = await raw.ask(run(NAMES))
    assert served[-1]
    assert status(heard) == "T"

    more = await raw.ask(execute() + SYNC)

    assert kinds(more) == "CZ"  # the portal is at its end, and is the one the lane made
    assert len(gateway.record.of("statement.authorised")) == 4


async def test_what_comes_again_reaches_the_server_as_the_query_it_was(
    gateway: Gateway, served: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query with another statement in it never does, nor anything the first time."""
    sent: list[bytes] = []
    write = UpstreamConnection.write

    def told(upstream: UpstreamConnection, data: bytes) -> None:
        sent.append(data)
        write(upstream, data)

    monkeypatch.setattr(UpstreamConnection, "write", told)
    monkeypatch.setattr("gateway.listeners.postgres_express.QuickLane", None)
    raw = await RawClient.connect(gateway)
    two = f"{SSN}; {SSN}"
    for text in (SSN, SSN, f"{SSN};", two, two):
        await raw.ask(query(text))
    raw.close()

    assert [data for data in sent if data[:1] == b"Q"] == [query(SSN), query(f"{SSN};")]


def test_second_description_in_the_answer_to_a_query_is_a_breach() -> None:
    class Planned:
        permit, text = None, SSN

        def prepare(self, fields: object) -> None: ...

    result = QueryResult(Planned())  # type: ignore[arg-type]
    relay = Relay(write=lambda _: None, phi=True, woken=lambda: None)
    described = server.encode_row_description((server.Field("ssn", 0, 0, 25, 0),))

    assert not result.reply(relay, server.ROW_DESCRIPTION, described)
    with pytest.raises(ProtocolViolation):
        result.reply(relay, server.ROW_DESCRIPTION, described)
