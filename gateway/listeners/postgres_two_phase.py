"""PREPARE TRANSACTION, and who may end what it prepared (see `gateway.session.two_phase`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.lexer import LexError
from analysis.utility import Utility, read_utility
from gateway.listeners.postgres_text import first_word

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession

_WORDS = frozenset({"prepare", "commit", "rollback"})
_ENDS = frozenset({"COMMIT_PREPARED", "ROLLBACK_PREPARED"})
_OWN = "select pg_catalog.pg_current_xact_id()::pg_catalog.text"
_THERE = (
    "select transaction::pg_catalog.text from pg_catalog.pg_prepared_xacts where gid operator(pg_catalog.=) $1 "
    "and database operator(pg_catalog.=) pg_catalog.current_database()"
)
_XIDS = 2**32  # transaction ids as `pg_prepared_xacts` has them, without their epoch


class TwoPhase:
    """Of one session."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._own: dict[str, set[int]] = {}

    async def before(self, text: str) -> None:
        """Note what is about to be prepared, or learn whose transaction is about to be ended. Decides nothing."""
        if first_word(text) not in _WORDS or self._session.relay.skipping or self._session.relay.broken:
            return
        utility = _read(text)
        if utility is not None and utility.name and utility.kind == "PREPARE_TRANSACTION":
            await self._prepares(utility.name)
        elif utility is not None and utility.name and utility.kind in _ENDS:
            await self._ends(utility.name)

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
        if not session.at_boundary or session.relay.status != "I":
            return
        session.context.prepared_transactions.discard(identifier)
        known = frozenset(self._own.get(identifier, ()))
        if session.services.prepared is not None:
            known |= await session.services.prepared.known(session.context, identifier)
        rows = await session.questions.one(_THERE, [identifier]) if known else None
        if rows and int(rows[0][0] or b"0") in known:
            session.context.prepared_transactions.add(identifier)


def _read(text: str) -> Utility | None:
    try:
        return read_utility(text)
    except LexError:
        return None
