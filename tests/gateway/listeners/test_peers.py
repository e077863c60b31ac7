"""Messages between gateway processes: for the one they are sent to, sealed, fresh, about what it holds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from django.conf import settings

from gateway.listeners.peers import Message, Peers, PeersUnavailable
from gateway.session.context import new_id

pytestmark = pytest.mark.asyncio
SSN = b"123-45-6789"


def peers(secret: str = "one", redis_url: str = "") -> Peers:
    return Peers(gateway_id=new_id(), redis_url=redis_url or settings.HOOPWEB_REDIS_URL, secret=secret)


async def echo(question: Message) -> Message:
    return Message({"status": 200, "path": question.head["path"]}, question.body[::-1])


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[tuple[Peers, Peers]]:
    here, there = peers(), peers()
    for each in (here, there):
        await each._redis.set(f"hoopweb:gateway:{each._id}", 1, ex=30)
    serving = asyncio.create_task(there.serve(echo))
    yield here, there
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    for each in (here, there):
        await each._redis.delete(f"hoopweb:gateway:{each._id}")
        await each.close()


async def test_a_request_is_answered_by_the_holder(pair: tuple[Peers, Peers]) -> None:
    here, there = pair
    assert await there.claim("job 1") == ""

    holder = await here.holder("job 1")
    answer = await here.ask(holder, Message({"path": "/x"}, SSN))

    assert holder == there._id
    assert (answer.head["path"], answer.body) == ("/x", SSN[::-1])


async def test_what_is_held_cannot_be_claimed_until_its_holder_ends(pair: tuple[Peers, Peers]) -> None:
    here, there = pair
    await there.claim("job 2")

    assert await there.claim("job 2") == ""
    assert await here.claim("job 2") == there._id
    await there._redis.delete(f"hoopweb:gateway:{there._id}")
    assert await here.holder("job 2") == ""
    assert await here.claim("job 2") == ""


async def test_nothing_readable_lies_in_redis(pair: tuple[Peers, Peers]) -> None:
    here, there = pair
    await here.claim("job secret-job-id")
    with contextlib.suppress(PeersUnavailable):
        await here.ask("nobody", Message({"path": "/x", "token": "Bearer abc"}, SSN), within_s=0.05)

    (kept,) = await here._redis.lrange("hoopweb:peer:ask:nobody", -1, -1)
    assert SSN not in kept
    assert b"Bearer" not in kept
    assert 0 < await here._redis.ttl("hoopweb:peer:ask:nobody") <= 60
    keys = [key async for key in here._redis.scan_iter(match="hoopweb:peer:held:*")]
    assert keys
    assert not [key for key in keys if b"secret-job-id" in key]
    await here._redis.delete("hoopweb:peer:ask:nobody")
    await there.close()


@pytest.mark.parametrize("change", ["other key", "other queue", "old", "torn"])
async def test_what_was_not_sealed_for_it_is_not_opened(
    pair: tuple[Peers, Peers], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    queue = f"hoopweb:peer:ask:{there._id}"
    sealed = here._sealed(queue, Message({"path": "/x"}))
    opened: Any = there._opened(queue, sealed)
    assert opened.head["path"] == "/x"  # the control

    if change == "other key":
        assert peers("two")._opened(queue, sealed) is None
    elif change == "other queue":
        assert there._opened(f"{queue}0", sealed) is None
    elif change == "torn":
        assert there._opened(queue, sealed[:-1]) is None
    else:
        later = time.time() + 3600
        monkeypatch.setattr(time, "time", lambda: later)
        assert there._opened(queue, sealed) is None


async def test_without_redis_nobody_can_say() -> None:
    alone = peers(redis_url="redis://127.0.0.1:1/0")
    for question in (alone.holder("job"), alone.claim("job"), alone.others(), alone.ask("x", Message({}))):
        with pytest.raises(PeersUnavailable):
            await question
    await alone.close()


async def test_a_redis_that_vanished_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host is gone: nothing comes over the connection any more, not even an end. Another one takes its place."""
    monkeypatch.setattr("gateway.listeners.peers.POLL_S", 0.1)
    monkeypatch.setattr("gateway.listeners.peers.LATE_S", 0.2)
    asked, rounds = [], []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes connections, answers what a client says to begin with, and never what it waits for."""
        while data := await reader.read(4096):
            if b"BLPOP" in data:
                asked.append(data)
            else:
                writer.write(b"+OK\r\n" * (data.count(b"\r\n*") + 1))
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    deaf = peers(redis_url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}?protocol=2")
    serving = asyncio.create_task(deaf.serve(echo, lambda: rounds.append(1)))
    try:
        async with asyncio.timeout(20):
            while len(asked) < 3:
                await asyncio.sleep(0.05)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await deaf.close()
        server.close()

    assert len(rounds) >= 3
