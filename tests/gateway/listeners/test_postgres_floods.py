"""A client that sends more than anybody can serve delays nobody but itself, and is held in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

from gateway.listeners import postgres_memory, postgres_names, postgres_session
from gateway.listeners.postgres_asking import MOST_A_TURN
from gateway.listeners.postgres_session import MOST_EXPECTED, ClientSession
from gateway.upstreams.postgres_expectations import Expectation
from gateway.upstreams.postgres_relay import MOST_TOLD, MOST_TOLD_LENGTH, Relay
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import (
    FLUSH,
    SYNC,
    RawClient,
    bind,
    close,
    errors,
    execute,
    kinds,
    parse,
    query,
    rows,
    status,
)

MANY = 5 * MOST_EXPECTED


async def test_many_small_messages_are_served_a_few_a_turn(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, served = 0, []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    monkeypatch.setattr(ClientSession, "push_answers", lambda session: served.append(turns))
    raw = await RawClient.connect(gateway)
    counting = asyncio.create_task(count_turns())

    await raw.ask(FLUSH * 10_000, SYNC)
    counting.cancel()
    raw.close()

    assert len(served) == 10_000
    assert max(served.count(turn) for turn in set(served)) <= MOST_A_TURN


async def test_answers_of_a_server_that_is_busy_are_expected_up_to_a_bound(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, push = 0, Relay.push

    def counted(relay: Relay, expectation: Expectation) -> None:
        nonlocal most
        push(relay, expectation)
        most = max(most, relay.expected)

    monkeypatch.setattr(Relay, "push", counted)
    raw = await RawClient.connect(gateway)
    with psycopg.connect(direct_dsn()) as other:
        other.execute("lock people")
        raw.writer.write(parse("select id from people where id = 7") + bind() + execute() + FLUSH)
        raw.writer.write(close("S", "x") * MANY + SYNC)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while most <= MOST_EXPECTED:
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # in which much more would come

    heard = await raw.until_ready()
    raw.close()

    assert MOST_EXPECTED < most < MOST_EXPECTED + MOST_A_TURN
    assert kinds(heard).lstrip("12D").removeprefix("C") == "3" * MANY + "Z"


@pytest.fixture
def small_names(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes may be kept under names, a hundredth of a megabyte of them."""
    for module in (postgres_names, postgres_session):
        monkeypatch.setattr(module, "MAX_NAMED_BYTES", 10_000)
    return 10_000


@pytest.mark.usefixtures("small_names")
@pytest.mark.parametrize("pipelined", [True, False])
async def test_what_names_stand_for_is_kept_up_to_a_bound(gateway: Gateway, *, pipelined: bool) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(parse("select $1::text", name="q"), SYNC)
    await raw.ask(query("begin"))
    portals = [bind("q", f"p{number}", values=(b"x" * 1_000,)) for number in range(100)]

    answers = [await raw.ask(*portals, SYNC)] if pipelined else [await raw.ask(portal, SYNC) for portal in portals[:12]]
    session = next(iter(gateway.listener._keys.values()))
    kept, proposed = session.portals._kept_bytes, session.portals.proposed_bytes

    assert errors(answers[-1])[0]["C"] == "54000"
    assert (kept, proposed) == (11_000, 0)
    await raw.ask(query("rollback"))
    assert session.portals._kept_bytes == 0
    assert rows(await raw.ask(bind("q", "p", values=(b"y",)), execute("p"), SYNC)) == [[b"y"]]
    raw.close()


@pytest.mark.usefixtures("small_names")
async def test_unnamed_ones_take_each_others_place_however_large(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(parse("select $1::text", name="q"), SYNC)
    values = [b"%d" % number * 3_000 for number in range(10)]

    heard = await raw.ask(*[bind("q", values=(value,)) + execute() for value in values], SYNC)

    assert rows(heard) == [[value] for value in values]
    assert status(heard) == "I"
    raw.close()


async def test_texts_of_prepare_are_kept_up_to_a_bound(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_memory, "MAX_NAMED_BYTES", 10_000)
    raw = await RawClient.connect(gateway)
    session = next(iter(gateway.listener._keys.values()))

    for number in range(20):
        await raw.ask(query(f"prepare p{number} as select '{number}{'x' * 1_000}'"))

    assert 8_000 < session.memory._source_bytes <= 10_000
    assert sorted(session.context.prepared) == sorted(f"p{number}" for number in range(11, 20))
    assert rows(await raw.ask(query("execute p19"))) == [[b"19" + b"x" * 1_000]]
    await raw.ask(query("deallocate p19"))
    await raw.ask(query("deallocate all"))
    assert (session.memory._source_bytes, session.memory._sources) == (0, {})
    raw.close()


async def test_text_of_a_cursor_goes_with_it(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    session = next(iter(gateway.listener._keys.values()))

    await raw.ask(query("begin; declare c cursor for select 1; close c; declare d cursor for select 2"))
    kept = set(session.memory._sources)
    await raw.ask(query("close all; commit"))

    assert kept == {("cursor", "d")}
    assert session.memory._sources == {}
    raw.close()


async def test_settings_that_are_told_again_and_again_are_remembered_up_to_a_bound(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    (session,) = gateway.listener._keys.values()

    for number in range(2 * MOST_TOLD):
        heard = await raw.ask(query(f"set application_name = 'name {number}'"))
        assert kinds(heard) == "SCZ"
    longest = await raw.ask(query(f"set search_path = {', '.join(f'schema_{number:050}' for number in range(100))}"))
    kept = list(session.relay._repeatable or ())

    await raw.ask(query("begin"))
    await raw.ask(query("set application_name = 'another'"))
    back = await raw.ask(query("rollback"))
    raw.close()

    assert len(kept) == MOST_TOLD
    assert sum(len(name) + len(value) for name, value in kept) < MOST_TOLD * MOST_TOLD_LENGTH
    assert "C" in kinds(longest)
    assert kinds(back) == "SCZ", "the newest value is told again where it comes back"
