from collections.abc import AsyncIterator

import pytest

from tests.gateway.listeners.harness import Gateway, make_people


@pytest.fixture(scope="session", autouse=True)
def people() -> None:
    make_people()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    running = await Gateway().start()
    yield running
    await running.stop()
