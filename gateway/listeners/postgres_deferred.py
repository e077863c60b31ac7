"""Requests of the express lane whose entries must be waited for (durability `disk` and `database`).

They were decided and their entries are on their way; nothing was sent and nothing of the session has changed. Until
they are answered the session is not at rest: frames queue behind them. Whoever ends or cancels meanwhile is heard: then
they are never sent, and the log says so.
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
    from gateway.listeners.quick.steps import Run, Steps

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


class DeferredRun:
    """Executions of a pipeline between their entries and their being sent: all of them, or none."""

    def __init__(self, session: ClientSession, steps: Steps) -> None:
        self.withdrawn = False
        self._session, self._steps = session, steps
        self._run: Run | None = None
        self._data = b""
        self._waiting = 0
        self._recorded: list[Recorded] = []

    def one_more(self) -> DeferredRun:
        """What is to be told of one more entry, once."""
        self._waiting += 1
        return self

    def one_less(self) -> None:
        """Of the last one nothing will be told."""
        self._waiting -= 1

    def complete(self, run: Run, data: bytes) -> None:
        """`run` is what `data` asked for, and all there is to wait for. Nothing was told yet."""
        self._run, self._data = run, data
        if not run.passages:
            self._session.no_longer_deferred()

    def told(self, occurrence: Recorded | None) -> None:
        """The entry of one is durable; None: one is not, and the ordinary way says so to the client."""
        self._waiting -= 1
        if occurrence is not None:
            self._recorded.append(occurrence)
        if self._waiting == 0:
            self._decide()

    def _decide(self) -> None:
        session, run = self._session, self._run
        assert run is not None
        session.no_longer_deferred()
        if session.reason or session.relay.broken or session.client.closed:
            self._give_up("cancelled")
        elif self.withdrawn:
            self._give_up("cancelled")
            session.refuse(_CANCELLED)
            session.flush()
            session.client.wake()
        elif session.relay.skipping:  # behind something that has failed by now
            self._give_up("skipped")
            session.client.wake()
        elif len(self._recorded) < len(run.passages) or not self._stands():
            self._give_up("skipped")
            session.pipelines.ask_anew(self._data, len(run.passages))
        else:
            self._steps.send(run)
            session.sent_known()
            session.client.wake()  # for what came meanwhile

    def _stands(self) -> bool:
        """Whether everything is as it was when they were let in: it may have taken seconds."""
        return self._steps.may_go() and all(occurrence.recurring.holds() for occurrence in self._recorded)

    def _give_up(self, status: str) -> None:
        for occurrence in self._recorded:
            self._session.start_known(occurrence.permit()).finish(status)
