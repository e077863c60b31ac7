"""Cancelling what one session runs, at a server that may not have read it yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.upstreams.postgres_execution import Execution

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession

# When a server that may not have had a statement yet is asked again to cancel it, each time twice as late.
FIRST_AGAIN_S, LAST_AGAIN_S = 0.05, 5.0


class Cancellation:
    """`session.cancelling` is the request under way: until the server has taken it, nothing else may be sent."""

    __slots__ = ("_session", "_wanted")

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._wanted = False  # by a request that came before the server had anything to cancel

    def start(self) -> None:
        """Ask the server to cancel whatever runs."""
        session = self._session
        if session.cancelling is None:
            session.cancelling = asyncio.get_running_loop().create_task(session.upstream.cancel())
            session.cancelling.add_done_callback(self._taken)

    @property
    def wanted(self) -> bool:
        """Whether what is being looked at is to be cancelled."""
        return self._wanted

    def want(self) -> None:
        """Cancel what is still being looked at, once the server has it."""
        self._wanted = True

    def want_no_more(self) -> None:
        """What was being looked at ended without the server."""
        self._wanted = False

    def sent(self) -> None:
        """The server was sent something."""
        if self._wanted and self._session.relay.running is not None:
            self._wanted = False
            self.until_heard(self._session.relay.running)

    def until_heard(self, statement: Execution) -> None:
        """Cancel `statement`, which runs, and again while the server says nothing of it.

        A server that has not read it yet ignores the request ("DoingCommandRead" in its tcop/postgres.c): statement and
        request come over two connections. It is asked again only where nothing else could be hit: nothing was sent
        behind the statement, and the session is at rest, so that what the client sends next waits for the request.
        """
        self.start()
        self._look_again(statement, FIRST_AGAIN_S)

    def _look_again(self, statement: Execution, in_s: float) -> None:
        if in_s < LAST_AGAIN_S:
            asyncio.get_running_loop().call_later(in_s, self._if_unheard, statement, in_s * 2)

    def _if_unheard(self, statement: Execution, next_in_s: float) -> None:
        session = self._session
        if session.relay.running is statement and not statement.bytes and not session.reason:
            if session.resting and session.relay.nothing_behind:
                self.start()
            self._look_again(statement, next_in_s)

    def _taken(self, _: asyncio.Task[None]) -> None:
        self._session.cancelling = None
