"""A table that another session locks whole can be neither read nor read about until it is free."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from gateway.session.services import UpstreamRejected
from gateway.upstreams import postgres_readings
from tests.analysis.conftest import Analyse


@pytest.fixture
def locked(scratch_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(scratch_dsn) as other:
        other.execute("LOCK TABLE claims IN ACCESS EXCLUSIVE MODE")
        yield other


async def test_statement_is_read_once_the_table_is_free(analyse: Analyse, locked: psycopg.Connection) -> None:
    reading = asyncio.create_task(analyse("SELECT id FROM claims"))
    elsewhere = await analyse("SELECT id FROM patients")
    assert elsewhere.complete
    assert not reading.done()

    locked.rollback()

    assert (await reading).complete


async def test_statement_that_waited_long_enough_is_refused_as_the_database_would(
    analyse: Analyse, locked: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_readings, "LOCK_PATIENCE_S", 0.0)

    with pytest.raises(UpstreamRejected) as refused:
        await analyse("SELECT id FROM claims WHERE id = 1")

    assert refused.value.sqlstate == "55P03"
