"""Who may ask how much of the database at once, besides what statements ask of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from psycopg import AsyncConnection

from analysis.catalogue import Catalogue
from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams import postgres_side
from gateway.upstreams.postgres_side import SHARE, PostgresSide
from gateway.upstreams.postgres_witness import Question

SLOW = "SELECT pg_sleep(60)"


@pytest_asyncio.fixture
async def side(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresSide]:
    """Its questions are run instead of read, so that they take as long as they say."""

    async def dsn_for(_spec: ConnectionSpec) -> str:
        return postgres_dsn

    async def run(connection: AsyncConnection[Any], question: Question, _: Catalogue, **__: object) -> object:
        return await (await connection.execute(question.text.encode())).fetchone()

    monkeypatch.setattr(postgres_side, "ask", run)
    made = PostgresSide(ConnectionSpec("clinic", "postgres"), dsn_for)
    await made.check(time.monotonic())
    yield made
    await made.close()


async def test_whoever_makes_the_database_think_leaves_half_of_it_to_others(side: PostgresSide) -> None:
    slow = [asyncio.create_task(side.read(Question(SLOW, asker="a"))) for _ in range(SHARE)]
    await asyncio.sleep(0.2)
    waiting = asyncio.create_task(side.read(Question("SELECT 1", asker="a")))

    assert await asyncio.wait_for(side.read(Question("SELECT 2", asker="b")), 50) == (2,)
    assert not waiting.done()

    for task in slow:
        task.cancel()
    assert await asyncio.wait_for(waiting, 50) == (1,)


async def test_schema_is_looked_at_however_many_ask(side: PostgresSide) -> None:
    slow = [asyncio.create_task(side.read(Question(SLOW, asker=asker))) for asker in "aabb"]
    await asyncio.sleep(0.2)

    asked_at = time.monotonic()

    await asyncio.wait_for(side.check(asked_at), 50)

    assert side._checked_at >= asked_at
    for task in slow:
        task.cancel()


async def test_shares_are_forgotten_with_who_held_them(side: PostgresSide) -> None:
    for asker in "abc":
        await side.read(Question("SELECT 1", asker=asker))

    assert not side._shares
