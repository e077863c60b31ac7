"""PREPARE TRANSACTION, and who may end what it prepared (see `gateway.session.two_phase`)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.lexer import LexError
from analysis.utility import Utility, read_utility
from gateway.listeners.postgres_text import first_word
from gateway.protocols.postgres import server

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession
    from gateway.session.permit import ExecutionPermit
    from gateway.upstreams.postgres_execution import Execution

_WORDS = frozenset({"commit", "rollback"})
_PREPARES = "PREPARE_TRANSACTION"
_ENDS = frozenset({"COMMIT_PREPARED", "ROLLBACK_PREPARED"})
_OWN = "select pg_catalog.pg_current_xact_id()::pg_catalog.text"
_XIDS = 2**32  # transaction ids as `pg_prepared_xacts` has them, without their epoch
MOST_OWN = 1_000  # what one session prepared and nobody is known to have ended

# Errors that say nothing about whether the transaction was prepared: the server or the connection ended.
_IN_DOUBT = ("57", "58", "08", "XX", "")


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a statement is not sent."""

    sqlstate: str
    message: str
    hint: str

    @property
    def frame(self) -> bytes:
        return server.error(sqlstate=self.sqlstate, message=self.message, hint=self.hint)


_NOT_ITS_OWN = Refused(
    sqlstate="42501",
    message="what is prepared under this name is not known to be this session's any more",
    hint="Send the statement again.",
)
_NOT_NOTED = Refused(
    sqlstate="53000",
    message="whose the transaction would be cannot be noted now; it is not prepared",
    hint="Roll back, and try again later.",
)


class TwoPhase:
    """Of one session.

    Whose a transaction is, is noted when PREPARE TRANSACTION was allowed and before it is sent. Whose one is that is
    about to be ended is asked beside the session, right before that is decided and again right before it is sent: a
    question of the session's own would make a transaction block of what must run outside of one.
    """

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._own: dict[tuple[str, int], None] = {}  # in their order
        self._preparing: tuple[str, int] | None = None
        self._ending: tuple[str, int] | None = None
        self._forgetting: set[asyncio.Task[None]] = set()

    async def before(self, text: str) -> None:
        """Learn whose transaction is about to be ended. Decides nothing."""
        if first_word(text) not in _WORDS or self._session.relay.skipping or self._session.relay.broken:
            return
        utility = _read(text)
        if utility is not None and utility.name and utility.kind in _ENDS:
            await self._ends(utility.name)

    async def refused(self, permit: ExecutionPermit) -> Refused | None:
        """Why a permitted statement must not be sent now, after all; None for every other statement."""
        analysis = permit.analysis
        if analysis.kind == _PREPARES:
            noted = not analysis.name or await self._prepares(analysis.name)
            return None if noted else _NOT_NOTED
        if analysis.kind in _ENDS and analysis.complete:  # else it was permitted whosever it is
            await self._ends(analysis.name)
            return None if analysis.name in self._session.context.prepared_transactions else _NOT_ITS_OWN
        return None

    def ended(self, execution: Execution) -> None:
        """An execution is over: what was not prepared, or is ended, is noted no longer."""
        kind = execution.permit.analysis.kind
        if kind == _PREPARES:
            noted, self._preparing = self._preparing, None
            told = not self._session.relay.broken and execution.error[:2] not in _IN_DOUBT
            if noted is not None and not execution.succeeded and told:
                self._forget(noted)
        elif kind in _ENDS:
            looked, self._ending = self._ending, None
            if looked is not None and execution.succeeded:
                self._forget(looked)

    async def _prepares(self, identifier: str) -> bool:
        if self._session.block.state != "T":
            return True  # there is nothing to prepare
        rows = await self._session.questions.one(_OWN)
        if not rows:
            return True  # nor is there after a failure
        self._preparing = identifier, int(rows[0][0] or b"0") % _XIDS
        kept = self._session.services.prepared
        if kept is not None and not await kept.keep(self._session.context, *self._preparing):
            return False
        self._own[self._preparing] = None
        while len(self._own) > MOST_OWN:
            del self._own[next(iter(self._own))]
        return True

    async def _ends(self, identifier: str) -> None:
        """It is the session's to end where what is prepared under the name now is what was prepared then."""
        session = self._session
        session.context.prepared_transactions.clear()
        self._ending = None
        analyst = session.services.analysts[session.context.connection.kind]
        transaction = await analyst.prepared(session.context, identifier)
        if transaction is None:
            return
        known = (identifier, transaction) in self._own
        if not known and session.services.prepared is not None:
            known = await session.services.prepared.known(session.context, identifier, transaction)
        if known:
            self._ending = identifier, transaction
            session.context.prepared_transactions.add(identifier)

    def _forget(self, noted: tuple[str, int]) -> None:
        self._own.pop(noted, None)
        self._session.context.prepared_transactions.discard(noted[0])
        kept = self._session.services.prepared
        if kept is not None:
            task = asyncio.get_running_loop().create_task(kept.forget(self._session.context, *noted))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)


def _read(text: str) -> Utility | None:
    try:
        return read_utility(text)
    except LexError:
        return None
