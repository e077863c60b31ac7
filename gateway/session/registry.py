"""The sessions that are open in this process, and how each is ended from outside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from gateway.session.context import SessionContext

logger = logging.getLogger(__name__)

Kill = Callable[[str], Awaitable[None]]  # with why, for the record
KILLED = "killed"  # by a person; what else ends a session says so in a sentence
# Asked while the process drains, again and again: begin nothing more; whether something is under way worth waiting for.
Retire = Callable[[], bool]


def under_way() -> bool:
    """The `Retire` of a session that is one statement: it ends by itself."""
    return True


@dataclass(frozen=True, slots=True)
class LiveSession:
    context: SessionContext
    kill: Kill
    retire: Retire = under_way


class SessionRegistry:
    """Filled by listeners, read by control messages (kill, revocation, drain) and by the live view."""

    def __init__(self) -> None:
        self._sessions: dict[str, LiveSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, context: SessionContext, kill: Kill, retire: Retire = under_way) -> None:
        self._sessions[context.session_id] = LiveSession(context, kill, retire)

    def remove(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def live(self) -> Iterable[LiveSession]:
        return tuple(self._sessions.values())

    async def kill(self, session_id: str, reason: str = KILLED) -> bool:
        """End one session: its upstream query is cancelled, its client disconnected. False when it is not here."""
        session = self._sessions.get(session_id)
        if session is None:
            return False
        logger.info("session killed: session=%s", session_id)
        await session.kill(reason)
        return True

    def retire(self) -> int:
        """Let every session end at its next boundary; returns how many are worth waiting for."""
        return sum(session.retire() for session in self.live())

    async def kill_where(self, why: Callable[[SessionContext], str]) -> int:
        """End every session there is a reason to end (revoked principals, stop); returns how many."""
        chosen = [(session, reason) for session in self.live() if (reason := why(session.context))]
        for session, reason in chosen:
            logger.info("session ended: session=%s reason=%s", session.context.session_id, reason)
        await asyncio.gather(*(session.kill(reason) for session, reason in chosen), return_exceptions=True)
        return len(chosen)
