"""What dead gateways left is settled by those that live, and nothing of a gateway that lives is, whatever was away."""

from __future__ import annotations

import time

import pytest
import redis.asyncio
from django.conf import settings
from django.db import connection

from audit.domain.append import append_entries
from audit.models import SessionRecord, StatementRecord
from audit.writer import AuditWriter
from gateway.domain.threads import in_thread
from gateway.settling import heartbeat_key, settle
from tests.audit.factories import authorised, opened

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_thread_keeps_its_connection(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)


@pytest.fixture
async def beats():
    client = redis.asyncio.Redis.from_url(settings.HOOPWEB_REDIS_URL)
    yield client
    await client.delete(heartbeat_key("other"))
    await client.aclose()


async def left_by_other() -> None:
    def leave() -> None:
        append_entries([opened("s1"), authorised("a1", "s1")], gateway="other")

    await in_thread(leave)


async def told() -> tuple[str, str]:
    def ask() -> tuple[str, str]:
        return StatementRecord.objects.get().status, SessionRecord.objects.get().close_reason

    return await in_thread(ask)


async def nothing() -> None:
    """Happens meanwhile."""


async def test_what_a_dead_gateway_left_is_settled_though_nothing_starts(beats):
    await left_by_other()
    await beats.set(heartbeat_key("other"), time.time_ns(), ex=60)  # its last one

    assert await settle(settings.HOOPWEB_REDIS_URL, meanwhile=nothing) == 1
    assert await told() == ("unfinished", "gateway-ended")


async def test_last_beat_that_expires_between_two_looks_is_no_sign_of_life(beats):
    """A gateway that is started again at once looks while the beat of the one before still stands."""
    await left_by_other()
    await beats.set(heartbeat_key("other"), time.time_ns(), ex=60)

    async def it_expires() -> None:
        await beats.delete(heartbeat_key("other"))

    assert await settle(settings.HOOPWEB_REDIS_URL, meanwhile=it_expires) == 1
    assert await told() == ("unfinished", "gateway-ended")


async def test_gateway_whose_beat_a_new_redis_does_not_know_yet_is_left_alone(beats):
    await left_by_other()
    await beats.set(heartbeat_key("other"), time.time_ns(), ex=60)

    async def redis_forgets_or_it_beats() -> None:
        if not await beats.delete(heartbeat_key("other")):
            await beats.set(heartbeat_key("other"), time.time_ns(), ex=60)

    assert await settle(settings.HOOPWEB_REDIS_URL, meanwhile=redis_forgets_or_it_beats) == 0
    assert await told() == ("running", "")


async def test_gateway_that_beats_is_left_alone_though_the_database_does_not_see_it(beats):
    await left_by_other()
    await beats.set(heartbeat_key("other"), time.time_ns(), ex=60)

    async def it_beats() -> None:
        await beats.set(heartbeat_key("other"), time.time_ns(), ex=60)

    assert await settle(settings.HOOPWEB_REDIS_URL, meanwhile=it_beats) == 0
    assert await told() == ("running", "")


async def test_gateway_that_shows_itself_again_is_left_alone():
    """The database restarted, and whoever lives connects again: a look in between sees nobody."""
    await left_by_other()
    writer = AuditWriter(gateway_id="other")

    assert await settle(settings.HOOPWEB_REDIS_URL, meanwhile=writer.start) == 0
    await writer.close()
    assert await told() == ("running", "")


async def test_without_redis_the_database_alone_tells():
    await left_by_other()

    assert await settle("redis://127.0.0.1:1/0", meanwhile=nothing) == 1
    assert await told() == ("unfinished", "gateway-ended")
