"""What is noted of prepared transactions, in the run's Redis: bounded, for each principal and connection by itself."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from django.conf import settings

from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec
from gateway.session import two_phase
from gateway.session.context import SessionContext
from gateway.session.two_phase import RedisPrepared


@pytest.fixture
def session() -> SessionContext:
    principal = Principal(f"agent-{uuid.uuid4()}", "https://issuer", frozenset())
    return SessionContext(principal, ConnectionSpec("clinic", "postgres"), "postgres")


@pytest.fixture
def prepared() -> RedisPrepared:
    return RedisPrepared(settings.HOOPWEB_REDIS_URL)


async def test_known_is_what_was_kept_under_the_name_and_the_number(
    prepared: RedisPrepared, session: SessionContext
) -> None:
    assert await prepared.keep(session, "a", 7)

    assert await prepared.known(session, "a", 7)
    assert not await prepared.known(session, "a", 8)
    assert not await prepared.known(session, "b", 7)
    other = replace(session, connection=ConnectionSpec("other", "postgres"))
    assert not await prepared.known(other, "a", 7)
    other = replace(session, principal=replace(session.principal, subject="somebody"))
    assert not await prepared.known(other, "a", 7)
    await prepared.forget(session, "a", 7)
    assert not await prepared.known(session, "a", 7)


async def test_the_newest_are_kept_and_no_more_than_that(
    prepared: RedisPrepared, session: SessionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_phase, "MOST", 3)
    for number in range(10):
        assert await prepared.keep(session, "a" * 199, number)

    kept = [number for number in range(10) if await prepared.known(session, "a" * 199, number)]
    assert kept == [7, 8, 9]
    assert await prepared._client.zcard(two_phase._key(session)) == 3
    assert 0 < await prepared._client.ttl(two_phase._key(session)) <= two_phase.KEPT_S


async def test_what_is_older_is_known_no_longer(
    prepared: RedisPrepared, session: SessionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepared.keep(session, "a", 7)
    now = two_phase.time.time()
    monkeypatch.setattr(two_phase.time, "time", lambda: now + two_phase.KEPT_S + 1)

    assert not await prepared.known(session, "a", 7)
    await prepared.keep(session, "b", 8)
    assert await prepared._client.zcard(two_phase._key(session)) == 1


async def test_without_redis_nothing_is_kept_and_nothing_known(session: SessionContext) -> None:
    gone = RedisPrepared("redis://127.0.0.1:1/0")

    assert not await gone.keep(session, "a", 7)
    assert not await gone.known(session, "a", 7)
    await gone.forget(session, "a", 7)
