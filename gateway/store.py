"""The data path's only door to the ORM: the frozen Snapshot of rules, loaded whole, renewed on change and by age.

A statement never reads the database for its rules. The store reloads when the configuration's version moved (told by
the channel layer, and asked for every `POLL_S` in case nobody told), and renews `loaded_at` on every successful look.
When looking fails for longer than the maximum age, `current` raises: rules that may have been revoked are not rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from django.db import connection, connections, transaction

from approvals.domain.load import load_emergencies, load_policies
from audit.domain.subject_keys import ensure_subject_key, newest_subject_key
from gateway.domain.connections import (
    load_access_rules,
    load_agents,
    load_connections,
    load_issuers,
    load_people,
    load_quotas,
    load_revoked_tokens,
    load_version,
    vouched_people,
)
from gateway.domain.snapshot import ConnectionSpec, Snapshot
from gateway.domain.threads import in_thread_of
from gateway.session.state import SnapshotState
from masking.domain.free_text import with_free_text
from masking.domain.load import load_masking_rules
from masking.domain.rules import MaskingRule

logger = logging.getLogger(__name__)

POLL_S = 1.0


class SnapshotStore(SnapshotState):
    """Holds one Snapshot. `current` is called for every statement and does no I/O."""

    def __init__(self, *, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._snapshot, self._loaded_at = None, 0.0
        self._changed = asyncio.Event()
        # Not one of those the sessions share: were they all kept by a slow question, nobody's rules would be fresh.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rules")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load once, or raise: a gateway without rules does not open its listeners."""
        await self.refresh()
        self._task = asyncio.create_task(self._keep_fresh(), name="snapshot-store")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.submit(connections.close_all)
        self._thread.shutdown(wait=False)

    def changed(self) -> None:
        """Somebody changed the configuration; look now rather than at the next poll."""
        self._changed.set()

    async def refresh(self) -> Snapshot:
        snapshot = await in_thread_of(self._thread, renewed_snapshot, self._snapshot)
        self._snapshot, self._loaded_at = snapshot, snapshot.loaded_at
        return snapshot

    async def _keep_fresh(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), POLL_S)
            self._changed.clear()
            try:
                await self.refresh()
            except Exception as error:
                # Fail closed by age: the old rules stay until `max_age_s`, then nothing runs.
                logger.warning("rules not refreshed: error=%s", type(error).__name__)


def renewed_snapshot(known: Snapshot | None) -> Snapshot:
    """Return `known` with a new `loaded_at` when the version has not moved, else the rules read in one transaction."""
    if known is not None and load_version() == known.version:
        return replace(known, loaded_at=time.monotonic())
    return load_snapshot()


def load_snapshot() -> Snapshot:
    """Read every rule under one REPEATABLE READ snapshot of the control database."""
    began = time.monotonic()
    if any(spec.subjects for spec in load_connections().values()):
        ensure_subject_key()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connections = load_connections()
        people = load_people()
        snapshot = Snapshot(
            version=load_version(),
            loaded_at=began,
            connections=connections,
            access_rules=load_access_rules(),
            policies=load_policies(),
            masking_rules=_masking_rules(connections),
            agents=MappingProxyType(dict(load_agents())),
            people=MappingProxyType(people),
            vouched=MappingProxyType(vouched_people(people)),
            issuers=MappingProxyType(dict(load_issuers())),
            revoked_tokens=load_revoked_tokens(),
            subject_key=newest_subject_key(),
            emergencies=load_emergencies(),
            quotas=load_quotas(),
        )
    return replace(snapshot, connections=_with_digests(snapshot))


def rules_now(name: str) -> str | None:
    """The digest of a connection's rules as they are committed, for who has no store; None where nobody may use it."""
    connections = load_connections()
    spec = connections.get(name)
    if spec is None or not spec.enabled:
        return None
    snapshot = Snapshot(
        version=0,
        loaded_at=time.monotonic(),
        connections=connections,
        access_rules=load_access_rules(),
        policies=load_policies(),
        masking_rules=_masking_rules(connections),
        agents=MappingProxyType({}),
        people=MappingProxyType({}),
    )
    return rules_digest(snapshot, name)


def _masking_rules(connections: Mapping[str, ConnectionSpec]) -> tuple[MaskingRule, ...]:
    scanning = sorted(name for name, spec in connections.items() if spec.phi and spec.scan_text)
    return with_free_text(load_masking_rules(), scanning)


def _with_digests(snapshot: Snapshot) -> Mapping[str, ConnectionSpec]:
    return MappingProxyType(
        {name: replace(spec, rules_digest=rules_digest(snapshot, name)) for name, spec in snapshot.connections.items()}
    )


def rules_digest(snapshot: Snapshot, name: str) -> str:
    """Digest of every rule that can touch this connection: an approval given under other rules is void."""
    spec = snapshot.connections[name]
    applicable = {
        "connection": [spec.kind, spec.host, spec.port, spec.database, spec.username, spec.phi, spec.scan_text],
        "settings": dict(spec.settings),
        "access": _matching(snapshot.access_rules, name),
        "policies": _matching(snapshot.policies, name),
        "masking": _matching(snapshot.masking_rules, name),
    }
    text = json.dumps(applicable, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _matching(rules: Iterable[Any], name: str) -> list[dict[str, Any]]:
    return [asdict(rule) for rule in rules if any(fnmatchcase(name, glob) for glob in rule.connections)]


def _plain(value: object) -> object:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
