"""A real pgbouncer between gateway and database: refused until somebody says that it pools by session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from benchmarks.bouncer import running_bouncer
from benchmarks.world import Endpoint
from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.gateway.listeners.harness import DATABASE, HOST, PASSWORD, PORT, USER, Gateway, direct_dsn


@dataclass
class Pooled(Gateway):
    """A gateway whose connection goes to the pooler."""

    pool: str = ""
    pooler: str = "session"

    def _spec(self, name: str, port: int) -> ConnectionSpec:
        settings = MappingProxyType({"pooler": self.pooler} if self.pooler else {})
        return replace(super()._spec(name, port), database=self.pool, settings=settings)


@pytest.fixture(scope="module")
def pool(people: None) -> Iterator[Endpoint]:
    with running_bouncer(Endpoint("direct", HOST, PORT, DATABASE, USER, PASSWORD)) as pools:
        if not pools:
            pytest.skip("needs Debian's pgbouncer: apt-get install pgbouncer")
        yield pools[0]


@pytest.fixture
async def pooled(pool: Endpoint) -> AsyncIterator[Pooled]:
    async def dsn_for(_spec: ConnectionSpec) -> str:
        return pool.dsn()

    analyst = PostgresAnalyst(dsn_for)
    gateway = Pooled(upstream_port=pool.port, pool=pool.database, analyst=analyst)
    await gateway.start()
    yield gateway
    await gateway.stop()
    await analyst.close()


async def refusal(gateway: Gateway) -> str:
    await gateway.start()
    try:
        with pytest.raises(psycopg.OperationalError) as refused:
            await psycopg.AsyncConnection.connect(gateway.dsn())
    finally:
        await gateway.stop()
    return str(refused.value)


async def test_pooler_nobody_spoke_of_is_refused(pool: Endpoint) -> None:
    told = await refusal(Pooled(upstream_port=pool.port, pool=pool.database, pooler=""))

    assert "the upstream refused the session (08P01); for a pooler see settings.pooler" in told


async def test_pooler_of_another_kind_is_refused(pool: Endpoint) -> None:
    told = await refusal(Pooled(upstream_port=pool.port, pool=pool.database, pooler="transaction"))

    assert "settings.pooler of the connection is not session" in told


async def test_results_are_masked_through_a_pooler(pooled: Pooled) -> None:
    async with await psycopg.AsyncConnection.connect(pooled.dsn(), autocommit=True) as agent:
        for number in (3, 4):  # prepared under a name, and executed again
            answer = await agent.execute("select name, ssn from people where id = %s", (number,), prepare=True)
            assert await answer.fetchone() == (f"name {number}", "[REDACTED]")


async def test_statement_is_cancelled_through_a_pooler(pooled: Pooled) -> None:
    async with await psycopg.AsyncConnection.connect(pooled.dsn(), autocommit=True) as agent:
        running = asyncio.create_task(agent.execute("select pg_sleep(600)"))
        await asyncio.to_thread(until_it_sleeps)
        await agent.cancel_safe()

        with pytest.raises(psycopg.errors.QueryCanceled):
            await running


def until_it_sleeps() -> None:
    asleep = "select count(*) from pg_stat_activity where datname = %s and wait_event = 'PgSleep'"
    with psycopg.connect(make_conninfo(direct_dsn()), autocommit=True) as direct:
        while direct.execute(asleep, (DATABASE,)).fetchone() == (0,):
            direct.execute("select pg_sleep(0.02)")
