"""Puts right what other gateways left that died: soon after a start, and every minute, since a host may not come back.

Dead is who neither holds its lock in the control database (`audit.domain.liveness`) nor beats in Redis from one look to
the next. One look, or one of the two alone, would close the sessions of a gateway that lives: the database forgets who
lives when it restarts, and a gateway may be cut off from it alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

import redis.asyncio

from audit.domain.startup import finish_unfinished, seem_dead
from gateway.domain.threads import in_thread
from gateway.pulses import Beat, unheard

logger = logging.getLogger(__name__)

HEARTBEAT_S = 3
HEARTBEAT_TTL_S = 10
SETTLE_EVERY_S = 60
LOOK_AGAIN_S = HEARTBEAT_S + 2
_LOOKS_AGAIN = 2


def heartbeat_key(gateway_id: str) -> str:
    """Where that gateway beats."""
    return f"hoopweb:gateway:{gateway_id}"


async def keep_settling(redis_url: str, beat: Beat = unheard) -> None:
    """Settle what dead gateways left, until cancelled."""
    while True:
        beat()
        try:
            await settle(redis_url, meanwhile=lambda: asyncio.sleep(LOOK_AGAIN_S))
        except Exception as error:  # whatever it is, the gateway serves on, and tries again
            logger.warning("what dead gateways left is not settled: error=%s", type(error).__name__)
        await asyncio.sleep(SETTLE_EVERY_S)


async def settle(redis_url: str, *, meanwhile: Callable[[], Awaitable[None]]) -> int:
    """Look twice, and settle what those left that were dead both times. Returns how many statements it marked.

    In between it waits for `meanwhile`: for longer than those that live take to beat, and to connect again. A beat that
    is gone the second time was a dead one's last, or a Redis forgot it that began anew: a third look tells.
    """
    suspects = await in_thread(seem_dead)
    if not suspects:
        return 0
    silent: set[str] = set()
    beats = await _beats(redis_url, suspects)
    for _ in range(_LOOKS_AGAIN):
        await meanwhile()
        before, beats = beats, await _beats(redis_url, suspects)
        silent |= {one for one in suspects if before.get(one) == beats.get(one)}
        if all(beats.get(one) for one in suspects - silent):
            break
    return await in_thread(finish_unfinished, silent) if silent else 0


async def _beats(redis_url: str, gateways: Collection[str]) -> dict[str, bytes | str | None]:
    """When each beat last. Nothing is known while Redis answers nobody: the database alone tells then."""
    client = redis.asyncio.Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
    try:
        found = await client.mget([heartbeat_key(one) for one in gateways])
    except (redis.exceptions.RedisError, OSError):
        return {}
    finally:
        await client.aclose()
    return dict(zip(gateways, found, strict=True))
