"""Columns that take in protected values are protected on every gateway before the statement that fills them runs.

A tag is committed with a new version of the rules; then this waits until each data plane says that it has that version.
They say so in Redis, under a key that outlives the greatest age at which rules are still believed: whoever is silent
for longer than that refuses every statement anyway, or has rules newer than its silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence

import redis.asyncio
import redis.exceptions
from django.db import transaction

from gateway.domain.threads import in_thread
from gateway.domain.version import current_version
from gateway.pulses import Beat, unheard
from gateway.session.services import InheritanceUnavailable
from gateway.store import SnapshotStore
from masking.domain.inherit import Inherited
from masking.domain.tags import save_inherited

logger = logging.getLogger(__name__)

RULES_KEY = "hoopweb:rules:"
TELL_S = 0.1
REPEAT_S = 3.0
MARGIN_S = 5.0


class ToldRules:
    """Which version of the rules each data plane has loaded."""

    def __init__(self, url: str, *, gateway_id: str, max_age_s: float) -> None:
        self.lasts_s = max_age_s + MARGIN_S
        self._client = redis.asyncio.Redis.from_url(url)
        self._key = f"{RULES_KEY}{gateway_id}"

    async def tell(self, version: int) -> None:
        """Say what this process has. Call with 0 before it loads any: until it has some, others wait for it."""
        await self._client.set(self._key, version, ex=int(self.lasts_s))

    async def forget(self) -> None:
        """This process serves nobody any more."""
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await self._client.delete(self._key)
        await self._client.aclose()

    async def everywhere(self, version: int) -> bool:
        """Whether no data plane has older rules than `version`. Raises RedisError or OSError.

        Where not even this process is known, Redis has forgotten the others as well: then it is not so.
        """
        keys = [key async for key in self._client.scan_iter(match=f"{RULES_KEY}*")]
        if self._key.encode() not in keys:
            return False
        versions = await self._client.mget(keys)
        return all(int(each) >= version for each in versions if each is not None)

    async def keep_telling(self, store: SnapshotStore, beat: Beat = unheard) -> None:
        """Run for as long as the process serves."""
        told, told_at = -1, 0.0
        while True:
            beat()
            with contextlib.suppress(RuntimeError, redis.exceptions.RedisError, OSError):
                version = store.current().version
                if version != told or time.monotonic() - told_at > REPEAT_S:
                    await self.tell(version)
                    told, told_at = version, time.monotonic()
            await asyncio.sleep(TELL_S)


class DatabaseInheritance:
    """`gateway.session.services.Inheritance` over masking's tags."""

    def __init__(self, store: SnapshotStore, told: ToldRules) -> None:
        self._store = store
        self._told = told

    async def keep(self, *, inherited: Mapping[str, Sequence[Inherited]], statement_id: str) -> None:
        version = await in_thread(_kept, inherited, statement_id)
        await self._store.refresh()
        deadline = time.monotonic() + self._told.lasts_s + MARGIN_S
        while not await self._told.everywhere(version):
            if time.monotonic() > deadline:
                raise InheritanceUnavailable("a data plane does not take the new rules")
            await asyncio.sleep(TELL_S)
        columns = sum(map(len, inherited.values()))
        logger.info("columns inherited: statement=%s columns=%d rules=%d", statement_id, columns, version)


def _kept(inherited: Mapping[str, Sequence[Inherited]], statement_id: str) -> int:
    with transaction.atomic():  # over all connections to the database, or none
        for connection in sorted(inherited):
            columns = inherited[connection]
            save_inherited(connection=connection, inherited=columns, evidence=f"statement {statement_id}")
    return current_version()
