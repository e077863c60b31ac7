"""Both readings of a PostgreSQL statement, compared, and remembered per shape.

A remembered analysis holds for one catalogue version, role and search path. It is found by the statement's exact text
first, then by its strict template (see `analysis.fingerprint`). The catalogue's version is asked for every
`POLL_S` seconds while statements come, inside every second reading, and at once after `invalidate`.

Temporary relations are invisible on the side connection: a statement naming one is refused as unknown, and once a
session has any, nothing it says is complete (they may shadow real ones).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import AsyncConnection

from analysis.agree import agree, distrusted, incomplete, taken_over
from analysis.catalogue import Catalogue
from analysis.fingerprint import Shape, exact_shape, shape_of
from analysis.lexer import LexError, Token, TokenKind, tokenize
from analysis.parse import read_client
from analysis.statement import Analysis, Operation, Statement
from analysis.utility import Utility, read_utility
from analysis.witness import Witness
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.context import SessionContext
from gateway.session.services import UpstreamRejected
from gateway.upstreams.postgres_catalogue import read_version
from gateway.upstreams.postgres_witness import NoWitness, Question, StaleCatalogue, ask, load_catalogue

logger = logging.getLogger(__name__)

POLL_S = 2.0
CACHE_ENTRIES = 4096
CACHE_TEXT = 16_384  # longer statements are not remembered by their exact text
MAX_PARAMETERS = 2000
CONNECT_TIMEOUT_S = 5
RETRIES = 3

Dsn = str | Mapping[str, object]
Key = tuple[str, tuple[int, ...], str, str]


@dataclass(slots=True)
class _Upstream:
    """One side connection, its catalogue, and what was analysed under it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    connection: AsyncConnection[Any] | None = None
    catalogue: Catalogue | None = None
    checked_at: float = 0.0
    known: OrderedDict[Key, Analysis] = field(default_factory=OrderedDict)

    def forget(self) -> None:
        self.known.clear()
        self.checked_at = 0.0

    def find(self, key: Key) -> Analysis | None:
        found = self.known.get(key)
        if found is not None:
            self.known.move_to_end(key)
        return found

    def keep(self, key: Key, analysis: Analysis) -> None:
        self.known[key] = analysis
        while len(self.known) > CACHE_ENTRIES:
            self.known.popitem(last=False)


class PostgresAnalyst:
    """`gateway.session.services.Analyst` for connections of kind `postgres`."""

    def __init__(self, dsn_for: Callable[[ConnectionSpec], Awaitable[Dsn]]) -> None:
        self._dsn_for = dsn_for
        self._upstreams: dict[tuple[str, str, int, str, str], _Upstream] = {}
        self._changing: set[str] = set()  # sessions whose last statement may have changed definitions

    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        """Return what `statement` does. Raises UpstreamRejected for what the database refuses to read."""
        upstream = self._upstream(session.connection)
        if session.session_id in self._changing:
            # This session's last statement may have changed the schema: look before believing anything remembered.
            self._changing.discard(session.session_id)
            upstream.checked_at = 0.0
        await self._keep_fresh(upstream, session.connection)
        exact = _key("=" + statement.text, statement, session)
        found = upstream.find(exact)
        if found is None:
            found = await self._analyse_shape(upstream, session, statement, exact)
        found = replace(found, statement=statement)
        if session.uncommitted_definitions or found.operations & {Operation.DDL, Operation.ADMIN}:
            self._changing.add(session.session_id)
        return _doubted(found, session)

    def invalidate(self, connection: str) -> None:
        """Ask for the schema anew before the next statement: a DDL statement went through."""
        for key, upstream in self._upstreams.items():
            if key[0] == connection:
                upstream.forget()

    async def close(self) -> None:
        for upstream in self._upstreams.values():
            if upstream.connection is not None:
                await upstream.connection.close()
        self._upstreams.clear()

    # --- by shape ---

    async def _analyse_shape(
        self, upstream: _Upstream, session: SessionContext, statement: Statement, exact: Key
    ) -> Analysis:
        try:
            tokens = tokenize(statement.text)
            shape = shape_of(tokens)
            utility = read_utility(statement.text)
            statement.text.encode()
        except (LexError, UnicodeEncodeError) as error:
            return incomplete(
                statement=statement, kind="UNKNOWN", problem=_why(error), shape=exact_shape(statement.text)
            )
        if utility.kind in ("EXECUTE", "FETCH", "MOVE"):
            return await self._by_name(session, statement, utility, shape)
        template = _key(shape.template, statement, session)
        shareable = utility.is_query
        found = upstream.find(template) if shareable else None
        if found is None:
            version = upstream.catalogue
            found = await self._both_readings(upstream, session, statement, utility, shape)
            # Only what was read under the catalogue still in force, and only what holds without exception.
            if found.complete and (version is None or version is upstream.catalogue) and shareable:
                upstream.keep(template, found)
        if found.complete and len(statement.text) <= CACHE_TEXT:
            upstream.keep(exact, found)
        return found

    async def _by_name(self, session: SessionContext, statement: Statement, utility: Utility, shape: Shape) -> Analysis:
        """A prepared statement is read again (it is replanned when the schema changes), a cursor stands as declared."""
        stored = (session.prepared if utility.kind == "EXECUTE" else session.cursors).get(utility.name)
        if stored is None:
            problem = "it names a prepared statement or cursor this session does not have"
            return incomplete(statement=statement, kind=utility.kind, problem=problem, shape=shape)
        if utility.kind == "EXECUTE":
            stored = await self.analyse(session, stored.statement)
        return taken_over(statement=statement, utility=utility, stored=stored, shape=shape)

    async def _both_readings(
        self, upstream: _Upstream, session: SessionContext, statement: Statement, utility: Utility, shape: Shape
    ) -> Analysis:
        if utility.probe is None:
            client = read_client("SELECT 1", [])
            return agree(statement=statement, utility=utility, client=client, witness=None, shape=shape)
        try:
            tokens = tokenize(utility.probe)
            witness = await self._witness(upstream, session, statement, utility, tokens)
        except (NoWitness, LexError) as error:
            witness, problem = None, str(error)
        else:
            problem = ""
        client = read_client(utility.probe, tokens)
        analysis = agree(statement=statement, utility=utility, client=client, witness=witness, shape=shape)
        return replace(analysis, problems=(*analysis.problems, problem)) if problem else analysis

    # --- the side connection ---

    async def _witness(
        self, upstream: _Upstream, session: SessionContext, statement: Statement, utility: Utility, tokens: list[Token]
    ) -> Witness:
        assert utility.probe is not None
        if utility.parameter_types and not _is_type_list(utility.parameter_types):
            raise NoWitness("parameter types of a form that is not known")
        count = max((int(token.text[1:]) for token in tokens if token.kind is TokenKind.PARAM), default=0)
        if count > MAX_PARAMETERS:
            raise NoWitness(f"more than {MAX_PARAMETERS} parameters")
        question = Question(
            text=utility.probe,
            role=session.role,
            search_path=session.search_path,
            parameter_count=max(count, len(statement.parameter_types) if utility.is_query else 0),
            parameter_types=statement.parameter_types if utility.is_query else (),
            offset=utility.probe_offset,
            declared_types=utility.parameter_types,
        )
        async with upstream.lock:
            try:
                return await self._ask(upstream, session.connection, question)
            except (UpstreamRejected, NoWitness):
                raise
            except psycopg.Error as error:
                # Fail closed: without the database's answer the analysis is incomplete.
                logger.warning("second reading failed: session=%s error=%s", session.session_id, type(error).__name__)
                await self._drop(upstream)
                raise NoWitness("the database could not be asked") from None
            except BaseException:
                # Cancelled half-way: the connection's answers no longer belong to our questions.
                if upstream.connection is not None:
                    upstream.connection.pgconn.finish()
                raise

    async def _ask(self, upstream: _Upstream, spec: ConnectionSpec, question: Question) -> Witness:
        for _ in range(RETRIES):
            connection = await self._connected(upstream, spec)
            if upstream.catalogue is None:
                await self._reload(upstream, connection)
            assert upstream.catalogue is not None
            try:
                return await ask(connection, question, upstream.catalogue)
            except StaleCatalogue:
                await self._reload(upstream, connection)
        raise NoWitness("the schema changes too quickly")

    async def _reload(self, upstream: _Upstream, connection: AsyncConnection[Any]) -> None:
        upstream.known.clear()
        upstream.catalogue = await load_catalogue(connection)
        upstream.checked_at = time.monotonic()

    async def _keep_fresh(self, upstream: _Upstream, spec: ConnectionSpec) -> None:
        """Forget everything when the schema changed, or when nobody can say whether it did."""
        if upstream.catalogue is None or time.monotonic() - upstream.checked_at < POLL_S:
            return
        async with upstream.lock:
            if time.monotonic() - upstream.checked_at < POLL_S:
                return
            try:
                connection = await self._connected(upstream, spec)
                if upstream.catalogue is None or await read_version(connection) != upstream.catalogue.version:
                    await self._reload(upstream, connection)
                upstream.checked_at = time.monotonic()
            except psycopg.Error as error:
                logger.warning("schema poll failed: connection=%s error=%s", spec.name, type(error).__name__)
                await self._drop(upstream)

    async def _connected(self, upstream: _Upstream, spec: ConnectionSpec) -> AsyncConnection[Any]:
        if upstream.connection is None or upstream.connection.closed:
            dsn = await self._dsn_for(spec)
            conninfo, extra = (dsn, {}) if isinstance(dsn, str) else ("", dict(dsn))
            keywords: dict[str, Any] = {
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "hoopweb analysis",
                "client_encoding": "utf8",
                **extra,
            }
            upstream.connection = await AsyncConnection.connect(
                conninfo,
                autocommit=True,
                prepare_threshold=None,
                **keywords,
            )
            if upstream.connection.info.parameter_status("standard_conforming_strings") != "on":
                # Our lexer and the session would disagree about where a string ends.
                await self._drop(upstream)
                raise NoWitness("the database reads backslashes in strings as escapes")
            # Our own catalogue queries must not see a user's objects under built-in names.
            await upstream.connection.execute("SELECT pg_catalog.set_config('search_path', '', false)")
        return upstream.connection

    async def _drop(self, upstream: _Upstream) -> None:
        connection, upstream.connection, upstream.catalogue = upstream.connection, None, None
        upstream.forget()
        if connection is not None and not connection.closed:
            await connection.close()

    def _upstream(self, spec: ConnectionSpec) -> _Upstream:
        place = (spec.name, spec.host, spec.port, spec.database, spec.username)
        return self._upstreams.setdefault(place, _Upstream())


def _is_type_list(text: str) -> bool:
    """Names, modifiers and array bounds only: the text goes into our own PREPARE."""
    depth = 0
    for token in tokenize(text):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0 or not (
            token.kind in (TokenKind.WORD, TokenKind.QUOTED, TokenKind.NUMBER) or token.text in tuple("(),.[]")
        ):
            return False
    return depth == 0


def _doubted(found: Analysis, session: SessionContext) -> Analysis:
    """What the side connection cannot see may change what names mean in this session: then nothing is complete."""
    if session.uncommitted_definitions:
        problem = "the open transaction changed definitions, which the second reading cannot see"
    elif session.temp_relations:
        problem = "the session may have temporary relations, which the second reading cannot see"
    else:
        return found
    if found.inner is not None:  # a cursor outlives the moment it was declared in
        found = replace(found, inner=distrusted(found.inner, problem))
    return found if found.operations == {Operation.SESSION} else distrusted(found, problem)


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, LexError) else "characters that no encoding holds"


def _key(shape: str, statement: Statement, session: SessionContext) -> Key:
    return (shape, statement.parameter_types, session.role, session.search_path)
