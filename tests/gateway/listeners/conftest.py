from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.gateway.listeners.harness import Gateway, direct_dsn, drop_database, make_database, make_people


@pytest.fixture(scope="session", autouse=True)
def people() -> Iterator[None]:
    make_database()
    make_people()
    yield
    drop_database()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    running = await Gateway().start()
    yield running
    await running.stop()


@pytest.fixture
async def reading_gateway() -> AsyncIterator[Gateway]:
    """A gateway whose analyst is the product's own."""

    async def dsn_for(_spec: ConnectionSpec) -> str:
        return direct_dsn()

    analyst = PostgresAnalyst(dsn_for)
    gateway = await Gateway(analyst=analyst).start()
    yield gateway
    await gateway.stop()
    await analyst.close()
