"""The express lane: a whole request that was plainly allowed before is served where its bytes arrive.

No task is woken and no frame is queued: read in one look, recalled, recorded, sent; its answer is taken in one look as
well. The lane is open only while the session is at rest: nothing queued, nothing expected, nothing doubtful. It decides
nothing by itself (`pipeline.recall` and `authorise_again` do, as everywhere) and whatever is not exactly as usual goes
the ordinary way: before anything was sent the frames are simply queued, afterwards the exchange unfolds into the
expectations the ordinary way would have pushed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.listeners.postgres_deferred import Deferred
from gateway.listeners.postgres_extended import bind_expectation, confirm_portal, parse_expectation
from gateway.listeners.postgres_names import Portal, Prepared
from gateway.listeners.postgres_session import ClientSession
from gateway.listeners.postgres_simple import SIMPLE_TAIL, simple_expectations, whole_statement
from gateway.listeners.postgres_text import SELF_CONTAINED, first_word
from gateway.protocols.postgres import server
from gateway.protocols.postgres.client import Bind, Parse, encode_parse
from gateway.protocols.postgres.express import Answer, ExtendedRequest, read_answer, read_extended, read_query
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.session.context import StatementRequest
from gateway.session.known import KnownStatement
from gateway.session.permit import ExecutionPermit
from gateway.session.pipeline import authorise_again, authorise_soon, recall
from gateway.upstreams.postgres_execution import BoundShape, Execution
from gateway.upstreams.postgres_expectations import Description, Expectation, Ready, Result
from gateway.upstreams.postgres_relay import Relay

_QUERY = 0x51
_BEGIN = len(server.PARSE_COMPLETE_FRAME + server.BIND_COMPLETE_FRAME)  # what a simple Query's client does not see
_STATES = {ord("I"): "I", ord("T"): "T"}
# Descriptions one remembered statement may have: one per set of result formats a client asks for.
MAX_VIEWS = 8


class ExpressLane:
    """One session's. `serve` is called with what arrived, before it is split into frames."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    def serve(self, data: bytes) -> bool:
        """Serve `data` if it is one whole remembered request; False: nothing was done with it."""
        session = self._session
        if not session.at_rest:
            return False
        return self._simple(data) if data[0] == _QUERY else self._extended(data)

    def _simple(self, data: bytes) -> bool:
        raw = read_query(data)
        text = _decoded(raw)
        part = whole_statement(text) if text is not None else None
        if text is None or part is None:
            return False
        request = StatementRequest(text=part)
        known = self._known(request)
        if known is None:
            return False
        if known.waits:
            return self._defer(request, known, data, lambda permit: self._send_simple(known, permit, text))
        permit = authorise_again(self._session.services, self._session.context, request, known)
        if permit is None:
            return False
        self._send_simple(known, permit, text)
        return True

    def _send_simple(self, known: KnownStatement, permit: ExecutionPermit, text: str) -> None:
        session = self._session
        session.statements.forget("")  # a simple Query destroys the unnamed statement and portal
        session.portals.forget("")
        exchange = SimpleExchange(session, known, session.start_known(permit))
        self._send(exchange, encode_parse(Parse("", text, ())) + SIMPLE_TAIL)

    def _extended(self, data: bytes) -> bool:
        asked = read_extended(data)
        if asked is None:
            return False
        statement = self._statement(asked)
        if statement is None:
            return False
        request = StatementRequest(
            text=statement.text,
            parameters=asked[4],
            parameter_types=statement.types,
            parameter_formats=asked[3],
        )
        known = self._known(request)
        if known is None:
            return False

        def send(permit: ExecutionPermit) -> None:
            execution = self._session.start_known(permit)
            self._send(ExtendedExchange(self._session, known, execution, asked, statement), data)

        if known.waits:
            return self._defer(request, known, data, send)
        permit = authorise_again(self._session.services, self._session.context, request, known)
        if permit is None:
            return False
        send(permit)
        return True

    def _statement(self, asked: ExtendedRequest) -> Prepared | None:
        """What will be run: the statement made here, or one the server has confirmed under the name."""
        text = asked[1]
        if text is None:
            name = _decoded(asked[0])
            found = None if name is None else self._session.statements.get(name)
            return found if found is not None and found.fixed else None
        if self._session.statements.full:
            return None
        decoded = _decoded(text)
        if decoded is None or first_word(decoded) not in SELF_CONTAINED:
            return None
        return Prepared("", decoded, asked[2], None, fixed=True)

    def _known(self, request: StatementRequest) -> KnownStatement | None:
        session = self._session
        known = recall(session.services, session.context, request.text, request.parameter_types)
        return known if known is not None and session.meaning.is_quiet(known) else None

    def _defer(
        self, request: StatementRequest, known: KnownStatement, data: bytes, send: Callable[[ExecutionPermit], None]
    ) -> bool:
        """Serve it when its entry is durable: until then the session is not at rest."""
        session = self._session
        session.deferred = deferred = Deferred(session, known, data, send)
        if authorise_soon(session.services, session.context, request, known, deferred.told):
            return True
        session.deferred = None
        return False

    def _send(self, exchange: SimpleExchange | ExtendedExchange, data: bytes) -> None:
        session = self._session
        session.relay.expect(exchange)
        session.upstream.write(data)


class _Exchange:
    """What both protocols share: the answer's rows, masked, counted and recorded by the execution like any others."""

    parsed = True  # the answer begins with ParseComplete

    def __init__(self, session: ClientSession, known: KnownStatement, execution: Execution) -> None:
        self.execution = execution
        self._session = session
        self._known = known
        self._answer: Answer | None = None

    def recognises(self, data: bytes) -> bool:
        self._answer = read_answer(data, parsed=self.parsed)
        return self._answer is not None

    def _rows(self, data: bytes, answer: Answer) -> bytes | None:
        """Let the execution have the rows; returns them for the client, None when they are as they came."""
        description, rows, tag, end, _ = answer
        execution = self.execution
        self._adopt(data[description:rows])
        shown = None
        if tag > rows:
            stop, masked = execution.take_rows(data, rows, tag)
            if stop != tag:
                raise ProtocolViolation("rows that do not end where they should")
            shown = masked if execution.masks_any else None
        execution.finish("completed", command_tag=data[tag + 5 : end - 1].decode("utf-8", "replace"))
        return shown

    def _adopt(self, description: bytes) -> None:
        """Find the plan made for this very description, or make it."""
        views = self._known.views
        view = views.get(description)
        if view is None:
            self.execution.prepare(server.decode_row_description(description[5:]))
            if len(views) >= MAX_VIEWS:
                views.clear()
            if self.execution.plan is not None:
                views[description] = (self.execution.fields, self.execution.plan)
            return
        fields, plan = view
        self.execution.adopt(fields, plan)


class SimpleExchange(_Exchange):
    """One Query of one statement."""

    def take(self, relay: Relay, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        shown = self._rows(data, answer)
        relay.emit(data[_BEGIN:] if shown is None else data[_BEGIN : answer[1]] + shown + data[answer[2] :])
        relay.ready(_STATES[answer[4]])

    def unfold(self) -> Sequence[Expectation]:
        return [*simple_expectations(self.execution), Ready()]


class ExtendedExchange(_Exchange):
    """[Parse] Bind Describe Execute Sync. The names it makes are confirmed with its answer."""

    def __init__(
        self,
        session: ClientSession,
        known: KnownStatement,
        execution: Execution,
        asked: ExtendedRequest,
        statement: Prepared,
    ) -> None:
        super().__init__(session, known, execution)
        self.parsed = asked[1] is not None
        self._asked = asked
        self._statement = statement
        if self.parsed:
            statement.analysis = known.analysis_of(statement.text, statement.types)

    def take(self, relay: Relay, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        shown = self._rows(data, answer)
        if self.parsed:
            self._session.statements.commit("", self._statement)
        status = _STATES[answer[4]]
        if status != "I":  # portals end with their transaction
            portal = self._portal()
            portal.shape.own.requested, portal.shape.own.fields = True, self.execution.fields
            confirm_portal(self._session, portal)
        relay.emit(data if shown is None else data[: answer[1]] + shown + data[answer[2] :])
        relay.ready(status)

    def unfold(self) -> Sequence[Expectation]:
        portal = self._portal()
        self.execution.shape = portal.shape
        expected: list[Expectation] = [parse_expectation(self._session, self._statement)] if self.parsed else []
        expected += [bind_expectation(self._session, portal), Description(portal.shape.own)]
        return [*expected, Result(self.execution), Ready()]

    def _portal(self) -> Portal:
        _, _, _, formats, parameters, result_formats = self._asked
        bind = Bind("", self._statement.name, formats, parameters, result_formats)
        return Portal("", self._statement, bind, BoundShape(self._statement.shape, result_formats))


def _decoded(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
