"""Asking the session's own connection something that leaves no trace: in a transaction or savepoint that is undone.

Unlike `ClientSession.questions` what is asked may fail: the client hears nothing of it, and its
transaction is as before.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.session.temporary import PlaceRefused, Row
from gateway.upstreams.postgres_expectations import Complete, Expectation, Hushed, Rows

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession


class SessionPlace:
    """`gateway.session.temporary.OwnPlace` of a native session."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._name = f"hoopweb_{secrets.token_hex(8)}"

    async def ready(self) -> bool:
        session = self._session
        if not session.at_boundary or session.reason:
            return False
        await session.drained()
        relay = session.relay
        return session.at_boundary and relay.idle and not relay.broken and relay.status in {"I", "T"}

    async def ask_undone(self, texts: Sequence[str]) -> list[list[Row]] | None:
        inside = self._session.relay.status == "T"
        begin = f"SAVEPOINT {self._name}" if inside else "BEGIN READ WRITE"
        undo = (f"ROLLBACK TO SAVEPOINT {self._name}", f"RELEASE SAVEPOINT {self._name}") if inside else ("ROLLBACK",)
        answers, failure = await self._asked([begin, *texts, *undo])
        if answers is not None:
            return answers[1 : 1 + len(texts)]
        if failure is None or self._session.relay.broken:
            return None
        self._close(failures=[])  # what failed was skipped before its own Close
        undone, _ = await self._asked(undo)
        if undone is None:  # fail closed: nobody knows what state the transaction is in
            self._session.end("internal-error")
            return None
        raise PlaceRefused(failure)

    async def _asked(self, texts: Sequence[str]) -> tuple[list[list[Row]] | None, dict[str, str] | None]:
        """The rows of every text, or the error that ended them."""
        failures: list[dict[str, str]] = []
        asked = [self._ask(text, failures) for text in texts]
        self._session.sync(hidden=True)
        answers = [await answer for answer in asked]
        known = [answer for answer in answers if answer is not None]
        return (known if len(known) == len(answers) else None), (failures[0] if failures else None)

    def _ask(self, text: str, failures: list[dict[str, str]]) -> asyncio.Future[list[Row] | None]:
        answer: asyncio.Future[list[Row] | None] = asyncio.get_running_loop().create_future()
        own, session = self._name, self._session

        def ask(expectation: Expectation, message: bytes) -> None:
            session.ask(Hushed(expectation, failures), message)

        ask(Complete(server.PARSE_COMPLETE, hidden=True), client.encode_parse(Parse(own, text, ())))
        ask(Complete(server.BIND_COMPLETE, hidden=True), client.encode_bind(Bind(own, own, (), (), ())))
        ask(Rows(answer), client.encode_execute(Execute(own, 0)))
        self._close(failures)
        return answer

    def _close(self, failures: list[dict[str, str]]) -> None:
        for kind in "PS":
            closed = Hushed(Complete(server.CLOSE_COMPLETE, hidden=True), failures)
            self._session.ask(closed, client.encode_close(Target(kind, self._name)))
