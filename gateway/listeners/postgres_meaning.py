"""What statements mean in one session: its role, search_path and settings, known by asking the server, not by guessing.

Anything that may have changed them makes the session *unsettled*: it is asked again before anything is decided. What
was changed in a transaction that may still be undone is *volatile*: its end unsettles once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.statement import Analysis, Operation
from gateway.domain.snapshot import StaleSnapshot
from gateway.listeners.postgres_memory import NAME_QUESTIONS
from gateway.listeners.postgres_text import QUIET, SELF_CONTAINED, TRANSACTION_ENDS, first_word, is_plain_control
from gateway.protocols.postgres.meaning import MEANINGFUL, settings_text
from gateway.protocols.postgres.state import MeaningState
from gateway.session.known import KnownStatement
from gateway.session.openness import is_open

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession

# Asked whenever the session's meaning may have changed. SHOW resolves no names, so nothing can stand in for it, and it
# takes no snapshot, so that SET TRANSACTION may still follow it.
STATE_QUESTIONS = (
    "show role",
    "show session authorization",
    "show search_path",
    "show standard_conforming_strings",
    "show client_encoding",
    *(f"show {name}" for name in MEANINGFUL),
)
# Every name is qualified: a relation of the session's own cannot stand in for the catalogue.
_TEMP_QUESTION = (
    "select 1 from pg_catalog.pg_class where relnamespace operator(pg_catalog.=) pg_catalog.pg_my_temp_schema() limit 1"
)


class SessionMeaning(MeaningState):
    """Of one session. `unsettled`: role, search_path or a setting may differ from what the context says."""

    def __init__(self, session: ClientSession) -> None:
        self.unsettled = True
        self.volatile = False
        self._ended = False  # something that ends a transaction was sent since the server was last ready
        self._session = session

    async def settle(self) -> None:
        """Know the session's role, search_path and settings in the server's own words before anything is decided."""
        if not self.unsettled or self._session.relay.skipping or self._session.relay.broken:
            return
        if self._session.at_boundary:
            await self._session.drained()
        if self._session.relay.status == "E" and (self._session.at_boundary or not self._ended):
            return  # a failed transaction answers nothing, and runs nothing but its own end
        outside = self._session.at_boundary and self._session.relay.status == "I"
        answers = await self._session.questions.several(STATE_QUESTIONS)
        if answers is None:
            return
        role, login, search_path, quoting, encoding, *settings = ((rows[0][0] or b"").decode() for rows in answers)
        if not self._keeps_its_meaning(quoting, encoding):
            self._session.end("meaning-changed")
            return
        self._session.context.role, self._session.context.search_path = login if role == "none" else role, search_path
        self._session.context.settings = settings_text(settings)
        if outside and self._session.context.temp_relations:
            rows = await self._session.questions.one(_TEMP_QUESTION)
            self._session.context.temp_relations = rows is None or bool(rows)
            if not self._session.context.temp_relations:
                self._session.context.temporary.all_gone()
        if self._session.memory.doubtful:
            names = await self._session.questions.several(NAME_QUESTIONS)
            if names is not None:
                self._session.memory.verify(*names)
        # Other quoting rules are an open connection's only: ask again before every statement.
        self.unsettled = quoting != "on" or self._session.memory.doubtful
        self.volatile = not outside and self.volatile

    @property
    def standard_strings(self) -> bool:
        """Whether a backslash in a string is just that, as the server last said."""
        return self._session.upstream.parameters.get("standard_conforming_strings") == "on"

    def _keeps_its_meaning(self, quoting: str, encoding: str) -> bool:
        """Other quoting rules than the analysis knows are harmless only where nothing depends on the analysis."""
        if encoding.upper() != "UTF8":
            return False
        return quoting == "on" or self.is_open()

    def is_open(self) -> bool:
        try:
            snapshot = self._session.services.snapshots.current()
        except StaleSnapshot:
            return False
        connection = snapshot.connections.get(self._session.context.connection.name)
        return connection is not None and is_open(snapshot, connection, self._session.context.principal)

    def is_quiet(self, known: KnownStatement) -> bool:
        """Whether running it changes nothing that later statements depend on (see `notice_effects`).

        Or the transaction alone: what that changes is noticed each time it is sent (`known.control`).
        """
        if known.quiet is None:
            analysis = known.assessment.analysis
            known.control = is_plain_control(analysis.statement.text)
            known.quiet = (
                (known.control or first_word(analysis.statement.text) in SELF_CONTAINED)
                and analysis.complete
                and analysis.inner is None
                and not analysis.opaque_functions
                and not analysis.creates_temp
                and not analysis.operations & {Operation.DDL, Operation.ADMIN}
                and not any(name.endswith("set_config") for name in analysis.functions)
            )
        return known.quiet

    def notice_effects(self, analysis: Analysis, word: str) -> None:
        effects = analysis.inner or analysis
        self._ended |= word in TRANSACTION_ENDS
        hidden = (bool(effects.opaque_functions) or not effects.complete) and not self.is_open()
        if word not in QUIET or hidden or any(name.endswith("set_config") for name in effects.functions):
            self.unsettled = self.volatile = True
        elif word in TRANSACTION_ENDS and self.volatile:
            self.unsettled = True
        self._session.context.temporary.sent(
            effects, hidden=hidden, changes=hidden or self._changes_names(effects, word)
        )
        self._session.plans.sent(effects, word, hidden=hidden)
        if analysis.creates_temp or hidden:  # code nobody could read may have made one; the server is asked, outside
            self._session.context.temp_relations = True
        if effects.operations & {Operation.DDL, Operation.ADMIN}:
            self._session.context.uncommitted_definitions = True
        if hidden:
            self._session.memory.doubt()

    def _changes_names(self, effects: Analysis, word: str) -> bool:
        """Whether a name may mean something else afterwards, a transaction's end included: it may undo definitions."""
        if word not in QUIET or word in TRANSACTION_ENDS or effects.creates_temp or effects.creates is not None:
            return True
        return bool(effects.operations & {Operation.DDL, Operation.ADMIN})

    def became_ready(self, status: str) -> None:
        if self._session.at_boundary and self._session.relay.last_answer:
            self._ended = False
        if self.volatile and status == "I":
            self.unsettled = True
        if status == "I":
            if (
                self._session.at_boundary and self._session.relay.last_answer
            ):  # not when more was pipelined behind this Sync
                self._session.context.uncommitted_definitions = False
            self._session.memory.transaction_ended()

    def parameter_changed(self, name: str, value: str) -> None:
        self._session.upstream.parameters[name] = value
        if name == "client_encoding" and not self._keeps_its_meaning("on", value):
            self._session.end("meaning-changed")
        if name == "standard_conforming_strings":
            self.unsettled = True
            if not self._keeps_its_meaning(value, "UTF8"):
                self._session.end("meaning-changed")
        if name in {"search_path", "session_authorization"}:
            self.unsettled = self.volatile = True
