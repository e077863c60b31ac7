"""The counts all data-plane processes share, in Redis: a bucket for the minute, sums of the UTC day, places in use.

Each method is one script, so two processes never spend the same statement. The clock is Redis' own.
"""

from __future__ import annotations

import hashlib
from typing import Any

import redis.asyncio

from gateway.domain.quotas import QuotaRule
from gateway.session.quotas import Lease, QuotasUnavailable

SLOT_TTL_S = 10  # a process that died gives its places back after this long
_PREFIX = "hoopweb:quota:"

# KEYS: bucket, day sums without their date. ARGV: per minute (0: no limit), per day (0), want, rows, bytes.
_LEASE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local minute, daily, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local day = KEYS[2] .. ':' .. math.floor(now / 86400)
local granted, left, wait, limit = want, 0, 0, ''
if minute > 0 then
  local kept = redis.call('HMGET', KEYS[1], 'left', 'at')
  left = math.min(minute, (tonumber(kept[1]) or minute) + (now - (tonumber(kept[2]) or now)) * minute / 60)
  granted = math.min(granted, math.floor(left))
  if granted < 1 then wait = (1 - left) * 60 / minute; limit = 'statements_per_minute' end
end
if daily > 0 then
  local spare = daily - (tonumber(redis.call('HGET', day, 'statements')) or 0)
  granted = math.max(0, math.min(granted, spare))
  if spare < 1 then wait = 86400 - now % 86400; limit = 'statements_per_day' end
end
if minute > 0 then
  redis.call('HSET', KEYS[1], 'left', tostring(left - granted), 'at', tostring(now))
  redis.call('EXPIRE', KEYS[1], 120)
end
redis.call('HINCRBY', day, 'statements', granted)
local rows = redis.call('HINCRBY', day, 'rows', ARGV[4])
local bytes = redis.call('HINCRBY', day, 'bytes', ARGV[5])
redis.call('EXPIRE', day, 172800)
return {granted, rows, bytes, tostring(wait), limit}
"""
# KEYS: bucket, day sums. ARGV: per minute, statements.
_GIVE_BACK = """
local day = KEYS[2] .. ':' .. math.floor(tonumber(redis.call('TIME')[1]) / 86400)
if tonumber(ARGV[1]) > 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBYFLOAT', KEYS[1], 'left', ARGV[2])
end
if redis.call('EXISTS', day) == 1 then redis.call('HINCRBY', day, 'statements', -ARGV[2]) end
"""
# KEYS: places. ARGV: how many there are, whose, for how many seconds.
_TAKE_SLOT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
redis.call('EXPIRE', KEYS[1], 60)
return 1
"""


class RedisCounts:
    """Fulfils `gateway.session.quotas.Counts`."""

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)

    async def lease(self, key: str, rule: QuotaRule, *, want: int, rows: int, bytes_: int) -> Lease:
        limits = (rule.statements_per_minute or 0, rule.statements_per_day or 0)
        answer = await self._run(_LEASE, [_name(key, "minute"), _name(key, "day")], *limits, want, rows, bytes_)
        granted, all_rows, all_bytes, wait, limit = answer
        return Lease(int(granted), int(all_rows), int(all_bytes), float(wait), limit.decode())

    async def give_back(self, key: str, rule: QuotaRule, statements: int) -> None:
        keys = [_name(key, "minute"), _name(key, "day")]
        await self._run(_GIVE_BACK, keys, rule.statements_per_minute or 0, statements)

    async def take_slot(self, key: str, rule: QuotaRule, member: str) -> bool:
        limit = rule.concurrent_statements or 0
        return bool(await self._run(_TAKE_SLOT, [_name(key, "places")], limit, member, SLOT_TTL_S))

    async def free_slot(self, key: str, member: str) -> None:
        await self._run("redis.call('ZREM', KEYS[1], ARGV[1])", [_name(key, "places")], member)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _run(self, script: str, keys: list[str], *arguments: object) -> Any:
        try:
            return await self._redis.eval(script, len(keys), *keys, *map(str, arguments))
        except (redis.exceptions.RedisError, OSError) as error:
            raise QuotasUnavailable(type(error).__name__) from None


def _name(key: str, what: str) -> str:
    """One hash slot for all of one key (Redis Cluster), and nobody's name in it."""
    return f"{_PREFIX}{{{hashlib.sha256(key.encode()).hexdigest()[:32]}}}:{what}"
