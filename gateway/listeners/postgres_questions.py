"""Questions of our own, asked inside a client's session and unseen by the client.

They are named so that no statement of the client's can be met, end what they made, and begin no transaction that the
next statement would find itself in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.upstreams.postgres_expectations import Complete, Rows

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession

Answer = list[list[bytes | None]]


class OwnQuestions:
    """Of one session. `name` is a statement's and portal's that only this session knows."""

    def __init__(self, session: ClientSession, name: str) -> None:
        self._session = session
        self._name = name

    async def one(self, text: str, parameters: Sequence[str] = ()) -> Answer | None:
        """Return the rows that answer `text`. None: it was skipped."""
        boundary = self._session.at_boundary
        answer = self._ask(text, parameters)
        self._end(boundary)
        return await answer

    async def several(self, texts: Sequence[str]) -> list[Answer] | None:
        """Several questions in one round trip. None: at least one was skipped."""
        boundary = self._session.at_boundary
        asked = [self._ask(text) for text in texts]
        self._end(boundary)
        answers = [await answer for answer in asked]
        return [answer for answer in answers if answer is not None] if None not in answers else None

    def _ask(self, text: str, parameters: Sequence[str] = ()) -> asyncio.Future[Answer | None]:
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        ask, own = self._session.ask, self._name
        values = tuple(value.encode() for value in parameters)
        ask(Complete(server.PARSE_COMPLETE, hidden=True), client.encode_parse(Parse(own, text, ())))
        ask(Complete(server.BIND_COMPLETE, hidden=True), client.encode_bind(Bind(own, own, (), values, ())))
        ask(Rows(answer), client.encode_execute(Execute(own, 0)))
        for kind in "PS":
            ask(Complete(server.CLOSE_COMPLETE, hidden=True), client.encode_close(Target(kind, own)))
        return answer

    def _end(self, boundary: bool) -> None:
        if boundary:
            self._session.sync(hidden=True)  # or the next statement would find itself in a transaction it did not begin
        else:
            self._session.push_answers()
