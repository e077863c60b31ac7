"""Which prepared transactions a principal may end: those a session of its own prepared over the same connection.

Two-phase commit is for what outlives a session, so this outlives it as well, and the process. What is kept of a
transaction is the number the database gave it, before it is prepared: an identifier that is taken by somebody else's,
then or later, carries another number. A participant that cannot promise that votes no: without Redis nothing is
prepared, and what is known already only the session that prepared it can end.

Of a principal on a connection the newest `MOST` are kept, so that nobody fills Redis, and nobody forgets for others.
"""

from __future__ import annotations

import hashlib
import logging
import time

import redis.asyncio
import redis.exceptions

from gateway.session.context import SessionContext

logger = logging.getLogger(__name__)

PREPARED_KEY = "hoopweb:prepared-by:"
KEPT_S = 30 * 24 * 3600  # a transaction that is older than this is looked after by people
MOST = 1_000


class RedisPrepared:
    """Fulfils `PreparedTransactions`. Identifiers are kept as digests, with the moment they were kept at."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url)

    async def keep(self, session: SessionContext, identifier: str, transaction: int) -> bool:
        key, now = _key(session), time.time()
        try:
            async with self._client.pipeline() as pipeline:
                pipeline.zadd(key, {_member(identifier, transaction): now})
                pipeline.zremrangebyscore(key, "-inf", now - KEPT_S)
                pipeline.zremrangebyrank(key, 0, -MOST - 1)
                pipeline.expire(key, KEPT_S)
                await pipeline.execute()
        except (redis.exceptions.RedisError, OSError) as error:  # fail closed: it is not prepared
            logger.warning("transaction not kept: session=%s error=%s", session.session_id, type(error).__name__)
            return False
        return True

    async def known(self, session: SessionContext, identifier: str, transaction: int) -> bool:
        try:
            kept = await self._client.zscore(_key(session), _member(identifier, transaction))
        except (redis.exceptions.RedisError, OSError) as error:  # fail closed: it is nobody's
            logger.warning("transactions not known: session=%s error=%s", session.session_id, type(error).__name__)
            return False
        return kept is not None and kept > time.time() - KEPT_S

    async def forget(self, session: SessionContext, identifier: str, transaction: int) -> None:
        try:
            await self._client.zrem(_key(session), _member(identifier, transaction))
        except (redis.exceptions.RedisError, OSError) as error:  # the database has no such transaction any more
            logger.warning("transaction not forgotten: session=%s error=%s", session.session_id, type(error).__name__)


def _key(session: SessionContext) -> str:
    principal = session.principal
    return PREPARED_KEY + _digest(session.connection.name, principal.issuer, principal.subject)


def _member(identifier: str, transaction: int) -> str:
    return f"{transaction}:{_digest(identifier)}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
