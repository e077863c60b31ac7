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
from gateway.upstreams.postgres_expectations import Commit, Complete, Expectation, Hushed, Rows

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession


class SessionPlace:
    """`gateway.session.temporary.OwnPlace` of a native session."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._name = f"hoopweb_{secrets.token_hex(8)}"
        self._midway = False  # something was asked since the client's last Sync, and what was found may end with it

    async def ready(self) -> bool:
        session, relay = self._session, self._session.relay
        if session.reason:
            return False
        await session.drained()
        free = relay.idle and not relay.broken and not relay.skipping and not session.reason
        return free and session.block.state in {"I", "T"}

    async def ask_undone(self, texts: Sequence[str]) -> list[list[Row]] | None:
        session = self._session
        if not session.at_boundary:
            self._midway = True
            if session.block.state == "I" and not await self._open():
                return None
        inside = session.block.state == "T"
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

    def request_ends(self) -> None:
        """The client's Sync is about to be sent: relations ON COMMIT DROP end with it, and what failed is undone."""
        if self._midway:
            self._midway = False
            self._session.context.temporary.changes += 1

    async def end_block(self) -> None:
        """End the block of ours as the Sync would have ended the transaction; the client hears what fails then."""
        session, block = self._session, self._session.block
        await session.drained()
        if not block.own or session.relay.broken:
            return
        block.closing()
        if session.relay.skipping:
            session.sync(hidden=True)
            await self._asked(["ROLLBACK"])
            return
        ended, _ = await self._asked(["COMMIT"], expecting=Commit)
        if ended is None:
            self._close(failures=[])

    async def _open(self) -> bool:
        """Open a block of ours in the transaction the client's request is in."""
        began, _ = await self._asked(["BEGIN"])
        if began is None or self._session.relay.status != "T":
            self._session.end("internal-error")  # fail closed: nobody knows what state the transaction is in
            return False
        self._session.block.opened()
        return True

    async def _asked(
        self, texts: Sequence[str], expecting: type[Hushed | Commit] = Hushed
    ) -> tuple[list[list[Row]] | None, dict[str, str] | None]:
        """The rows of every text, or the error that ended them."""
        failures: list[dict[str, str]] = []
        boundary = self._session.at_boundary
        asked = [self._ask(text, failures, expecting) for text in texts]
        self._session.sync(hidden=True)
        self._session.at_boundary = boundary  # for the client there was no Sync
        answers = [await answer for answer in asked]
        known = [answer for answer in answers if answer is not None]
        return (known if len(known) == len(answers) else None), (failures[0] if failures else None)

    def _ask(
        self, text: str, failures: list[dict[str, str]], expecting: type[Hushed | Commit]
    ) -> asyncio.Future[list[Row] | None]:
        answer: asyncio.Future[list[Row] | None] = asyncio.get_running_loop().create_future()
        own, session = self._name, self._session

        def ask(expectation: Expectation, message: bytes) -> None:
            session.ask(expecting(expectation, failures), message)

        ask(Complete(server.PARSE_COMPLETE, hidden=True), client.encode_parse(Parse(own, text, ())))
        ask(Complete(server.BIND_COMPLETE, hidden=True), client.encode_bind(Bind(own, own, (), (), ())))
        ask(Rows(answer), client.encode_execute(Execute(own, 0)))
        self._close(failures)
        return answer

    def _close(self, failures: list[dict[str, str]]) -> None:
        for kind in "PS":
            closed = Hushed(Complete(server.CLOSE_COMPLETE, hidden=True), failures)
            self._session.ask(closed, client.encode_close(Target(kind, self._name)))
