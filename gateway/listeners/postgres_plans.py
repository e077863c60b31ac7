"""Whether what the server keeps of a statement still means what its text means now.

A prepared statement is resolved when it is parsed and a portal when it is bound. PostgreSQL resolves a statement anew
when something it depends on changes, not when a relation appears that its names would mean from then on (a temporary
table before a permanent one, a table in an earlier schema of the search_path). Our reading is of the text, now. So as
soon as names may have changed, the server is told to resolve everything anew before it runs anything prepared
(DISCARD PLANS), and a portal that was bound before runs only if it was bound to the same. On open connections nothing
depends on what a statement means: there the server's ways are left alone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from analysis.statement import Analysis, Operation
from gateway.listeners.postgres_names import Portal
from gateway.listeners.postgres_text import TRANSACTION_ENDS
from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.upstreams.postgres_expectations import Complete, Passed

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession

# Statements that name no relation; a changed search_path the server notices by itself.
_NAME_NOTHING = frozenset(
    [
        *("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "set", "reset", "show"),
        *("fetch", "move", "close", "deallocate", "discard", "listen", "unlisten", "notify"),
    ]
)
_QUIET = _NAME_NOTHING | {
    *("select", "insert", "update", "delete", "merge", "with", "values", "table", "copy", "explain"),
    *("declare", "prepare", "execute", "lock", "analyze", "vacuum", "checkpoint"),
}
_STATEMENT = "hoopweb_plans"

Names = tuple[int, str]


class KeptPlans:
    """Of one session. `names` grows with whatever may change what names mean, here or by somebody else's DDL."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._changes = 0
        self._undoable = False  # the open transaction changed names, and its end may change them back
        self._resolved: Names = (0, "")

    @property
    def names(self) -> Names:
        return self._changes, self._session.context.schema_version

    @property
    def fresh(self) -> bool:
        return self._resolved == self.names or self._session.meaning.is_open()

    def sent(self, effects: Analysis, word: str, *, hidden: bool) -> None:
        """Note what a statement that is about to run may do to names."""
        defines = bool(effects.operations & {Operation.DDL, Operation.ADMIN}) and word not in _NAME_NOTHING
        changes = hidden or defines or effects.creates_temp or effects.creates is not None or word not in _QUIET
        if not changes and not (word in TRANSACTION_ENDS and self._undoable):
            return
        self._undoable |= changes
        self._changed()

    def became_ready(self, status: str, *, last: bool) -> None:
        """A transaction may have ended, and undone what changed names. `last`: nothing was sent behind it."""
        if status == "I" and self._undoable:
            self._undoable = not last
            self._changed()

    def parsing(self) -> None:
        """A statement is about to be parsed: where it is the only one, nothing older is kept."""
        if not self.fresh and not self._session.statements.any and not self._session.context.prepared:
            self._resolved = self.names

    def renew(self, word: str) -> None:
        """Let the server resolve anew what it runs next, a statement that begins with `word`."""
        if self.fresh or word in _NAME_NOTHING:
            return
        ask = self._session.ask
        ask(Complete(server.PARSE_COMPLETE, hidden=True), client.encode_parse(Parse(_STATEMENT, "DISCARD PLANS", ())))
        ask(Complete(server.BIND_COMPLETE, hidden=True), client.encode_bind(Bind(_STATEMENT, _STATEMENT, (), (), ())))
        ask(Passed(partial(self._renewed, self.names)), client.encode_execute(Execute(_STATEMENT, 0)))
        for kind in "PS":
            ask(Complete(server.CLOSE_COMPLETE, hidden=True), client.encode_close(Target(kind, _STATEMENT)))

    def _changed(self) -> None:
        self._changes += 1
        for statement in self._session.statements.confirmed():
            statement.recurring = None  # the express lane does not ask again

    def _renewed(self, names: Names) -> None:
        """The server said so: what it skips behind an error, it did not do."""
        self._resolved = names

    def bound(self, portal: Portal, analysis: Analysis | None) -> None:
        portal.names, portal.meant = self.names, analysis

    def means_the_same(self, portal: Portal, now: Analysis) -> bool:
        """Whether `now`, which the text means, is what the portal was bound to."""
        if portal.names == self.names or self._session.meaning.is_open():
            return True
        return portal.meant is not None and _meaning(portal.meant) == _meaning(now)


def _meaning(analysis: Analysis) -> tuple[object, ...]:
    return (
        *(analysis.kind, analysis.complete, analysis.operations, analysis.outputs, analysis.reads, analysis.writes),
        *(analysis.tables_read, analysis.tables_written, analysis.flows, analysis.predicates, analysis.functions),
    )
