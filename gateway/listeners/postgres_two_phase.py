"""PREPARE TRANSACTION, and who may end what it prepared (see `gateway.session.two_phase`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from analysis.lexer import LexError
from analysis.utility import Utility, read_utility
from gateway.listeners.postgres_text import first_word
from gateway.protocols.postgres import server

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession
    from gateway.session.permit import ExecutionPermit

_WORDS = frozenset({"prepare", "commit", "rollback"})
_ENDS = frozenset({"COMMIT_PREPARED", "ROLLBACK_PREPARED"})
_OWN = "select pg_catalog.pg_current_xact_id()::pg_catalog.text"
_THERE = (
    "select transaction::pg_catalog.text from pg_catalog.pg_prepared_xacts where gid operator(pg_catalog.=) $1 "
    "and database operator(pg_catalog.=) pg_catalog.current_database()"
)
# Midway in a request nobody can be asked, and what was found when it began is believed for so long: a name may be
# another's by the time a portal that was bound, or a statement that was held, is run.
BELIEVED_S = 2.0
_XIDS = 2**32  # transaction ids as `pg_prepared_xacts` has them, without their epoch


NOT_ITS_OWN = server.error(
    sqlstate="42501",
    message="what is prepared under this name is not known to be this session's any more",
    hint="Send the statement again.",
)


class TwoPhase:
    """Of one session."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._own: dict[str, set[int]] = {}
        self._looked: dict[str, float] = {}  # when a name was found to be the session's to end, in this request

    async def before(self, text: str) -> None:
        """Note what is about to be prepared, or learn whose transaction is about to be ended. Decides nothing."""
        if first_word(text) not in _WORDS or self._session.relay.skipping or self._session.relay.broken:
            return
        utility = _read(text)
        if utility is not None and utility.name and utility.kind == "PREPARE_TRANSACTION":
            await self._prepares(utility.name)
        elif utility is not None and utility.name and utility.kind in _ENDS:
            await self._ends(utility.name)

    def request_ends(self) -> None:
        """The client's Sync is about to be sent."""
        self._looked.clear()

    async def still(self, permit: ExecutionPermit) -> bool:
        """Whether a statement that was permitted as the end of the session's own transaction would be now as well."""
        if permit.analysis.kind not in _ENDS or not permit.analysis.complete:
            return True  # permitted whosever it is
        await self.before(permit.statement)
        return permit.analysis.name in self._session.context.prepared_transactions

    async def _prepares(self, identifier: str) -> None:
        if self._session.block.state != "T":
            return  # there is nothing to prepare
        rows = await self._session.questions.one(_OWN)
        if not rows:
            return
        transaction = int(rows[0][0] or b"0") % _XIDS
        self._own.setdefault(identifier, set()).add(transaction)
        kept = self._session.services.prepared
        if kept is not None:
            await kept.keep(self._session.context, identifier, transaction)

    async def _ends(self, identifier: str) -> None:
        """It is the session's to end where what is prepared under the name now is what was prepared then.

        Asked between requests alone: a question in the same one would be a transaction block to the server.
        """
        session = self._session
        if not session.at_boundary:
            if time.monotonic() - self._looked.get(identifier, float("-inf")) > BELIEVED_S:
                session.context.prepared_transactions.discard(identifier)
            return
        if session.relay.status != "I":
            return  # it fails in a transaction
        session.context.prepared_transactions.discard(identifier)
        known = frozenset(self._own.get(identifier, ()))
        if session.services.prepared is not None:
            known |= await session.services.prepared.known(session.context, identifier)
        rows = await session.questions.one(_THERE, [identifier]) if known else None
        if rows and int(rows[0][0] or b"0") in known:
            session.context.prepared_transactions.add(identifier)
            self._looked[identifier] = time.monotonic()


def _read(text: str) -> Utility | None:
    try:
        return read_utility(text)
    except LexError:
        return None
