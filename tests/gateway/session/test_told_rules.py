"""Which rules every data plane has loaded, over a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from django.conf import settings

from gateway.session.inheritance import ToldRules


async def told_rules() -> ToldRules:
    return ToldRules(settings.HOOPWEB_REDIS_URL, gateway_id=uuid.uuid4().hex, max_age_s=5)


@pytest.fixture
async def ours() -> AsyncIterator[ToldRules]:
    told = await told_rules()
    yield told
    await told.forget()


@pytest.fixture
async def theirs() -> AsyncIterator[ToldRules]:
    told = await told_rules()
    yield told
    await told.forget()


async def test_everywhere_is_where_every_process_has_said_so(ours: ToldRules, theirs: ToldRules) -> None:
    await ours.tell(7)
    await theirs.tell(6)
    before = await ours.everywhere(7)
    await theirs.tell(7)

    assert (before, await ours.everywhere(7)) == (False, True)


async def test_a_redis_that_forgot_everybody_says_nothing_of_anybody(ours: ToldRules) -> None:
    assert not await ours.everywhere(0)
