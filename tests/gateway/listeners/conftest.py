from collections.abc import AsyncIterator, Iterator

import pytest

from tests.gateway.listeners.harness import Gateway, drop_database, make_database, make_people


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
