"""The express lane: a whole request that was plainly allowed before is served where its bytes arrive.

No task is woken and no frame is queued: read in one look, recalled, recorded, sent; its answer is taken in one look as
well. The lane is open only while the session is at rest: nothing queued, nothing expected, nothing doubtful. It decides
nothing by itself (`pipeline.recall` and what hangs on it do, as everywhere) and whatever is not exactly as usual goes
the ordinary way: before anything was sent the frames are simply queued, afterwards the exchange unfolds into the
expectations the ordinary way would have pushed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gateway.listeners.postgres_deferred import Deferred, DeferredRun
from gateway.listeners.postgres_exchanges import (
    ExtendedExchange,
    SimpleExchange,
    TemplatedExchange,
    keep_answered,
    portal_of,
)
from gateway.listeners.postgres_extended import has_its_types
from gateway.listeners.postgres_names import Prepared
from gateway.listeners.postgres_plans import Names as Meant
from gateway.listeners.postgres_session import ClientSession
from gateway.listeners.postgres_simple import whole_statement
from gateway.listeners.postgres_text import means_one_thing
from gateway.protocols.postgres.express import (
    ExtendedRequest,
    blank_integers,
    describing,
    read_extended,
    read_query,
)
from gateway.protocols.postgres.server import Field
from gateway.session.context import StatementRequest
from gateway.session.known import KnownStatement
from gateway.session.recurring import Occurrence, Recurring
from gateway.session.remembered import recall, recurring

try:
    from gateway.listeners.quick.lane import QuickLane
    from gateway.listeners.quick.steps import Steps
except ImportError:  # nobody compiled it: `gateway.protocols.postgres.compile`
    QuickLane = None  # type: ignore[assignment,misc]

_QUERY = 0x51
_EXACTLY = b"\0"  # in front of a text that stands for no other; no text holds it
# Texts looked up by their bytes; a session that uses more begins anew.
MAX_KEPT = 256


class ExpressLane:
    """One session's."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._queries: dict[bytes, Recurring] = {}  # by text, or by shape where that is enough
        self._texts: dict[tuple[bytes, tuple[int, ...]], Recurring] = {}  # of statements made with their request
        self._quick = None
        if QuickLane is not None:
            self._quick = QuickLane(session, self._queries, self._texts, self._exchange, self._keep_portal, self.serve)
            session.upstream.express = self._quick.answer

    @property
    def door(self) -> Callable[[bytes], bool]:
        """What is called with what arrived, before it is split into frames: the compiled way first, if there is one."""
        return self.serve if self._quick is None else self._quick.serve

    @property
    def steps(self) -> Steps | None:
        """What serves executions of a pipeline; None: they go the ordinary way."""
        return None if self._quick is None else Steps(self._quick, self._recalls, partial(DeferredRun, self._session))

    def serve(self, data: bytes) -> bool:
        """Serve `data` if it is one whole remembered request; False: nothing was done with it."""
        session = self._session
        if not session.at_rest or session.lacks_room:
            return False
        return self._simple(data) if data[0] == _QUERY else self._extended(data)

    # --- simple ---

    def _simple(self, data: bytes) -> bool:
        raw = read_query(data)
        if raw is None:
            return False
        shape = blank_integers(raw)
        recurring = self._queries.get(shape) or self._queries.get(_EXACTLY + raw)
        if recurring is None or not recurring.holds():
            recurring = self._query(raw, shape)
            if recurring is None:
                return False
        text = _decoded(raw.removesuffix(b";")) if recurring.shape else recurring.text
        occurrence = None if text is None else recurring.occurs(text=text)
        return occurrence is not None and self._run(occurrence, data, lambda: self._send_simple(occurrence, data))

    def _query(self, raw: bytes, shape: bytes) -> Recurring | None:
        text = _decoded(raw)
        part = whole_statement(text) if text is not None else None
        recurring = None if part is None else self._recall(part, (), by_shape=True)
        if recurring is not None:
            _keep(self._queries, shape if recurring.shape else _EXACTLY + raw, recurring)
        return recurring

    def _send_simple(self, occurrence: Occurrence, data: bytes) -> None:
        """As it came: what has no semicolon but at its end is one statement to any lexer (`whole_statement`)."""
        session = self._session
        session.statements.forget("")  # a simple Query destroys the unnamed statement and portal
        session.portals.forget("")
        self._send(SimpleExchange(session, occurrence), data)

    # --- extended ---

    def _extended(self, data: bytes) -> bool:
        asked = read_extended(data)
        if asked is None:
            return False
        statement = self._prepared(asked[0]) if asked[1] is None else self._made(asked[1], asked[2])
        if statement is None or statement.recurring is None:
            return False
        occurrence = statement.recurring.occurs(parameters=asked[4], formats=asked[3])
        sent = data if asked[6] else describing(data)
        return occurrence is not None and self._run(
            occurrence, data, lambda: self._send(ExtendedExchange(self._session, occurrence, asked, statement), sent)
        )

    def _prepared(self, name: bytes) -> Prepared | None:
        """The statement the server has confirmed under the name, ready to run."""
        decoded = _decoded(name)
        found = None if decoded is None else self._session.statements.certain(decoded)
        if found is None or not found.fixed or not self._session.plans.fresh:
            return None
        if found.recurring is None or not found.recurring.holds():
            found.recurring = self._recall(found.text, found.types)
            if found.recurring is not None and not has_its_types(found, found.recurring.known.assessment.analysis):
                found.recurring = None
        return found

    def _made(self, text: bytes, types: tuple[int, ...]) -> Prepared | None:
        """The statement made here."""
        if self._session.statements.full:
            return None
        recurring = self._texts.get((text, types))
        if recurring is None or not recurring.holds():
            decoded = _decoded(text)
            if decoded is None or not means_one_thing(decoded):
                return None
            recurring = self._recall(decoded, types)
            if recurring is None:
                return None
            _keep(self._texts, (text, types), recurring)
        settings = self._session.context.settings
        return Prepared("", recurring.text, types, None, fixed=True, recurring=recurring, settings=settings)

    # --- both ---

    def _exchange(
        self,
        occurrence: Occurrence,
        asked: ExtendedRequest | None,
        statement: Prepared | None,
        reused: bool,
        templated: bool,
    ) -> SimpleExchange | TemplatedExchange | ExtendedExchange:
        """That of an execution which began on the compiled way and is to end here."""
        if asked is None or statement is None:
            if templated:
                return TemplatedExchange(self._session, occurrence, reused=reused)
            return SimpleExchange(self._session, occurrence)
        return ExtendedExchange(self._session, occurrence, asked, statement, reused=reused)

    def _keep_portal(
        self,
        data: bytes,
        statement: Prepared,
        known: KnownStatement,
        fields: tuple[Field, ...],
        names: Meant | None,
    ) -> None:
        """The portal of a request that was answered outlives it."""
        asked = read_extended(data)
        assert asked is not None
        keep_answered(self._session, portal_of(self._session, asked, statement, known, names), fields)

    def _recalls(self, data: bytes) -> bool:
        """Whether the statement that the request names is ready to run, looked up anew where it was not."""
        asked = read_extended(data)
        statement = None if asked is None or asked[1] is not None else self._prepared(asked[0])
        return statement is not None and statement.recurring is not None

    def _recall(self, text: str, types: tuple[int, ...], *, by_shape: bool = False) -> Recurring | None:
        session = self._session
        known = recall(session.services, session.context, text, types)
        if known is None or not session.meaning.is_quiet(known):
            return None
        request = StatementRequest(text=text, parameter_types=types)
        return recurring(session.services, session.context, request, known, by_shape=by_shape)

    def _run(self, occurrence: Occurrence, data: bytes, send: Callable[[], None]) -> bool:
        """Send it once its entry is durable; where that takes a while, the session is not at rest until then."""
        known, session = occurrence.recurring.known, self._session
        if not known.waits:
            if not occurrence.record():
                return False
            session.sent_known()
            send()
            return True
        session.deferred = deferred = Deferred(session, known, data, send)
        if occurrence.record_soon(deferred.told):
            return True
        session.deferred = None
        return False

    def _send(self, exchange: SimpleExchange | ExtendedExchange, data: bytes) -> None:
        session = self._session
        if exchange.known.control:
            session.sends_control(exchange.known)
        session.relay.expect(exchange)
        session.upstream.write(data)


def _keep(kept: dict[Any, Recurring], key: object, recurring: Recurring) -> None:
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[key] = recurring


def _decoded(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
