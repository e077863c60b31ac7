"""A gateway with the real analysis between the run's PostgreSQL, tapped, and whatever these tests throw at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.fuzz.tap import Tap, tapped
from tests.gateway.listeners.harness import (
    HOST,
    PORT,
    Gateway,
    direct_dsn,
    drop_database,
    make_database,
    make_people,
)


@dataclass
class Range:
    """A firing range: `gateway` is shot at, `tap` sees what comes out behind it."""

    gateway: Gateway
    tap: Tap

    def authorised(self) -> dict[str, int]:
        """How often each text was authorised, by the record."""
        counts: dict[str, int] = {}
        for entry in self.gateway.record.of("statement.authorised"):
            text = str((entry.sensitive or {})["statement"])
            counts[text] = counts.get(text, 0) + 1
        return counts


@pytest.fixture(scope="session", autouse=True)
def people() -> Iterator[None]:
    make_database()
    make_people()
    with psycopg.connect(direct_dsn(), autocommit=True) as connection:
        connection.execute("create table if not exists scratch (id int, label text)")
    yield
    drop_database()


@pytest.fixture
async def range_() -> AsyncIterator[Range]:
    async def dsn_for(_: ConnectionSpec) -> str:
        return direct_dsn()

    analyst = PostgresAnalyst(dsn_for)
    async with tapped(HOST, PORT) as tap:
        gateway = await Gateway(analyst=analyst, upstream_port=tap.port, held_column="public.people.name").start()
        yield Range(gateway, tap)
        await gateway.stop()
        await analyst.close()
