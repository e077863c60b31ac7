"""Both readings of a PostgreSQL statement, compared, and remembered per shape.

A remembered analysis holds for one catalogue version, role and search path. It is found by the statement's exact text
first, then by its strict template (see `analysis.fingerprint`). Where a decision may turn on how many rows come back,
the planner's estimate is asked for as well, per exact text, since it follows the literals.

Temporary relations and uncommitted definitions are invisible on the side connection: a session that has any is read in
the session itself (`postgres_own`), and nothing it says is complete while that cannot be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from analysis.agree import distrusted, incomplete, taken_over
from analysis.estimate import UNKNOWN, RowsExpected, estimated_rows, may_be_sized, rows_expected, wants_estimate
from analysis.fingerprint import Shape, exact_shape, skeleton
from analysis.lexer import LexError, TokenKind, tokenize
from analysis.statement import Analysis, Operation, Statement
from analysis.text import MAX_SKELETON, TextReading, highest_parameter, read_text
from analysis.utility import Utility, read_utility
from gateway.domain.long_texts import read_beside
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.context import SessionContext
from gateway.session.services import TableDescription, UpstreamRejected
from gateway.upstreams.postgres_catalogue import described_tables
from gateway.upstreams.postgres_own import PostgresOwnSide
from gateway.upstreams.postgres_readings import Side, compared
from gateway.upstreams.postgres_recollected import Recollected
from gateway.upstreams.postgres_side import CLASSIFIED, DsnFor, Estimate, Key, PostgresSide
from gateway.upstreams.postgres_witness import Question

CACHE_TEXT = 16_384  # longer statements are not remembered by their exact text
RETRIES = 3
MOST_FOUND = 1024  # specifications whose side is remembered
_LITERALS = (TokenKind.STRING, TokenKind.NUMBER)
_ENDS_PREPARED = frozenset({"COMMIT_PREPARED", "ROLLBACK_PREPARED"})
_STAND_FOR_A_QUERY = frozenset({"EXECUTE", "DECLARE_CURSOR"})
# Statements that name no relation, by their first word.
_SESSION_WORDS = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "SET", "RESET", "SHOW", "CLOSE"}
)
_BEHIND = "does not know yet"  # how analysis says that the schema moved on

Doubted = Callable[[Analysis, SessionContext], Analysis]


class _SchemaMoved(Exception):
    """The schema changed while a statement's rows were estimated."""


class PostgresAnalyst:
    """`gateway.session.services.Analyst` for connections of kind `postgres`."""

    def __init__(self, dsn_for: DsnFor) -> None:
        self._dsn_for = dsn_for
        self._sides: dict[_Place, PostgresSide] = {}
        self._found: dict[int, tuple[ConnectionSpec, PostgresSide]] = {}  # the same, by the specification's identity
        self._changing: set[str] = set()  # sessions whose last statement may have changed definitions

    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        """Return what `statement` does. Raises UpstreamRejected for what the database refuses to read."""
        side = self._side(session.connection)
        own = await self._own_side(side, session, statement)
        if own is not None:
            return await self._read_in(own, session, statement)
        # After a statement that may have changed the schema: look before believing anything remembered.
        await side.keep_fresh(at_once=session.session_id in self._changing)
        self._changing.discard(session.session_id)
        found = await self._read_and_sized(side, session, statement, _doubted)
        session.schema_version = side.catalogue.version if side.catalogue is not None else ""
        changes = found.operations & {Operation.DDL, Operation.ADMIN} or found.kind == "COMMIT_PREPARED"
        if session.uncommitted_definitions or changes:
            self._changing.add(session.session_id)
        return found

    async def _read_in(self, own: PostgresOwnSide, session: SessionContext, statement: Statement) -> Analysis:
        found = await self._read_and_sized(own, session, statement, _ends_what_is_not_its_own)
        session.schema_version = own.permanent_version
        return found

    async def _read_and_sized(
        self, side: Side, session: SessionContext, statement: Statement, doubted: Doubted
    ) -> Analysis:
        """What it does and how much it returns, both under the schema in force when both are known."""
        for _ in range(RETRIES):
            found = doubted(await self._read_shape(side, session, statement), session)
            try:
                return await self._estimated(side, session, found)
            except _SchemaMoved:
                continue
        return distrusted(found, "the schema changes too quickly")

    async def _read_shape(self, side: Side, session: SessionContext, statement: Statement) -> Analysis:
        exact = _exact(statement, session)
        found = side.analyses.find(exact)
        if found is None:
            found = await self._analyse_shape(side, session, statement, exact)
        return found if found.statement == statement else replace(found, statement=statement)

    async def _own_side(
        self, side: PostgresSide, session: SessionContext, statement: Statement
    ) -> PostgresOwnSide | None:
        """Where a session reads its statements itself; None where it need not, or cannot now."""
        if not (session.temp_relations or session.uncommitted_definitions) or session.place is None:
            return None
        if statement.text.split(None, 1)[:1] and statement.text.split(None, 1)[0].upper() in _SESSION_WORDS:
            return None  # they name no relation
        own = session.own_reading
        if not isinstance(own, PostgresOwnSide) or not own.is_beside(side):
            own = session.own_reading = PostgresOwnSide(side, session, session.place)
        return own if await own.is_current() else None

    def recall(self, session: SessionContext, text: str, parameter_types: tuple[int, ...]) -> Analysis | None:
        """Return what `analyse` would answer from memory right now, or None when it would have to look or doubt.

        It is the remembered object itself, the same as long as it holds, so that callers may hang more on it; its
        `statement` may be another text of the same template.
        """
        spec = session.connection
        side = self._known_side(spec)
        if side is None or not side.is_fresh():
            return None
        if session.uncommitted_definitions or session.temp_relations or session.session_id in self._changing:
            return None
        where = (parameter_types, session.role, session.search_path)
        found = side.analyses.find(("=" + text, *where)) if len(text) <= CACHE_TEXT else None
        if found is None and len(text) <= MAX_SKELETON:
            found = side.analyses.find(("~" + skeleton(text), *where))
        if found is None or found.operations & {Operation.DDL, Operation.ADMIN}:
            return None
        if wants_estimate(found):  # of this very text, parameters left open as the planner had them
            known = side.estimates.find(("=" + text, *where))
            return known.analysis if known is not None and known.is_fresh else None
        return found

    async def expect(self, session: SessionContext, analysis: Analysis) -> RowsExpected:
        """Plan what is held, or what it stands for, on a side connection. Nothing runs; only counts come back."""
        stands_for = analysis.inner if analysis.kind in _STAND_FOR_A_QUERY else None
        asked = stands_for or analysis
        probe = read_utility(asked.statement.text).probe if may_be_sized(asked) else None
        if probe is None:
            return UNKNOWN
        question = _query_of(replace(asked.statement, text=probe), session)
        side: Side | None = self._side(session.connection)
        if session.temp_relations or session.uncommitted_definitions:  # its names may mean something else there
            own = session.own_reading
            side = own if isinstance(own, PostgresOwnSide) and own.catalogue is not None else None
        return rows_expected(await side.plan(question), asked) if side is not None else UNKNOWN

    def recollect(
        self, session: SessionContext, text: str, parameter_types: tuple[int, ...], found: Analysis
    ) -> Recollected | None:
        """Tell from now on with one look whether `recall` would return `found`, which it just did."""
        side = self._known_side(session.connection)
        if side is None:
            return None
        where = (parameter_types, session.role, session.search_path)
        exact, shaped = ("=" + text, *where), ("~" + skeleton(text), *where)
        if wants_estimate(found):
            return Recollected(session, side, self._changing, found, exact, estimated=True)
        if side.analyses.find(shaped) is found:
            return Recollected(session, side, self._changing, found, shaped)
        return Recollected(session, side, self._changing, found, exact)

    async def prepared(self, session: SessionContext, identifier: str) -> int | None:
        return await self._side(session.connection).prepared(identifier, asker=session.principal.subject)

    async def tables(self, session: SessionContext) -> Sequence[TableDescription]:
        """The catalogue's relations that are no part of PostgreSQL itself."""
        side = self._side(session.connection)
        await side.keep_fresh(at_once=False)
        if side.catalogue is None:
            await side.check(time.monotonic())
        if side.catalogue is None:
            raise UpstreamRejected(sqlstate="08006", message="the database does not tell its tables now")
        return described_tables(side.catalogue)

    async def close(self) -> None:
        for side in self._sides.values():
            await side.close()
        self._sides.clear()
        self._found.clear()

    # --- how many rows ---

    async def _estimated(self, side: Side, session: SessionContext, found: Analysis) -> Analysis:
        """Raises _SchemaMoved when `found` is about another schema than the estimate."""
        if found.kind == "DECLARE_CURSOR" and found.inner is not None:
            # What it does and risks is told for the cursor, and is not what the same text does alone.
            declared = _key(f"declared={found.statement.text}", found.statement, session)
            return replace(found, inner=await self._rows_of(side, session, found.inner, declared))
        if found.inner is not None:
            return found
        return await self._rows_of(side, session, found, _exact(found.statement, session))

    async def _rows_of(self, side: Side, session: SessionContext, found: Analysis, exact: Key) -> Analysis:
        if not wants_estimate(found):
            return found
        known = side.estimates.find(exact)
        if known is None or not known.is_fresh:
            catalogue = side.catalogue
            plan = await side.plan(_query_of(found.statement, session))
            rows = estimated_rows(plan, collects=found.facts.collects)
            if side.catalogue is not catalogue:
                raise _SchemaMoved
            # Literals that cannot change what a statement does still change how much it returns.
            independent = not _has_literals(found)
            estimated = replace(found, facts=replace(found.facts, estimated_rows=rows), literal_independent=independent)
            known = Estimate(estimated)
            side.estimates.keep(exact, known, length=len(exact[0]))
        return known.analysis

    # --- by shape ---

    async def _analyse_shape(self, side: Side, session: SessionContext, statement: Statement, exact: Key) -> Analysis:
        text, asker = statement.text, session.principal.subject
        try:
            read = await read_beside(asker, len(text), partial(read_text, text))
        except (LexError, UnicodeEncodeError) as error:
            return incomplete(statement=statement, kind="UNKNOWN", problem=_why(error), shape=exact_shape(text))
        utility, shape = read.utility, read.shape
        if utility.executes or utility.kind in ("FETCH", "MOVE"):
            return await self._by_name(session, statement, utility, shape)
        template = _key(shape.template, statement, session)
        found = side.analyses.find(template) if utility.is_query else None
        if found is None:
            found = await self._current_reading(side, session, statement, read)
            if found.complete and utility.is_query and side.catalogue is not None:
                side.analyses.keep(template, found, length=len(text))
        if read.skeleton is not None and side.analyses.find(template) is found:
            side.analyses.keep(_key("~" + read.skeleton, statement, session), found, length=len(text))
        if found.complete and len(text) <= CACHE_TEXT and side.catalogue is not None:
            side.analyses.keep(exact, found)
        return found

    async def _current_reading(
        self, side: Side, session: SessionContext, statement: Statement, read: TextReading
    ) -> Analysis:
        """Both readings under one catalogue, the one in force when they are done."""
        for _ in range(RETRIES):
            if side.catalogue is None:
                await side.check(time.monotonic())
            catalogue = side.catalogue
            found = await compared(side, session, statement, read)
            if any(problem.endswith(_BEHIND) for problem in found.problems):
                await side.check(time.monotonic())
            if catalogue is side.catalogue:
                return found
        return distrusted(found, "the schema changes too quickly")

    async def _by_name(self, session: SessionContext, statement: Statement, utility: Utility, shape: Shape) -> Analysis:
        """A prepared statement is read again (it is replanned when the schema changes), a cursor stands as declared."""
        stored = (session.prepared if utility.executes else session.cursors).get(utility.name)
        if stored is None:
            problem = "it names a prepared statement or cursor this session does not have"
            return incomplete(statement=statement, kind=utility.kind, problem=problem, shape=shape)
        if utility.executes:
            stored = await self.analyse(session, stored.statement)
        if utility.arguments and not await self._computes_only(session, utility.arguments):
            problem = "arguments of EXECUTE that may do more than compute"
            utility = replace(utility, problems=(*utility.problems, problem))
        return taken_over(statement=statement, utility=utility, stored=stored, shape=shape)

    async def _computes_only(self, session: SessionContext, arguments: str) -> bool:
        """Whether evaluating the arguments of EXECUTE reads, writes and changes nothing."""
        try:
            found = await self.analyse(session, Statement(f"SELECT {arguments}"))
        except UpstreamRejected as rejected:
            raise UpstreamRejected(sqlstate=rejected.sqlstate, message=rejected.message) from None
        return found.complete and found.operations == {Operation.READ} and not found.tables_read

    def _side(self, spec: ConnectionSpec) -> PostgresSide:
        side = self._known_side(spec)
        if side is None:
            side = self._sides[_place(spec)] = PostgresSide(spec, self._dsn_for)
        return side

    def _known_side(self, spec: ConnectionSpec) -> PostgresSide | None:
        found = self._found.get(id(spec))
        if found is not None:  # which keeps the specification alive, so that nothing else has its identity
            return found[1]
        side = self._sides.get(_place(spec))
        if side is not None:
            if len(self._found) >= MOST_FOUND:
                self._found.clear()  # rules that are read anew bring specifications of their own
            self._found[id(spec)] = (spec, side)
        return side


_Place = tuple[str | int | bytes, ...]


def _place(spec: ConnectionSpec) -> _Place:
    """Whose catalogue, whom it is believed, by which secret, and whose word about its functions.

    Another one is another side, which has no connections yet and remembers nothing.
    """
    trust = (spec.tls, *(spec.settings.get(name, "") for name in ("ca_file", "requirepeer", CLASSIFIED)))
    return (spec.name, spec.host, spec.port, spec.database, spec.username, spec.sealed_credential, *trust)


def _query_of(statement: Statement, session: SessionContext) -> Question:
    """A query that was analysed already, to be planned as the session would."""
    text = statement.text
    count = highest_parameter(text, tokenize(text)) if "$" in text else 0
    return Question(
        text=statement.text,
        role=session.role,
        asker=session.principal.subject,
        search_path=session.search_path,
        parameter_count=max(count, len(statement.parameter_types)),
        parameter_types=statement.parameter_types,
    )


def _has_literals(analysis: Analysis) -> bool:
    return any(token.kind in _LITERALS for token in tokenize(analysis.statement.text))


def _doubted(found: Analysis, session: SessionContext) -> Analysis:
    """What the side connection cannot see may change what names mean in this session: then nothing is complete."""
    if session.uncommitted_definitions:
        problem = "the open transaction changed definitions, which the second reading cannot see"
    elif session.temp_relations:
        problem = "the session may have temporary relations, which the second reading cannot see"
    else:
        return _ends_what_is_not_its_own(found, session)
    if found.inner is not None:  # a cursor outlives the moment it was declared in
        found = replace(found, inner=distrusted(found.inner, problem))
    return found if found.operations == {Operation.SESSION} else distrusted(found, problem)


def _ends_what_is_not_its_own(found: Analysis, session: SessionContext) -> Analysis:
    if found.kind in _ENDS_PREPARED and found.name not in session.prepared_transactions:
        return distrusted(found, "it ends a transaction that this session did not prepare")
    return found


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, LexError) else "characters that no encoding holds"


def _exact(statement: Statement, session: SessionContext) -> Key:
    return _key("=" + statement.text, statement, session)  # a template is a digest and never begins so


def _key(shape: str, statement: Statement, session: SessionContext) -> Key:
    return (shape, statement.parameter_types, session.role, session.search_path)
