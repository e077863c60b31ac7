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
RULES_CHANGED = "rules-changed"
RulesChanged = Callable[[], bool]  # looks at what runs again; False: it is not allowed any more
# Asked while the process drains, again and again: begin nothing more; whether something is under way worth waiting for.
Retire = Callable[[], bool]


def under_way() -> bool:
    """The `Retire` of a session that is one statement: it ends by itself."""
    return True


def asked_elsewhere() -> bool:
    """The `RulesChanged` of a session whose results are asked about when they are read."""
    return True


@dataclass(frozen=True, slots=True)
class LiveSession:
    context: SessionContext
    kill: Kill
    retire: Retire = under_way
    rules_changed: RulesChanged = asked_elsewhere


class SessionRegistry:
    """Filled by listeners, read by control messages (kill, revocation, drain) and by the live view."""

    def __init__(self) -> None:
        self._sessions: dict[str, LiveSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def add(
        self,
        context: SessionContext,
        kill: Kill,
        retire: Retire = under_way,
        rules_changed: RulesChanged = asked_elsewhere,
    ) -> None:
        self._sessions[context.session_id] = LiveSession(context, kill, retire, rules_changed)

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

    async def rules_changed(self) -> None:
        """Let every session look again at what it runs; end those that run what is not allowed any more."""
        over = [session for session in self.live() if not _goes_on(session)]
        for session in over:
            logger.info("session ended: session=%s reason=%s", session.context.session_id, RULES_CHANGED)
        await asyncio.gather(*(session.kill(RULES_CHANGED) for session in over), return_exceptions=True)

    async def kill_where(self, why: Callable[[SessionContext], str]) -> int:
        """End every session there is a reason to end (revoked principals, stop); returns how many."""
        chosen = [(session, reason) for session in self.live() if (reason := why(session.context))]
        for session, reason in chosen:
            logger.info("session ended: session=%s reason=%s", session.context.session_id, reason)
        await asyncio.gather(*(session.kill(reason) for session, reason in chosen), return_exceptions=True)
        return len(chosen)


def _goes_on(session: LiveSession) -> bool:
    try:
        return session.rules_changed()
    except Exception as error:  # fail closed: what cannot be looked at ends
        logger.error("running statement not looked at: error=%s", type(error).__name__)
        return False
