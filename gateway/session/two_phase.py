"""Which prepared transactions a principal may end: those a session of its own prepared over the same connection.

Two-phase commit is for what outlives a session, so this outlives it as well, and the process. What is kept of a
transaction is the number the database gave it, before it is prepared: an identifier that is taken by somebody else's,
then or later, carries another number. Without Redis only the session that prepared a transaction can end it.
"""

from __future__ import annotations

import hashlib
import logging

import redis.asyncio
import redis.exceptions

from gateway.session.context import SessionContext

logger = logging.getLogger(__name__)

PREPARED_KEY = "hoopweb:prepared:"
KEPT_S = 30 * 24 * 3600  # a transaction that is older than this is looked after by people


class RedisPrepared:
    """Fulfils `PreparedTransactions`. Identifiers are kept as digests."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url)

    async def keep(self, session: SessionContext, identifier: str, transaction: int) -> None:
        key = _key(session, identifier)
        try:
            async with self._client.pipeline() as pipeline:
                pipeline.sadd(key, transaction)
                pipeline.expire(key, KEPT_S)
                await pipeline.execute()
        except (redis.exceptions.RedisError, OSError) as error:  # the session that prepares it may still end it
            logger.warning("transaction not kept: session=%s error=%s", session.session_id, type(error).__name__)

    async def known(self, session: SessionContext, identifier: str) -> frozenset[int]:
        try:
            kept = await self._client.smembers(_key(session, identifier))
        except (redis.exceptions.RedisError, OSError) as error:  # fail closed: it is nobody's
            logger.warning("transactions not known: session=%s error=%s", session.session_id, type(error).__name__)
            return frozenset()
        return frozenset(int(each) for each in kept)


def _key(session: SessionContext, identifier: str) -> str:
    principal = session.principal
    parts = (session.connection.name, principal.issuer, principal.subject, identifier)
    return PREPARED_KEY + hashlib.sha256("\0".join(parts).encode()).hexdigest()
