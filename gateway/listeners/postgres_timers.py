"""What ends a session by time: its token, and automatic log-off (45 CFR 164.312(a)(2)(iii))."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession


@dataclass(frozen=True, slots=True)
class SessionLimits:
    idle_timeout_s: float = 3600.0


class SessionTimers:
    """One session's."""

    __slots__ = ("_expiry", "_idle", "_limit_s", "_session")

    def __init__(self, session: ClientSession, limits: SessionLimits) -> None:
        self._session = session
        self._limit_s = limits.idle_timeout_s
        self._expiry: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        expires_at = self._session.context.principal.expires_at
        if expires_at is not None:
            self._expiry = loop.call_later(max(0.0, expires_at - time.time()), self._session.end, "token-expired")
        self._idle = loop.call_later(self._limit_s, self._check_idle)

    def stop(self) -> None:
        for timer in (self._expiry, self._idle):
            if timer is not None:
                timer.cancel()

    def _check_idle(self) -> None:
        """Re-armed lazily: activity costs a clock reading, not a timer."""
        quiet_s = 0.0 if self._session.is_busy else time.monotonic() - self._session.last_activity
        if quiet_s >= self._limit_s:
            self._session.end("idle")
            return
        self._idle = asyncio.get_running_loop().call_later(max(1.0, self._limit_s - quiet_s), self._check_idle)
