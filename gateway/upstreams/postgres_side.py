"""Side connections to one PostgreSQL upstream, and what is known of its schema.

A few connections, so that statements nobody has seen before do not wait for each other. While the upstream is in use, a
task asks for the catalogue's version every `POLL_S` seconds; what was analysed under another version is forgotten.
Nothing is believed that was last checked more than `TRUST_S` seconds ago: then the statement itself waits for a check.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import psycopg
from psycopg import AsyncConnection

from analysis.catalogue import Catalogue
from analysis.classified import Word, parse_classified
from analysis.making import quickly_made
from analysis.statement import Analysis
from analysis.witness import Witness
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.services import UpstreamRejected
from gateway.upstreams.postgres_catalogue import read_version
from gateway.upstreams.postgres_witness import NoWitness, Question, ask, ask_plan, load_catalogue, prepare
from gateway.upstreams.state import TRUST_S, SideState

logger = logging.getLogger(__name__)

POLL_S = 0.8
CLASSIFIED = "functions"  # the connection's setting that classifies user functions
IDLE_S = 30.0  # without a statement for so long the polling stops
ESTIMATE_S = 60.0  # a table may have grown since
CACHE_ENTRIES = 4096
# Long texts are kept beside the others, and few of them: whoever sends many makes nobody's short ones be forgotten.
LONG_TEXT, LONG_ENTRIES, MAX_KEPT_TEXT = 16_384, 32, 1_048_576  # characters, entries, characters
# Statements are asked about on so many connections, those of one principal on half of them at most: what makes the
# database think long must not make everybody wait. The schema is looked at on one more.
CONNECTIONS, SHARE = 4, 2
CONNECT_TIMEOUT_S = 5

# Told by everybody's shared state, not by a session's: it may be asked beside one that is midway in something.
_PREPARED = (
    "select transaction::pg_catalog.text from pg_catalog.pg_prepared_xacts where gid operator(pg_catalog.=) %s "
    "and database operator(pg_catalog.=) pg_catalog.current_database()"
)

Dsn = str | Mapping[str, object]
DsnFor = Callable[[ConnectionSpec], Awaitable[Dsn]]
Key = tuple[str, tuple[int, ...], str, str]
V = TypeVar("V")


class Recent(Generic[V]):
    """A bounded memory that forgets first what was not asked for longest."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, V] = OrderedDict()
        self._long: OrderedDict[Hashable, V] = OrderedDict()

    def find(self, key: Hashable) -> V | None:
        kept = self._kept
        found = kept.get(key)
        if found is None and self._long:
            kept = self._long
            found = kept.get(key)
        if found is not None:
            kept.move_to_end(key)
        return found

    def keep(self, key: Hashable, value: V, *, length: int = 0) -> None:
        """`length`: of the text that `value` holds on to, in characters. The longest are not kept at all."""
        if length > MAX_KEPT_TEXT:
            return
        kept, most = (self._long, LONG_ENTRIES) if length > LONG_TEXT else (self._kept, CACHE_ENTRIES)
        kept[key] = value
        while len(kept) > most:
            kept.popitem(last=False)

    def clear(self) -> None:
        self._kept.clear()
        self._long.clear()


@quickly_made
@dataclass(frozen=True, slots=True)
class Estimate:
    """A statement's analysis with the rows the planner expects of it; about one exact text."""

    analysis: Analysis
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.asked_at < ESTIMATE_S


def classified_functions(spec: ConnectionSpec) -> tuple[Word, ...]:
    """What a person says the functions of this connection's users read. Nothing, where it cannot be understood."""
    try:
        return parse_classified(spec.settings.get(CLASSIFIED, ""))
    except ValueError:  # fail closed: `apply` refuses such a text, so somebody went another way
        logger.error("classified functions not understood: connection=%s", spec.name)
        return ()


class PostgresSide(SideState):
    """One upstream as the analyst asks it. `analyses`, `alike` and `estimates` hold for `catalogue` alone."""

    def __init__(self, spec: ConnectionSpec, dsn_for: DsnFor) -> None:
        self._spec = spec
        self._dsn_for = dsn_for
        self._classified = classified_functions(spec)
        self.catalogue = None
        self.generation = 0
        self.analyses: Recent[Analysis] = Recent()
        self.alike: Recent[Analysis] = Recent()  # by what the database read (`analysis.alike`), of no text
        self.estimates: Recent[Estimate] = Recent()
        self._idle: list[AsyncConnection[Any]] = []
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # of who asks now
        self._checking = asyncio.Lock()
        self._checked_at = 0.0
        self._used_at = 0.0
        self._poller = None

    async def keep_fresh(self, *, at_once: bool) -> None:
        """Return when what is known was checked within TRUST_S, or with `at_once` after this call."""
        self._used_at = now = time.monotonic()
        if self.catalogue is None:
            return
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        since = now if at_once else now - TRUST_S
        if self._checked_at < since:
            await self.check(since)

    async def check(self, since: float) -> None:
        """Forget everything when the schema changed, or when nobody can say whether it did."""
        async with self._checking:
            if self._checked_at >= since:
                return
            began = time.monotonic()
            try:
                await self._on_connection(self._look)
                self._checked_at = began
            except (psycopg.Error, NoWitness) as error:
                logger.warning("schema check failed: connection=%s error=%s", self._spec.name, type(error).__name__)
                self.forget()

    async def _look(self, connection: AsyncConnection[Any]) -> None:
        if self.catalogue is None or await read_version(connection) != self.catalogue.version:
            self._adopt(await load_catalogue(connection, self._classified))

    async def read(self, question: Question, *, meanwhile: Callable[[], None] | None = None) -> Witness:
        """Return the database's reading of `question`. Raises UpstreamRejected, NoWitness or psycopg.Error.

        `meanwhile` is called once the question is sent, and again where it has to be sent again.
        """
        if self.catalogue is None:
            await self.check(time.monotonic())
        catalogue = self.catalogue
        if catalogue is None:
            raise NoWitness("the database could not be asked")
        seen = catalogue if self._means_the_usual(question, catalogue) else catalogue.elsewhere
        return await self._asked(
            question.asker, lambda connection: ask(connection, question, seen, meanwhile=meanwhile)
        )

    async def plan(self, question: Question) -> object:
        """Return the planner's plan (see `ask_plan`), None where it gives none: then nothing is known to be small."""
        try:
            return await self._asked(question.asker, lambda connection: ask_plan(connection, question))
        except (psycopg.Error, NoWitness, UpstreamRejected) as error:
            logger.warning("estimate failed: connection=%s error=%s", self._spec.name, type(error).__name__)
            return None

    async def prepared(self, identifier: str, *, asker: str) -> int | None:
        """The number of the transaction that is prepared under `identifier`; None: none, or nobody can say."""

        async def question(connection: AsyncConnection[Any]) -> tuple[str] | None:
            return await (await connection.execute(_PREPARED, [identifier])).fetchone()

        try:
            found = await self._asked(asker, question)
        except (psycopg.Error, NoWitness) as error:
            logger.warning("transactions not told: connection=%s error=%s", self._spec.name, type(error).__name__)
            return None
        return int(found[0]) if found is not None else None

    def _means_the_usual(self, question: Question, catalogue: Catalogue) -> bool:
        """Whether names mean what they mean to a session of the upstream's own user that changed nothing."""
        usual_role = question.role in ("", self._spec.username)
        return usual_role and question.search_path in ("", catalogue.usual_path)

    def forget(self) -> None:
        self.catalogue = None
        self.generation += 1
        self._checked_at = 0.0
        self.analyses.clear()
        self.alike.clear()
        self.estimates.clear()

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
        await self._close_idle()
        self.forget()

    def _adopt(self, catalogue: Catalogue) -> None:
        self.forget()
        self.catalogue = catalogue

    async def _poll(self) -> None:
        while time.monotonic() - self._used_at < IDLE_S:
            await asyncio.sleep(POLL_S)
            await self.check(time.monotonic())

    # --- connections ---

    async def _asked(self, asker: str, question: Callable[[AsyncConnection[Any]], Awaitable[V]]) -> V:
        share = self._shares.get(asker)
        if share is None:
            share = self._shares[asker] = asyncio.Semaphore(SHARE)
        async with share, self._places:
            try:
                return await self._on_connection(question)
            except psycopg.OperationalError:
                # A server that was restarted leaves connections that only look alive: once more on a new one.
                return await self._on_connection(question)

    async def _on_connection(self, question: Callable[[AsyncConnection[Any]], Awaitable[V]]) -> V:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            answer = await question(connection)
        except (UpstreamRejected, NoWitness):
            self._idle.append(connection)
            raise
        except psycopg.Error:
            await connection.close()
            await self._close_idle()
            raise
        except BaseException:
            # Cancelled half-way: the connection's answers no longer belong to our questions.
            connection.pgconn.finish()
            raise
        self._idle.append(connection)
        return answer

    async def _connect(self) -> AsyncConnection[Any]:
        dsn = await self._dsn_for(self._spec)
        conninfo, extra = (dsn, {}) if isinstance(dsn, str) else ("", dict(dsn))
        keywords: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "hoopweb analysis",
            "client_encoding": "utf8",
            **extra,
        }
        connection = await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None, **keywords)
        if connection.info.parameter_status("standard_conforming_strings") != "on":
            # Our lexer and the session would disagree about where a string ends.
            await connection.close()
            raise NoWitness("the database reads backslashes in strings as escapes")
        # Our own catalogue queries must not see a user's objects under built-in names.
        await connection.execute("SELECT pg_catalog.set_config('search_path', '', false)")
        await prepare(connection)
        return connection

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()
