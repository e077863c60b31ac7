"""A client that sends more than anybody can serve delays nobody but itself, and is held in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

from gateway.listeners.postgres_session import MOST_A_TURN, MOST_EXPECTED, ClientSession
from gateway.upstreams.postgres_expectations import Expectation
from gateway.upstreams.postgres_relay import Relay
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import FLUSH, SYNC, RawClient, bind, close, execute, kinds, parse

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
