"""Slowing guessers down: failures are counted per subject of guessing, and past a bound it must wait.

Counted in Redis, so that every process of an installation counts together; while Redis does not answer each process
counts by itself. Only failures count: whoever knows the secret is never slowed down by being busy.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import time
from collections import OrderedDict
from functools import lru_cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

WINDOW_S = 300
MAX_REMEMBERED = 10_000

_local: OrderedDict[str, tuple[int, float]] = OrderedDict()  # key -> (failures, until)


def wait_s(*, door: str, name: str, address: str) -> int:
    """How many seconds whoever claims `name` from `address` must wait before another attempt; 0: none."""
    return max(_wait(key, bound) for key, bound in _keys(door, name, address))


def count_failure(*, door: str, name: str, address: str) -> None:
    """One more failed attempt. The window begins with the first and is not prolonged by the others."""
    for key, _ in _keys(door, name, address):
        try:
            pipeline = _redis().pipeline()
            pipeline.set(key, 0, ex=WINDOW_S, nx=True)
            pipeline.incr(key)
            pipeline.execute()
        except redis.RedisError as error:
            logger.warning("failures counted by this process alone: error=%s", type(error).__name__)
            _count_here(key)


def _keys(door: str, name: str, address: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """One claimed name from one address; and one address (perhaps a proxy's), whatever it claims.

    Names are digested: what a person mistypes there may be their password.
    """
    address = _network(address)
    claimed = hashlib.sha256(f"{address}\0{name}".encode()).hexdigest()[:32]
    return (
        (f"hoopweb:failed:{door}:name:{claimed}", settings.HOOPWEB_FAILURES_PER_NAME),
        (f"hoopweb:failed:{door}:from:{address}", settings.HOOPWEB_FAILURES_PER_ADDRESS),
    )


def _network(address: str) -> str:
    """The address, or of IPv6 its /64: one household or machine has all of those, and would guess from each."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if known.version == 4:
        return str(known)
    return str(known.ipv4_mapped or ipaddress.ip_network((known, 64), strict=False))


def _wait(key: str, bound: int) -> int:
    try:
        pipeline = _redis().pipeline()
        pipeline.get(key)
        pipeline.ttl(key)
        count, left = pipeline.execute()
    except redis.RedisError:
        count, left = _counted_here(key)
    return max(1, int(left)) if int(count or 0) >= bound else 0


def _count_here(key: str) -> None:
    failures, until = _local.pop(key, (0, 0.0))
    now = time.monotonic()
    _local[key] = (failures + 1, until) if now < until else (1, now + WINDOW_S)
    while len(_local) > MAX_REMEMBERED:
        _local.popitem(last=False)


def _counted_here(key: str) -> tuple[int, float]:
    failures, until = _local.get(key, (0, 0.0))
    left = until - time.monotonic()
    return (failures, left) if left > 0 else (0, 0.0)


@lru_cache(maxsize=1)
def _redis() -> redis.Redis:
    """Without the client's own retries: whoever signs in must not wait for a Redis that is away."""
    return redis.Redis.from_url(
        settings.HOOPWEB_REDIS_URL, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )
