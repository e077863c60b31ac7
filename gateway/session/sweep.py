"""What goes on without asking, looked at every second: sessions, and what runs in them.

A statement is decided when it comes. What has begun is not decided again by itself: a session stays open, a result is
read for as long as its client likes. So whoever may not stay, and whatever is not allowed or is masked otherwise by
now, is found here, within a second of the change.
"""

from __future__ import annotations

import contextlib
import logging
import time

from gateway.domain.snapshot import StaleSnapshot
from gateway.session.context import SessionContext
from gateway.session.registry import SessionRegistry
from gateway.session.services import Snapshots
from gateway.session.standing import why_not_on

logger = logging.getLogger(__name__)

ENDS_WITHIN_S = 0.2  # so long one look waits for sessions to end; they end all the same
_LASTING = "postgres"  # the protocol whose sessions outlive a statement; others showed their token with this one


class Sweep:
    """One process's."""

    def __init__(self, snapshots: Snapshots, registry: SessionRegistry) -> None:
        self._snapshots = snapshots
        self._registry = registry
        self._version = -1

    async def look(self) -> None:
        """End what must not go on, and have the rest looked at where the rules are others than the last time."""
        now = time.time()
        await self._registry.kill_where(lambda context: why_expired(context, now), within_s=ENDS_WITHIN_S)
        with contextlib.suppress(StaleSnapshot):  # already stops every statement
            snapshot = self._snapshots.current()
            if snapshot.version != self._version:
                self._version = snapshot.version
                await self._registry.rules_changed(within_s=ENDS_WITHIN_S)
                await self._registry.kill_where(lambda context: why_not_on(context, snapshot), within_s=ENDS_WITHIN_S)


def why_expired(context: SessionContext, now: float) -> str:
    """Why a session has outlived its token; empty while it has not.

    A timer of the session's own ends it in time (`listeners.postgres_timers`), but for a machine that slept or whose
    clock was set: timers count the seconds it was awake.
    """
    until = context.principal.expires_at
    return "token-expired" if until is not None and now > until and context.protocol == _LASTING else ""
