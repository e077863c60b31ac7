"""What a request of the express lane is answered with: its whole usual answer in one look, or ordinary expectations.

An exchange stands between the lane, which sent the request (`postgres_express`), and the relay, which hands it what
came back. Rows are masked and counted at once where everything is as usual, else by an ordinary execution.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.snapshot import StaleSnapshot
from gateway.listeners.postgres_extended import bind_expectation, confirm_portal, parse_expectation
from gateway.listeners.postgres_names import Portal, Prepared
from gateway.listeners.postgres_plans import Names as Meant
from gateway.listeners.postgres_session import ClientSession
from gateway.protocols.postgres import server
from gateway.protocols.postgres.client import Bind
from gateway.protocols.postgres.datarow import count_rows, mask_rows
from gateway.protocols.postgres.express import Answer, ExtendedRequest, answered_tag, has_rows, read_answer
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.protocols.postgres.server import Field
from gateway.session.known import KnownStatement
from gateway.session.recurring import NO_ROWS, Occurrence, View
from gateway.upstreams.postgres_execution import KEPT_BYTES, RECORDING_FORMAT, BoundShape, Execution, Shape
from gateway.upstreams.postgres_expectations import Complete, Description, Expectation, QueryResult, Ready, Result
from gateway.upstreams.postgres_relay import Relay

_STATES = {ord("I"): "I", ord("T"): "T"}
# Descriptions one remembered statement may have: one per set of result formats a client asks for.
MAX_VIEWS = 8


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

    def accounted(self, data: bytes, answer: Answer) -> bytes | None:
        """Account for the rows; returns them for the client, None when they are as they came."""
        view = self._view(data, answer)
        plain = self._execution is None and self._occurrence.ends_plainly and self._can_keep(answer)
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

    def _can_keep(self, answer: Answer) -> bool:
        """Whether its result can be recorded as a whole, or needs not be."""
        recordings = self._session.recordings
        if recordings is None or not self._occurrence.recurring.keeps:
            return True
        return answer[2] - answer[1] <= KEPT_BYTES and recordings.has_room

    def _kept(self, view: View, rows: bytes) -> str:
        """Record the result as it is shown; returns its digest. What has no columns leaves none."""
        recordings, session_id = self._session.recordings, self._session.context.session_id
        if recordings is None or not self._occurrence.recurring.keeps or not view.width:
            return ""
        return recordings.keep(session_id, self._occurrence.statement_id, RECORDING_FORMAT, view.head + rows)

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
        recording = self._kept(view, data[start:stop] if shown is None else shown)
        occurrence.complete(
            view, rows=rows, size=size, tag=answered_tag(data, answer), counts=counts, recording=recording
        )
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

    def fields(self, data: bytes, answer: Answer) -> tuple[Field, ...]:
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
            fields = self.execution.fields
            views[description] = View(fields, self.execution.plan, server.encode_row_description(fields))


class SimpleExchange(_Exchange):
    """One Query of one statement."""

    parsed = bound = False

    def take(self, relay: Relay, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        shown = self.accounted(data, answer)
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
        shown = self.accounted(data, answer)
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
        self.names: Meant | None = None  # what names meant when it was sent; None: what they mean now
        self._described = asked[6]
        self._statement = statement
        if self.parsed:
            statement.analysis = self.known.analysis_of(statement.text, statement.types)

    def take(self, relay: Relay, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        shown = self.accounted(data, answer)
        if self.parsed:
            self._session.statements.commit("", self._statement)
        status = _STATES[answer[4]]
        if status != "I":  # portals end with their transaction
            keep_answered(self._session, self._portal(), self.fields(data, answer))
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
        return portal_of(self._session, self._asked, self._statement, self.known, self.names)


def portal_of(
    session: ClientSession,
    asked: ExtendedRequest,
    statement: Prepared,
    known: KnownStatement,
    names: Meant | None,
) -> Portal:
    """The unnamed portal a request makes of its statement; `names` are what they meant then, where that is not now."""
    _, _, _, formats, parameters, result_formats, _ = asked
    bind = Bind("", statement.name, formats, parameters, result_formats)
    portal = Portal("", statement, bind, BoundShape(statement.shape, result_formats))
    portal.settings = session.context.settings
    session.plans.bound(portal, known.assessment.analysis)
    portal.names = names or portal.names
    return portal


def keep_answered(session: ClientSession, portal: Portal, fields: tuple[Field, ...]) -> None:
    """The portal was answered with these columns, and is there until its transaction ends."""
    portal.shape.own.requested, portal.shape.own.fields = True, fields
    confirm_portal(session, portal)
