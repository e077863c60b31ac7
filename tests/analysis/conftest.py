"""A small clinic of its own on the run's real PostgreSQL, and an analyst that reads it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from analysis.statement import Analysis, Statement
from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.context import SessionContext
from gateway.upstreams.postgres_analyst import PostgresAnalyst

SCHEMA = Path(__file__).with_name("schema.sql")
Analyse = Callable[..., Awaitable[Analysis]]


@pytest.fixture(scope="session")
def scratch_dsn(postgres_dsn: str) -> Iterator[str]:
    """HOOPWEB_TEST_PG_DSN names another server to read (an older major version, for instance)."""
    server = os.environ.get("HOOPWEB_TEST_PG_DSN", postgres_dsn)
    database = f"analysis_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    dsn = make_conninfo(server, dbname=database)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.read_bytes())
    yield dsn
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture
def session_context() -> SessionContext:
    return SessionContext(
        principal=Principal(subject="agent", issuer="tests", groups=frozenset()),
        connection=ConnectionSpec("clinic", "postgres"),
        protocol="postgres",
        search_path='"$user", public',
    )


def analyst_of(dsn: str) -> PostgresAnalyst:
    async def dsn_for(_spec: ConnectionSpec) -> str:
        return dsn

    return PostgresAnalyst(dsn_for)


@pytest_asyncio.fixture
async def analyst(scratch_dsn: str) -> AsyncIterator[PostgresAnalyst]:
    made = analyst_of(scratch_dsn)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_analyst(scratch_dsn: str) -> AsyncIterator[PostgresAnalyst]:
    """One that reads for every test of a module, as a gateway's does: a connection and a catalogue for each took most
    of the time. Such a module runs its tests on one loop (`loop_scope`) and calls this its `analyst`."""
    made = analyst_of(scratch_dsn)
    yield made
    await made.close()


@pytest.fixture
def analyse(analyst: PostgresAnalyst, session_context: SessionContext) -> Analyse:
    async def run(text: str, *, types: tuple[int, ...] = ()) -> Analysis:
        return await analyst.analyse(session_context, Statement(text, parameter_types=types))

    return run
