"""A request of the express lane whose entry must be waited for (durability `disk` and `database`).

It was decided and its entry is on its way; nothing was sent and nothing of the session has changed. Until it is
answered the session is not at rest: frames queue behind it. Whoever ends or cancels meanwhile is heard: then it is
never sent, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gateway.protocols.postgres import server
from gateway.session.known import KnownStatement
from gateway.session.permit import ExecutionPermit
from gateway.session.recurring import Recurring

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession

_CANCELLED = server.error(sqlstate="57014", message="canceling statement due to user request")


class Recorded(Protocol):
    """An execution whose entry is durable: an `Occurrence`, or the compiled lane's own."""

    @property
    def recurring(self) -> Recurring: ...

    def permit(self) -> ExecutionPermit: ...


class Deferred:
    """One request between its entry and its execution. `send` is called once it is recorded, or never."""

    def __init__(self, session: ClientSession, known: KnownStatement, data: bytes, send: Callable[[], None]) -> None:
        self.withdrawn = False
        self._session = session
        self._known = known
        self._data = data
        self._send = send

    def told(self, occurrence: Recorded | None) -> None:
        """The occurrence's entry is durable; None: it is not, and the ordinary way says so to the client."""
        session = self._session
        session.no_longer_deferred()
        if session.reason or session.relay.broken or session.client.closed:
            self._give_up(occurrence, "cancelled")
        elif occurrence is None:
            session.client.take_back(self._data)
        elif self.withdrawn:
            self._give_up(occurrence, "cancelled")
            session.refuse(_CANCELLED)
            session.sync()
        elif not (session.at_rest and session.meaning.is_quiet(self._known) and occurrence.recurring.holds()):
            # What it meant when it was recalled, and what the rules said of it, may not be so now: it may have waited
            # for seconds. It is asked for, and recorded, anew.
            self._give_up(occurrence, "skipped")
            session.client.take_back(self._data)
        else:
            session.sent_known()
            self._send()
            session.client.wake()  # for what came meanwhile

    def _give_up(self, occurrence: Recorded | None, status: str) -> None:
        if occurrence is not None:
            self._session.start_known(occurrence.permit()).finish(status)
