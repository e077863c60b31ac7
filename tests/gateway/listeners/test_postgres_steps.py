"""Executions of a pipeline in the express lane: no byte and no entry is another than on the ordinary way."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from analysis.statement import Operation
from approvals.domain.decide import EVERY_RIGHT, AccessRule, Action, Condition, PolicyRule
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners import postgres_express
from gateway.listeners.postgres_pipelines import Pipelines
from gateway.listeners.postgres_session import MOST_STEPS, ClientSession
from gateway.protocols.postgres import client
from gateway.protocols.postgres.client import Bind, Parse
from gateway.upstreams.postgres import UpstreamConnection
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from gateway.upstreams.postgres_relay import Relay
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import (
    FLUSH,
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
)
from tests.gateway.listeners.test_postgres_cancel import cancelled
from tests.gateway.listeners.test_postgres_express import (
    DIVIDED,
    NAMES,
    SSN,
    _without_ids,
    played,
    run,
    shut_lane,
    typed,
)
from tests.gateway.listeners.test_postgres_holding import wait_for

pytestmark = pytest.mark.skipif(postgres_express.QuickLane is None, reason="nobody compiled it")

ONE = "select id, ssn from people where id = $1"
SCORED = "update people set score = 3 where id = $1"


def step(name: str, *values: bytes, formats: tuple[int, ...] = (), described: bool = True, most: int = 0) -> bytes:
    bound = client.encode_bind(Bind("", name, (), values, formats))
    return bound + (describe() if described else b"") + execute(rows=most)


def steps(name: str, *values: int, described: bool = True) -> bytes:
    return b"".join(step(name, b"%d" % value, described=described) for value in values)


def kept(text: str, name: str) -> bytes:
    return client.encode_parse(Parse(name, text, (23,)))


ONCE = [kept(ONE, "k") + SYNC, steps("k", 1) + SYNC]
GONE = close("S", "k") + SYNC

# Each is played twice over. The number says how many executions are served as steps at least.
PIPELINES: dict[str, tuple[list[bytes], int]] = {
    "rows, described": ([*ONCE, steps("k", *range(1, 7)) + SYNC, GONE], 12),
    "rows, not described": ([*ONCE, steps("k", *range(1, 7), described=False) + SYNC, GONE], 12),
    "rows, described or not": ([*ONCE, b"".join(
        step("k", b"%d" % n, described=n % 2 == 0, formats=(n % 3 // 2,)) for n in range(1, 9)) + SYNC, GONE], 10),
    "no rows": ([typed(SCORED, "k"), steps("k", 9) + SYNC, steps("k", *range(9, 30)) + SYNC, GONE], 40),
    "no rows, not described": (
        [typed(SCORED, "k"), steps("k", 9) + SYNC, steps("k", *range(9, 30), described=False) + SYNC, GONE], 40,
    ),
    "more than a turn": ([*ONCE, steps("k", *range(200)) + SYNC, GONE], 300),
    "parsed in the same pipeline": ([kept(ONE, "k") + steps("k", *range(1, 9)) + SYNC, GONE,
                                     parse("begin") + bind() + execute() + kept(ONE, "k") + steps("k", 1, 2, 3) + SYNC,
                                     run("commit"), GONE], 10),
    "a name made anew": ([*ONCE, steps("k", 1, 2) + close("S", "k") + kept(SCORED, "k") + steps("k", 9, 9) + SYNC,
                          steps("k", 9, 9) + SYNC, GONE], 4),
    "a name that is taken": ([*ONCE, steps("k", 1, 2) + kept(SCORED, "k") + steps("k", 3, 4) + SYNC,
                              steps("k", 1, 2) + SYNC, GONE], 4),
    "the unnamed statement": ([kept(ONE, "") + steps("", 1, 2, 3) + SYNC, steps("", 4, 5) + SYNC], 4),
    "an error in between": ([typed(DIVIDED, "k"), steps("k", 5) + SYNC, steps("k", 1, 2, 0, 4, 5) + SYNC,
                             steps("k", 0, 1) + SYNC, steps("k", 1, 0) + SYNC, GONE], 6),
    "a value of no type": ([*ONCE, steps("k", 1, 2) + step("k", b"x") + steps("k", 3) + SYNC, GONE], 4),
    "too many values": ([*ONCE, steps("k", 1, 2) + step("k", b"1", b"2") + steps("k", 3) + SYNC, GONE], 4),
    "a statement that does not exist": ([*ONCE, steps("k", 1, 2) + step("nowhere") + steps("k", 3) + SYNC, GONE], 4),
    "two statements": ([*ONCE, kept(SCORED, "u") + SYNC, steps("u", 9) + SYNC,
                        b"".join(steps("k", n) + steps("u", 9) for n in range(5)) + SYNC, GONE,
                        close("S", "u") + SYNC], 20),
    "some rows": ([parse(NAMES, "k") + SYNC, step("k") + SYNC,
                   b"".join(step("k", most=n, described=n % 2 == 0) for n in range(5)) + SYNC, GONE], 8),
    "some rows, and the rest": ([parse(NAMES, "k") + SYNC, step("k") + SYNC, query("begin"),
                                 step("k", most=1) + step("k", most=1) + execute() + SYNC, execute() + SYNC,
                                 step("k", most=2) + step("k", most=1) + SYNC, execute(rows=1) + SYNC,
                                 describe() + SYNC, close("P", "") + SYNC, query("rollback"), GONE], 4),
    "the portal afterwards": ([*ONCE, steps("k", 1, 2) + execute() + SYNC, execute() + SYNC,
                               steps("k", 1, 2) + describe() + close("P", "") + execute() + SYNC, GONE], 4),
    "flushed": ([*ONCE, steps("k", 1, 2) + FLUSH + steps("k", 3, 4) + FLUSH + SYNC, GONE], 8),
    "several requests": ([*ONCE, steps("k", 1, 2) + SYNC + steps("k", 3, 4) + SYNC + steps("k", 5) + SYNC, GONE], 6),
    "behind a query": ([*ONCE, query(SSN) + steps("k", 1, 2) + SYNC + query(SSN), GONE], 4),
    "in a transaction": ([*ONCE, query("begin"), steps("k", 1, 2, 3) + SYNC, steps("k", 4, 5) + SYNC, query(SSN),
                          steps("k", 1) + SYNC, execute() + SYNC, query("commit"), execute() + SYNC, GONE], 8),
    "in a transaction that fails": ([typed(DIVIDED, "k"), steps("k", 5) + SYNC, query("begin"),
                                     steps("k", 1, 0, 2) + SYNC, steps("k", 1, 2) + SYNC, query("commit"),
                                     steps("k", 1, 2) + SYNC, GONE], 4),
    "with words of transactions": ([*ONCE, parse("begin") + bind() + execute() + steps("k", 1, 2, 3)
                                    + parse("commit") + bind() + execute() + steps("k", 4, 5) + SYNC, GONE], 4),
    "behind another role": ([*ONCE, parse("set role pg_monitor") + bind() + execute() + steps("k", 1, 2) + SYNC,
                             steps("k", 1, 2) + SYNC, query("reset role"), steps("k", 1, 2) + SYNC, GONE], 2),
    "behind another search_path": ([*ONCE, parse("set search_path to nowhere") + bind() + execute()
                                    + steps("k", 1, 2) + SYNC, query("reset search_path"), GONE], 0),
    "what is denied": ([*ONCE, steps("k", 1, 2) + parse("select pg_read_file('/etc/passwd')") + bind() + execute()
                        + steps("k", 3) + SYNC, GONE], 2),
}  # fmt: skip


# Something else comes right behind them, and counts on ordinary expectations.
UNFOLDED = {"behind another search_path", "a statement that does not exist", "the portal afterwards", "behind a query"}


@pytest.fixture(params=["os", "os masked-results", "database"])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    durability, _, recording = request.param.partition(" ")
    running = await Gateway(recording=recording or "metadata", durability=durability).start()
    yield running
    await running.stop()


class Watched:
    """Steps that count what they serve and take."""

    made: Callable[..., Any]
    served = taken = 0

    def __init__(self, lane: Any, recall: Callable[[bytes], bool], deferring: Callable[[Any], Any]) -> None:
        self.real = self.made(lane, recall, deferring)

    def arrived(self, data: bytes) -> int:
        return self._counted(data, self.real.arrived(data))

    def serve(self, data: bytes) -> int:
        return self._counted(data, self.real.serve(data))

    def take(self, data: bytes, at: int) -> int:
        end: int = self.real.take(data, at)
        type(self).taken += end > at
        return end

    def _counted(self, data: bytes, end: int) -> int:
        type(self).served += data[:end].count(b"E\0\0\0\x09\0")
        return end


@pytest.fixture
def watched_steps(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    fresh = type("Fresh", (Watched,), {"made": staticmethod(postgres_express.Steps)})
    monkeypatch.setattr(postgres_express, "Steps", fresh)
    return fresh


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.by_turns(2)
async def test_pipeline_is_the_same_on_either_way(
    gateway: Gateway, watched_steps: type[Watched], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    requests, at_least = PIPELINES[name]
    with monkeypatch.context() as shut:
        shut_lane(shut)
        expected = await played(gateway, requests)
    assert not watched_steps.served

    found = await played(gateway, requests)

    for one, other in zip(found[0], expected[0], strict=True):
        assert _without_ids(one) == _without_ids(other)
    assert _pairs(found[1]) == _pairs(expected[1])
    assert watched_steps.served >= at_least
    assert watched_steps.taken or name in UNFOLDED


def _pairs(entries: list[Any]) -> list[Any]:
    """Begins and ends apart: answers may come before or after the next is sent."""
    return [
        sorted(filter(lambda entry: entry[0] == kind, entries), key=str) for kind in sorted({e[0] for e in entries})
    ]


# --- while some of them have not been answered ------------------------------------------------------------------------

LOCK = 7_402
WAITS = f"select ssn, pg_advisory_xact_lock_shared({LOCK}) from people where id = $1"
READS = "select ssn from people where id = $1"
ASKED = steps("r", 1, 2) + steps("w", 3) + steps("r", 4, 5) + SYNC


@asynccontextmanager
async def waiting(
    gateway: Gateway, asked: bytes = ASKED, waits: str = WAITS, *, authorised: int | None = None
) -> AsyncIterator[tuple[RawClient, psycopg.AsyncConnection[Any]]]:
    """A pipeline of remembered reads, of which the third waits for a lock of the other connection's."""
    raw = await RawClient.connect(gateway)
    await raw.ask(kept(READS, "r") + kept(waits, "w") + SYNC)
    for name in "rwrw":
        await raw.ask(steps(name, 1) + SYNC)
    before = len(gateway.record.of("statement.authorised"))
    async with await psycopg.AsyncConnection.connect(direct_dsn()) as holder:
        await holder.execute("select pg_advisory_xact_lock(%s)", [LOCK])
        raw.writer.write(asked)
        most = asked.count(b"E\0\0\0\x09") if authorised is None else authorised
        await wait_for(lambda: len(gateway.record.of("statement.authorised")) >= before + most)
        yield raw, holder
    raw.close()


def ends(gateway: Gateway) -> list[str]:
    """What became of each statement, in the order in which they began; every one has an end."""
    ended = {entry.statement_id: entry.body["status"] for entry in gateway.record.of("statement.completed")}
    return [ended[entry.statement_id] for entry in gateway.record.of("statement.authorised")]


async def test_rules_that_change_meanwhile_mask_what_comes_from_then_on(watched_steps: type[Watched]) -> None:
    gateway = await Gateway(phi=False, masking=False, durability="os", recording="metadata").start()
    try:
        async with waiting(gateway) as (raw, holder):
            masks = Gateway().snapshot().masking_rules
            gateway.rules = replace(gateway.rules, version=gateway.rules.version + 1, masking_rules=masks)
            await gateway.registry.rules_changed()
            await holder.commit()
            heard = await raw.until("E", "Z")
        assert watched_steps.served >= 5
        assert errors(heard)[0]["C"] == "42501"
        assert len(rows(heard)) <= 2, "the server had answered two before they changed"
    finally:
        await gateway.stop()


async def test_rules_that_changed_without_a_word_mask_what_comes_from_then_on() -> None:
    """As they are found when the answer comes."""
    gateway = await Gateway(phi=False, masking=False, durability="os", recording="metadata").start()
    try:
        async with waiting(gateway, steps("w", 3) + steps("r", 4, 5) + SYNC) as (raw, holder):
            masks = Gateway().snapshot().masking_rules
            gateway.rules = replace(gateway.rules, version=gateway.rules.version + 1, masking_rules=masks)
            await holder.commit()
            heard = await raw.until("E", "Z")
        assert errors(heard)[0]["C"] == "42501"
        assert rows(heard) == []
    finally:
        await gateway.stop()


async def test_client_that_leaves_is_recorded_with_each_of_them(gateway: Gateway, watched_steps: type[Watched]) -> None:
    async with waiting(gateway) as (raw, _):
        raw.writer.transport.abort()
        await wait_for(lambda: bool(gateway.record.of("session.closed")))
    assert watched_steps.served >= 5
    assert ends(gateway)[-5:] == ["cancelled"] * 5


async def test_upstream_that_goes_away_fails_each_of_them(gateway: Gateway) -> None:
    async with waiting(gateway) as (raw, holder):
        await holder.execute(
            "select pg_terminate_backend(pid) from pg_locks l join pg_database d on d.oid = l.database"
            " where datname = current_database() and locktype = 'advisory' and not granted"
        )
        heard = await raw.until("E")
        await wait_for(lambda: bool(gateway.record.of("session.closed")))
    assert errors(heard)[0]["C"] in {"57P01", "08006"}
    assert ends(gateway)[-5:] == ["completed", "completed", "failed", "skipped", "skipped"]


@pytest.mark.parametrize("lane", ["shut", "open"])
async def test_cancel_ends_the_one_that_runs_and_the_rest_is_skipped(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    if lane == "shut":
        shut_lane(monkeypatch)
    async with waiting(gateway) as (raw, _):
        await asyncio.to_thread(cancelled, gateway, struct.pack("!i", raw.key[0]) + raw.key[1])
        heard = await raw.until_ready()
        after = await raw.ask(steps("r", 1, 2) + SYNC)
    assert errors(heard)[0]["C"] == "57014"
    assert rows(heard) == [[b"[REDACTED]"]] * 2
    assert ends(gateway)[-7:] == ["completed", "completed", "cancelled", "skipped", "skipped", "completed", "completed"]
    assert rows(after) == [[b"[REDACTED]"]] * 2


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_none_runs_without_a_record(gateway: Gateway, watched_steps: type[Watched]) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(kept(READS, "r") + steps("r", 1) + SYNC)
    await raw.ask(steps("r", 1, 2, 3) + SYNC)
    served = watched_steps.served
    assert served

    gateway.record.broken = True
    heard = await raw.ask(steps("r", 1, 2, 3) + SYNC)

    # One that waits is given back when it hears that there is no record.
    assert watched_steps.served == served + (3 if gateway.durability == "database" else 0)
    assert kinds(heard) == "2TEZ"  # it was bound, and nothing ran
    assert "record-unavailable" in errors(heard)[0]["D"]


async def test_long_request_takes_the_ordinary_way(gateway: Gateway, watched_steps: type[Watched]) -> None:
    """So that what is kept until it is answered stays small."""
    raw = await RawClient.connect(gateway)
    await raw.ask(parse("select id from people where name = $1", "l") + step("l", b"a") + SYNC)
    await raw.ask(step("l", b"a") * 3 + SYNC)
    served = watched_steps.served
    assert served >= 3

    heard = await raw.ask(step("l", b"a" * 9000) * 3 + SYNC)

    assert watched_steps.served == served
    assert kinds(heard) == "2TC2TC2TCZ"


@pytest.mark.parametrize("pieces", [1, 64])
@pytest.mark.by_turns(2)
async def test_many_more_than_anybody_waits_for(gateway: Gateway, watched_steps: type[Watched], pieces: int) -> None:
    """The client reads only when it has sent everything, and cuts it anywhere."""
    raw = await RawClient.connect(gateway)
    await raw.ask(kept(READS, "r") + steps("r", 1) + SYNC)
    asked, count = steps("r", *range(1, 51)) * 140 + SYNC, 7_000

    async def send() -> None:
        size = len(asked) // pieces + 1
        for at in range(0, len(asked), size):
            raw.writer.write(asked[at : at + size])
            await raw.writer.drain()

    sending = asyncio.create_task(send())
    await asyncio.sleep(0.2)
    heard = await raw.until_ready()
    await sending

    assert rows(heard) == [[b"[REDACTED]"]] * count
    assert ends(gateway).count("completed") == count + 1
    assert watched_steps.served > count * 0.9


async def test_no_more_are_expected_than_may_unfold_at_once(
    gateway: Gateway, watched_steps: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More wait, and are served as steps once there is room."""
    expected: list[int] = []
    unfold = Relay.unfold
    monkeypatch.setattr(Relay, "unfold", lambda own: (expected.append(own.expected), unfold(own)))
    asked = steps("w", 3) + steps("r", 1) * 3_000 + SYNC
    async with waiting(gateway, asked, authorised=MOST_STEPS) as (raw, holder):
        await asyncio.sleep(0.2)
        await gateway.registry.rules_changed()  # unfolds what is expected
        await holder.commit()
        heard = await raw.until_ready()

    assert kinds(heard).count("C") == 3_001
    assert watched_steps.served >= 3_001
    assert MOST_STEPS <= max(expected) < MOST_STEPS + 100


async def test_others_have_their_turn_after_a_run() -> None:
    gateway = await Gateway(recording="metadata", durability="os").start()
    authorised = [0]

    async def count() -> None:
        while True:
            authorised.append(len(gateway.record.of("statement.authorised")))
            await asyncio.sleep(0)

    try:
        async with waiting(gateway, steps("w", 3)) as (raw, holder):
            counting = asyncio.create_task(count())
            raw.writer.write(steps("r", 1) * 900 + SYNC)
            await wait_for(lambda: authorised[-1] > 900)
            counting.cancel()
            await holder.commit()
            await raw.until_ready()
    finally:
        await gateway.stop()
    begun = [after - before for before, after in pairwise(authorised[1:])]
    assert 0 < max(begun) <= 3 * 64


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def reader() -> AsyncIterator[Gateway]:
    """With the product's own analysis; everybody has every right, and may define relations."""

    async def dsn_for(_spec: ConnectionSpec) -> str:
        return direct_dsn()

    analyst = PostgresAnalyst(dsn_for)
    running = await Gateway(analyst=analyst, durability="os", recording="metadata").start()
    every = (AccessRule(frozenset({"ai-agents"}), ("*",), EVERY_RIGHT),)
    running.rules = replace(running.rules, access_rules=every, policies=())
    yield running
    await running.stop()
    await analyst.close()


def done(text: str) -> bytes:
    return parse(text) + bind("", "c") + execute("c") + close("P", "c")


SHADOW = "create temp table people as select id, 'harmless'::text as ssn from public.people"
DROPPED = done("drop table pg_temp.people")
FAILED = parse("select 1 / 0") + bind("", "c") + execute("c")
TWO = steps("r", 1, 2) + SYNC
KNOWN = [kept(READS, "r") + SYNC, steps("r", 1) + SYNC, TWO]
SHADOWED: dict[str, list[bytes]] = {
    "in the same pipeline": [*KNOWN, steps("r", 1, 2) + done(SHADOW) + steps("r", 3, 4) + SYNC, TWO],
    "under a portal": [*KNOWN, query("begin"), step("r", b"3", most=1) + done(SHADOW) + execute() + SYNC],
    "under a portal of the last request": [
        *KNOWN, query("begin"), steps("r", 1) + step("r", b"3", most=1) + SYNC, done(SHADOW) + execute() + SYNC,
    ],
    "and dropped": [*KNOWN, done(SHADOW) + SYNC, TWO, steps("r", 1, 2) + DROPPED + steps("r", 3) + SYNC, TWO],
    "and undone": [*KNOWN, done(SHADOW) + FAILED + steps("r", 1) + SYNC, TWO],
    "and undone while more comes": [*KNOWN, done(SHADOW) + FAILED + SYNC + TWO + TWO],
    "and rolled back": [*KNOWN, query("begin"), done(SHADOW) + TWO, TWO, query("rollback") + TWO, TWO],
}  # fmt: skip


@pytest.mark.parametrize("name", SHADOWED)
@pytest.mark.by_turns(2)
async def test_relation_that_stands_before_another_uncovers_nothing(
    reader: Gateway, watched_steps: type[Watched], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as shut:
        shut_lane(shut)
        expected = await played(reader, SHADOWED[name])

    found = await played(reader, SHADOWED[name])

    shown = b"".join(body for answer in found[0] for _, body in answer)
    assert b"[REDACTED]" in shown
    assert b"078-05-" not in shown
    assert [_without_relations(answer) for answer in found[0]] == list(map(_without_relations, expected[0]))
    assert watched_steps.served >= 2


async def test_portal_means_what_names_meant_when_it_was_sent(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another session defines while it waits may give them another meaning."""
    sessions: list[ClientSession] = []
    carry = Pipelines.carry
    monkeypatch.setattr(Pipelines, "carry", lambda own, steps: (sessions.append(own._session), carry(own, steps)))
    async with waiting(gateway, steps("r", 1) + step("w", b"3") + FLUSH) as (raw, holder):
        names = sessions[0].plans.names
        sessions[0].context.schema_version += " and another"
        assert not sessions[0].plans.fresh
        await holder.commit()
        await raw.until("C")
        await raw.until("C")
        portal = sessions[0].portals.get("")

    assert portal is not None
    assert portal.names == names != sessions[0].plans.names


def _without_relations(answer: list[tuple[str, bytes]]) -> list[Any]:
    """Their numbers are others each time."""
    return [(kind, None if kind == "T" else said) for kind, said in _without_ids(answer)]


# --- while their entries are waited for -------------------------------------------------------------------------------


@pytest.fixture
async def held() -> AsyncIterator[tuple[Gateway, RawClient, list[Callable[[], None]]]]:
    """Three executions whose entries are on their way: each becomes durable when it is called."""
    gateway = await Gateway(recording="metadata", durability="database").start()
    raw = await RawClient.connect(gateway)
    await raw.ask(kept(READS, "r") + SYNC)
    await raw.ask(steps("r", 1) + SYNC)
    await raw.ask(steps("r", 1, 2) + SYNC)
    gateway.record.holding = answers = []
    raw.writer.write(steps("r", 3, 4, 5) + SYNC)
    await wait_for(lambda: len(answers) == 3)
    yield gateway, raw, answers
    raw.close()
    await gateway.stop()


Held = tuple[Gateway, RawClient, list[Callable[[], None]]]


async def test_they_are_sent_when_all_are_durable(held: Held, watched_upstream: list[bytes]) -> None:
    gateway, raw, answers = held
    for answer in (answers[2], answers[0]):
        answer()
    await asyncio.sleep(0.05)
    assert watched_upstream == []
    gateway.record.holding = None
    answers[1]()
    heard = await raw.until_ready()

    assert b"".join(watched_upstream).count(b"E\0\0\0\x09") == 3
    assert rows(heard) == [[b"[REDACTED]"]] * 3
    assert set(ends(gateway)) == {"completed"}


async def test_none_is_sent_when_one_is_not_recorded(held: Held, watched_upstream: list[bytes]) -> None:
    gateway, raw, answers = held
    answers[0]()
    gateway.record.holding, gateway.record.broken = None, True
    for answer in answers[1:]:
        answer()
    heard = await raw.until_ready()

    assert "record-unavailable" in errors(heard)[0]["D"]
    assert rows(heard) == []
    assert b"".join(watched_upstream).count(b"E\0\0\0\x09") == 0
    assert ends(gateway)[-1:] == ["skipped"]


async def test_what_is_cancelled_meanwhile_is_never_sent(held: Held, watched_upstream: list[bytes]) -> None:
    gateway, raw, answers = held
    await asyncio.to_thread(cancelled, gateway, struct.pack("!i", raw.key[0]) + raw.key[1])
    for answer in answers:
        answer()
    heard = await raw.until_ready()

    assert errors(heard)[0]["C"] == "57014"
    assert rows(heard) == []
    assert b"".join(watched_upstream).count(b"E\0\0\0\x09") == 0
    assert ends(gateway)[-3:] == ["cancelled"] * 3
    gateway.record.holding = None
    assert rows(await raw.ask(steps("r", 1) + SYNC)) == [[b"[REDACTED]"]]


async def test_what_the_rules_say_otherwise_meanwhile_is_asked_anew(held: Held) -> None:
    gateway, raw, answers = held
    policy = PolicyRule("no-reads", ("people",), Action.DENY, Condition(operation=frozenset({Operation.READ})))
    gateway.rules = replace(gateway.rules, version=gateway.rules.version + 1, policies=(policy,))
    gateway.record.holding = None
    for answer in answers:
        answer()
    heard = await raw.until_ready()

    assert errors(heard)[0]["C"] == "42501"
    assert rows(heard) == []
    assert ends(gateway)[-3:] == ["skipped"] * 3


async def test_client_that_leaves_meanwhile_has_them_cancelled(held: Held, watched_upstream: list[bytes]) -> None:
    gateway, raw, answers = held
    raw.writer.transport.abort()
    await asyncio.sleep(0.05)
    for answer in answers:
        answer()
    await wait_for(lambda: bool(gateway.record.of("session.closed")))

    assert b"".join(watched_upstream).count(b"E\0\0\0\x09") == 0
    assert ends(gateway)[-3:] == ["cancelled"] * 3


async def test_cancel_reaches_what_runs_before_them() -> None:
    gateway = await Gateway(recording="metadata", durability="database").start()
    try:
        async with waiting(gateway, steps("w", 3)) as (raw, _):
            gateway.record.holding = answers = []
            raw.writer.write(steps("r", 1, 2) + SYNC)
            await wait_for(lambda: len(answers) == 2)
            await asyncio.to_thread(cancelled, gateway, struct.pack("!i", raw.key[0]) + raw.key[1])
            for answer in answers:
                answer()
            heard = await raw.until_ready()
        assert kinds(heard) == "2TEZ"
        assert errors(heard)[0]["C"] == "57014"
        found = [end for end in ends(gateway) if end != "completed"]
        assert found == ["cancelled", *["skipped"] * (len(found) - 1)]
        assert len(found) >= 3
    finally:
        await gateway.stop()


async def test_cancel_of_what_runs_leaves_the_next_request_alone() -> None:
    gateway = await Gateway(recording="metadata", durability="database").start()
    try:
        async with waiting(gateway, steps("w", 3) + SYNC) as (raw, _):
            gateway.record.holding = answers = []
            raw.writer.write(steps("r", 1, 2) + SYNC)
            await wait_for(lambda: len(answers) == 2)
            await asyncio.to_thread(cancelled, gateway, struct.pack("!i", raw.key[0]) + raw.key[1])
            heard = await raw.until_ready()
            gateway.record.holding = None
            for answer in answers:
                answer()
            after = await raw.until_ready()
        assert errors(heard)[0]["C"] == "57014"
        assert rows(after) == [[b"[REDACTED]"]] * 2
    finally:
        await gateway.stop()


async def test_what_the_log_calls_shown_is_shown_where_a_later_answer_fails(
    watched_steps: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is masked here, so that answers are handed on as they came, several in one piece."""
    gateway = await Gateway(phi=False, masking=False).start()
    try:
        raw = await RawClient.connect(gateway)
        await raw.ask(kept(READS, "r") + SYNC)
        for _ in range(2):
            await raw.ask(steps("r", 1) + SYNC)
        gateway.record.entries.clear()
        keep, asked = gateway.sink.keep, []

        def fails_at_last(*given: Any) -> str:
            asked.append(given)
            if len(asked) == 3:
                raise MemoryError
            return keep(*given)

        monkeypatch.setattr(gateway.sink, "keep", fails_at_last)
        raw.writer.write(steps("r", 1, 2, 3, 4) + SYNC)
        heard = await raw.until("E")
        await wait_for(lambda: bool(gateway.record.of("session.closed")))

        assert watched_steps.served >= 4
        assert ends(gateway) == ["completed", "completed", "failed", "failed"]
        assert len(rows(heard)) == 2
    finally:
        await gateway.stop()


async def test_what_stands_behind_a_failure_is_skipped_once() -> None:
    gateway = await Gateway(recording="metadata", durability="database").start()
    failing = f"select pg_advisory_xact_lock_shared({LOCK}), 1 / (id - 3) from people where id = $1"
    try:
        async with waiting(gateway, steps("w", 3), failing) as (raw, holder):
            gateway.record.holding = answers = []
            raw.writer.write(steps("r", 1, 2))
            await wait_for(lambda: len(answers) == 2)
            await holder.commit()
            refused = await raw.until("E")
            gateway.record.holding = None
            for answer in answers:
                answer()
            raw.writer.write(steps("r", 1) + SYNC)
            await raw.until_ready()
            assert rows(await raw.ask(steps("r", 1) + SYNC)) == [[b"[REDACTED]"]]
        assert errors(refused)[0]["C"] == "22012"
        assert ends(gateway)[4:] == ["failed", "skipped", "skipped", "completed"]
    finally:
        await gateway.stop()


@pytest.fixture
def watched_upstream(held: Held, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What goes to the server from here on."""
    sent: list[bytes] = []
    write = UpstreamConnection.write
    monkeypatch.setattr(UpstreamConnection, "write", lambda own, data: (sent.append(data), write(own, data)))
    return sent
