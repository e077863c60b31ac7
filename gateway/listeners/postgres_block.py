"""The transaction a request runs in, and the block the gateway opens in it to be able to ask something midway.

Between two Syncs (or within one simple Query) the server works in an implicit transaction, which takes no savepoint.
BEGIN turns it, what ran in it included, into a block, in which a question can be undone (PostgreSQL, `xact.c`,
`BeginTransactionBlock`). Such a block is *own*: the client never hears of it. Before its Sync is passed on, the block
ends as the Sync would have ended it, by COMMIT, or by ROLLBACK after an error.

What the server has open is known by its answers alone: whatever was sent and failed changed nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.lexer import LexError, tokenize
from analysis.utility import read_utility
from gateway.listeners.postgres_text import first_word
from gateway.protocols.postgres import server
from gateway.upstreams.postgres_expectations import Local

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession

_WORDS = frozenset({"begin", "start", "commit", "end", "rollback", "abort", "prepare"})
_BEGINS = "BEGIN"
_ENDS = frozenset({"COMMIT", "ROLLBACK", "PREPARE_TRANSACTION"})
_ALREADY_IN_A_BLOCK = "25001"
_NOT_IN_A_BLOCK = server.encode_error(
    {"S": "WARNING", "V": "WARNING", "C": "25P01", "M": "there is no transaction in progress"}, notice=True
)


class TransactionBlock:
    """Of one session. `state` is the server's: I outside a block, T inside, E inside one that failed."""

    def __init__(self, session: ClientSession) -> None:
        self.state = "I"
        self.own = False
        self._met = False  # the client's own word about transactions went to the server since the block was opened
        self._session = session

    def opened(self) -> None:
        """BEGIN of the gateway's own succeeded."""
        self.state, self.own, self._met = "T", True, False

    def closing(self) -> None:
        """The gateway ends its own block."""
        self.own = False

    def became_ready(self, status: str) -> None:
        self.state = status
        self.own &= status != "I"

    def sending(self, text: str) -> None:
        """Make the server's words about the client's transaction control what they are without a block of ours."""
        if not self.own or self._met:
            return
        kind = _control(text)
        if kind == _BEGINS:
            self._met = True
            self._session.relay.swallow(_ALREADY_IN_A_BLOCK)
        elif kind in _ENDS:
            self._met = True
            self._session.relay.push(Local(_NOT_IN_A_BLOCK))

    def succeeded(self, text: str) -> None:
        """A statement of the client's did."""
        kind = _control(text)
        if kind == _BEGINS:
            self.state, self.own = "T", False  # from here on it is the client's
        elif kind in _ENDS:
            self.state, self.own = "I", False
        elif kind == "ROLLBACK_TO":
            self.state = "T"


def ends_or_begins(text: str) -> bool:
    return first_word(text) in _WORDS


def _control(text: str) -> str:
    """What `text` does to a transaction block, by its kind; "" for nothing, and for AND CHAIN, which goes on."""
    if first_word(text) not in _WORDS:
        return ""
    try:
        words = [token.word for token in tokenize(text)]
        kind = read_utility(text).kind
    except LexError:
        return ""
    chained = "CHAIN" in words and "NO" not in words
    return "" if chained else kind
