"""The express lane: a whole request that was plainly allowed before is served where its bytes arrive.

No task is woken and no frame is queued: read in one look, recalled, recorded, sent; its answer is taken in one look as
well. The lane is open only while the session is at rest: nothing queued, nothing expected, nothing doubtful. It decides
nothing by itself (`pipeline.recall` and what hangs on it do, as everywhere) and whatever is not exactly as usual goes
the ordinary way: before anything was sent the frames are simply queued, afterwards the exchange unfolds into the
expectations the ordinary way would have pushed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.domain.snapshot import StaleSnapshot
from gateway.listeners.postgres_deferred import Deferred
from gateway.listeners.postgres_extended import bind_expectation, confirm_portal, has_its_types, parse_expectation
from gateway.listeners.postgres_names import Portal, Prepared
from gateway.listeners.postgres_session import ClientSession
from gateway.listeners.postgres_simple import whole_statement
from gateway.listeners.postgres_text import means_one_thing
from gateway.protocols.postgres import server
from gateway.protocols.postgres.client import Bind
from gateway.protocols.postgres.datarow import count_rows, mask_rows
from gateway.protocols.postgres.express import (
    Answer,
    ExtendedRequest,
    answered_tag,
    blank_integers,
    describing,
    has_rows,
    read_answer,
    read_extended,
    read_query,
)
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.protocols.postgres.server import Field
from gateway.session.context import StatementRequest
from gateway.session.known import KnownStatement
from gateway.session.recurring import NO_ROWS, Occurrence, Recurring, View
from gateway.session.remembered import recall, recurring
from gateway.upstreams.postgres_execution import BoundShape, Execution, Shape
from gateway.upstreams.postgres_expectations import Complete, Description, Expectation, QueryResult, Ready, Result
from gateway.upstreams.postgres_relay import Relay

try:
    from gateway.listeners.quick.lane import QuickLane
except ImportError:  # nobody compiled it: `gateway.protocols.postgres.compile`
    QuickLane = None  # type: ignore[assignment,misc]

_QUERY = 0x51
_EXACTLY = b"\0"  # in front of a text that stands for no other; no text holds it
_STATES = {ord("I"): "I", ord("T"): "T"}
# Descriptions one remembered statement may have: one per set of result formats a client asks for.
MAX_VIEWS = 8
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

    def serve(self, data: bytes) -> bool:
        """Serve `data` if it is one whole remembered request; False: nothing was done with it."""
        session = self._session
        if not session.at_rest:
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
        found = None if decoded is None else self._session.statements.get(decoded)
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
        return Prepared("", recurring.text, types, None, fixed=True, recurring=recurring)

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

    def _keep_portal(self, data: bytes, statement: Prepared, known: KnownStatement, fields: tuple[Field, ...]) -> None:
        """The portal of a request that was answered outlives it."""
        asked = read_extended(data)
        assert asked is not None
        _keep_answered(self._session, _portal(self._session, asked, statement, known), fields)

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


class _Exchange:
    """What both protocols share: the answer's rows, masked and counted at once, or by an ordinary execution."""

    parsed = bound = True  # the answer begins with ParseComplete, BindComplete

    def __init__(self, session: ClientSession, occurrence: Occurrence) -> None:
        self._session = session
        self._occurrence = occurrence
        self.known = occurrence.recurring.known
        self._execution: Execution | None = None
        self._answer: Answer | None = None

    @property
    def execution(self) -> Execution:
        """The ordinary execution of the same statement, begun when somebody asks for it."""
        if self._execution is None:
            self._execution = self._session.start_known(self._occurrence.permit())
        return self._execution

    def recognises(self, data: bytes) -> bool:
        self._answer = read_answer(data, parsed=self.parsed, bound=self.bound)
        return self._answer is not None

    def _rows(self, data: bytes, answer: Answer) -> bytes | None:
        """Account for the rows; returns them for the client, None when they are as they came."""
        view = self._view(data, answer)
        plain = self._execution is None and self._occurrence.ends_plainly
        if view is not None and plain and self._rules_stand():
            return self._end_plainly(data, answer, view)
        return self._end_ordinarily(data, answer)

    def _view(self, data: bytes, answer: Answer) -> View | None:
        """How rows of its description are shown. None: nobody knows yet, or they have no columns, and are looked at."""
        if not has_rows(data, answer[0]):
            return NO_ROWS
        view = self.known.views.get(data[answer[0] : answer[1]])
        return view if view is not None and view.width else None

    def _rules_stand(self) -> bool:
        """Otherwise the execution asks again what they make of the result: it may have waited for a lock."""
        try:
            version = self._session.services.snapshots.current().version
        except StaleSnapshot:
            return False
        return version == self.known.assessment.snapshot.version

    def _end_plainly(self, data: bytes, answer: Answer, view: View) -> bytes | None:
        _, start, stop, _, _ = answer
        occurrence = self._occurrence
        counts, shown = [0] * view.width, None
        if view.masks:
            at, rows, shown = mask_rows(data, start, stop, width=view.width, masks=view.masks, counts=counts)
        else:
            at, rows = count_rows(data, start, stop)
        if at != stop:
            raise ProtocolViolation("rows that do not end where they should")
        cap = occurrence.recurring.row_cap
        if cap is not None and rows > cap:
            return self._end_ordinarily(data, answer)  # which says why it is withheld
        size = stop - start if shown is None else len(shown)
        occurrence.complete(view, rows=rows, size=size, tag=answered_tag(data, answer), counts=counts)
        self._session.sent_known()
        return shown

    def _end_ordinarily(self, data: bytes, answer: Answer) -> bytes | None:
        description, rows, tag, _, _ = answer
        execution = self.execution
        if has_rows(data, description):
            self._adopt(data[description:rows])
        shown = None
        if tag > rows:
            stop, masked = execution.take_rows(data, rows, tag)
            if stop != tag:
                raise ProtocolViolation("rows that do not end where they should")
            shown = masked if execution.masks_any else None
        execution.finish("completed", command_tag=answered_tag(data, answer))
        return shown

    def _fields(self, data: bytes, answer: Answer) -> tuple[Field, ...]:
        """The columns of the answer that was just accounted for."""
        if self._execution is not None:
            return self._execution.fields
        view = self._view(data, answer)
        assert view is not None
        return view.fields

    def _adopt(self, description: bytes) -> None:
        """Find the plan made for this very description, or make it."""
        views = self.known.views
        view = views.get(description)
        if view is not None:
            self.execution.adopt(view.fields, view.plan)
            return
        self.execution.prepare(server.decode_row_description(description[5:]))
        if len(views) >= MAX_VIEWS:
            views.clear()
        if self.execution.plan is not None:
            views[description] = View(self.execution.fields, self.execution.plan)


class SimpleExchange(_Exchange):
    """One Query of one statement."""

    parsed = bound = False

    def take(self, relay: Relay, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        shown = self._rows(data, answer)
        relay.emit(data if shown is None else data[: answer[1]] + shown + data[answer[2] :])
        relay.ready(_STATES[answer[4]])

    def unfold(self) -> Sequence[Expectation]:
        return [QueryResult(self.execution), Ready()]


class TemplatedExchange(_Exchange):
    """One Query, sent as [Parse] Bind Describe Execute Sync of a template, and answered as a Query is."""

    def __init__(self, session: ClientSession, occurrence: Occurrence, *, reused: bool) -> None:
        super().__init__(session, occurrence)
        self.parsed = not reused

    def take(self, relay: Relay, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        shown = self._rows(data, answer)
        description = answer[0] if has_rows(data, answer[0]) else answer[1]
        relay.emit(data[description:] if shown is None else data[description : answer[1]] + shown + data[answer[2] :])
        relay.ready(_STATES[answer[4]])

    def unfold(self) -> Sequence[Expectation]:
        execution, text = self.execution, self._occurrence.text or self._occurrence.recurring.text
        expected: list[Expectation] = [
            Complete(kind, hidden=True, execution=execution, text=text)
            for kind in (server.PARSE_COMPLETE, server.BIND_COMPLETE)[not self.parsed :]
        ]
        expected += [
            Description(Shape(), rows_only=True, execution=execution),
            Result(execution, last_of_query=True),
        ]
        return [*expected, Ready()]


class ExtendedExchange(_Exchange):
    """[Parse] Bind [Describe] Execute Sync. The names it makes are confirmed with its answer.

    Where its Describe was ours, what it says of the columns is not the client's.

    `reused`: its Parse was not sent, because the server has just that (`quick/sparing.pyx`); the client is told as if.
    """

    def __init__(
        self,
        session: ClientSession,
        occurrence: Occurrence,
        asked: ExtendedRequest,
        statement: Prepared,
        *,
        reused: bool = False,
    ) -> None:
        super().__init__(session, occurrence)
        self.parsed = asked[1] is not None and not reused
        self._reused = reused
        self._asked = asked
        self._described = asked[6]
        self._statement = statement
        if self.parsed:
            statement.analysis = self.known.analysis_of(statement.text, statement.types)

    def take(self, relay: Relay, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        shown = self._rows(data, answer)
        if self.parsed:
            self._session.statements.commit("", self._statement)
        status = _STATES[answer[4]]
        if status != "I":  # portals end with their transaction
            _keep_answered(self._session, self._portal(), self._fields(data, answer))
        if self._reused:
            relay.emit(server.PARSE_COMPLETE_FRAME)
        description, rows, tag, _, _ = answer
        if shown is not None or not self._described:
            shown = data[rows:tag] if shown is None else shown
            data = data[: rows if self._described else description] + shown + data[tag:]
        relay.emit(data)
        relay.ready(status)

    def unfold(self) -> Sequence[Expectation]:
        portal = self._portal()
        self.execution.shape = portal.shape
        if self._reused and not self._session.relay.broken:  # its error was the last the client hears
            self._session.relay.emit(server.PARSE_COMPLETE_FRAME)
        expected: list[Expectation] = [parse_expectation(self._session, self._statement)] if self.parsed else []
        expected += [
            bind_expectation(self._session, portal),
            Description(portal.shape.own, hidden=not self._described),
        ]
        return [*expected, Result(self.execution), Ready()]

    def _portal(self) -> Portal:
        return _portal(self._session, self._asked, self._statement, self.known)


def _portal(session: ClientSession, asked: ExtendedRequest, statement: Prepared, known: KnownStatement) -> Portal:
    """The unnamed portal a request makes of its statement."""
    _, _, _, formats, parameters, result_formats, _ = asked
    bind = Bind("", statement.name, formats, parameters, result_formats)
    portal = Portal("", statement, bind, BoundShape(statement.shape, result_formats))
    session.plans.bound(portal, known.assessment.analysis)
    return portal


def _keep_answered(session: ClientSession, portal: Portal, fields: tuple[Field, ...]) -> None:
    """The portal was answered with these columns, and is there until its transaction ends."""
    portal.shape.own.requested, portal.shape.own.fields = True, fields
    confirm_portal(session, portal)


def _keep(kept: dict[Any, Recurring], key: object, recurring: Recurring) -> None:
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[key] = recurring


def _decoded(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
