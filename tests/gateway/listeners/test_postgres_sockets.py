"""Sessions whose database is reached over its Unix-domain socket: the real server's own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import psycopg
import pytest
import uvloop

from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from gateway.upstreams.postgres_trust import libpq_tls
from hoopweb.embedded.postgres import postgres_binaries
from tests.gateway.listeners.harness import PASSWORD, Gateway, direct_dsn
from tests.gateway.listeners.test_postgres_pooler import until_it_sleeps


@dataclass
class Local(Gateway):
    """A gateway whose connection goes to a directory of sockets."""

    host: str = ""

    def _spec(self, name: str, port: int) -> ConnectionSpec:
        return replace(super()._spec(name, port), host=self.host)


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The product runs on uvloop's transports, most tests on asyncio's."""
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    with psycopg.connect(direct_dsn()) as direct:
        (told,) = direct.execute("show unix_socket_directories").fetchone() or ("",)
    directory = str(told).partition(",")[0]
    if not directory:
        pytest.skip("the developer's own server has no socket")

    async def dsn_for(spec: ConnectionSpec) -> dict[str, str]:
        words = {"host": spec.host, "port": str(spec.port), "dbname": spec.database, "user": spec.username}
        return {**words, "password": PASSWORD, **libpq_tls(spec)}

    analyst = PostgresAnalyst(dsn_for)
    gateway = Local(host=directory, analyst=analyst)
    await gateway.start()
    yield gateway
    await gateway.stop()
    await analyst.close()


async def test_results_are_masked(local: Local) -> None:
    async with await psycopg.AsyncConnection.connect(local.dsn(), autocommit=True) as agent:
        for number in (3, 4, 5, 6):  # prepared under a name, executed again, and remembered
            answer = await agent.execute("select name, ssn from people where id = %s", (number,), prepare=True)
            assert await answer.fetchone() == (f"name {number}", "[REDACTED]")
        answer = await agent.execute("select inet_server_addr() is null as is_local")
        assert await answer.fetchone() == (True,)


async def test_psql_reads_many_rows(local: Local) -> None:
    command = [postgres_binaries() / "psql", "-XAtq", "-c", "select id, ssn from people order by id", local.dsn()]

    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [f"{number}|[REDACTED]" for number in range(1, 1001)]


async def test_statement_is_cancelled(local: Local) -> None:
    async with await psycopg.AsyncConnection.connect(local.dsn(), autocommit=True) as agent:
        running = asyncio.create_task(agent.execute("select pg_sleep(600)"))
        await asyncio.to_thread(until_it_sleeps)
        await agent.cancel_safe()

        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
