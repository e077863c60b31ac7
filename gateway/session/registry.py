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
        self._ending: dict[str, asyncio.Task[None]] = {}

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

    async def kill(self, session_id: str, reason: str = KILLED, *, within_s: float | None = None) -> bool:
        """End one session: its upstream query is cancelled, its client disconnected. False when it is not here.

        Returns when it has ended, or after `within_s`; it goes on ending then.
        """
        session = self._sessions.get(session_id)
        if session is None:
            return False
        await self._end([(session, reason)], within_s)
        return True

    def retire(self) -> int:
        """Let every session end at its next boundary; returns how many are worth waiting for."""
        return sum(session.retire() for session in self.live())

    async def rules_changed(self, *, within_s: float | None = None) -> None:
        """Let every session look again at what it runs; end those that run what is not allowed any more."""
        await self._end([(session, RULES_CHANGED) for session in self.live() if not _goes_on(session)], within_s)

    async def kill_where(self, why: Callable[[SessionContext], str], *, within_s: float | None = None) -> int:
        """End every session there is a reason to end (revoked principals, stop); returns how many."""
        chosen = [(session, reason) for session in self.live() if (reason := why(session.context))]
        await self._end(chosen, within_s)
        return len(chosen)

    async def _end(self, chosen: Iterable[tuple[LiveSession, str]], within_s: float | None) -> None:
        """Begin to end them all, and wait for it no longer than that: a slow one keeps nobody else going on."""
        tasks = [self._ending_of(session, reason) for session, reason in chosen]
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)

    def _ending_of(self, session: LiveSession, reason: str) -> asyncio.Task[None]:
        session_id = session.context.session_id
        known = self._ending.get(session_id)
        if known is not None:
            return known
        logger.info("session ended: session=%s reason=%s", session_id, reason)
        task = self._ending[session_id] = asyncio.create_task(_ended(session, reason), name=f"end {session_id}")
        task.add_done_callback(lambda _: self._ending.pop(session_id))
        return task


async def _ended(session: LiveSession, reason: str) -> None:
    try:
        await session.kill(reason)
    except Exception as error:  # its next statement is decided anew, and refused
        logger.error("session not ended: session=%s error=%s", session.context.session_id, type(error).__name__)


def _goes_on(session: LiveSession) -> bool:
    try:
        return session.rules_changed()
    except Exception as error:  # fail closed: what cannot be looked at ends
        logger.error("running statement not looked at: error=%s", type(error).__name__)
        return False
