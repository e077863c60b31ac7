# cython: language_level=3, boundscheck=False, cdivision=True
"""The usual course through the express lane (`postgres_express`) in one step each way: the same bytes, the same record.

Every promise of the lane is kept here as it is there: a statement is looked up (`requests`), asked whether it still
holds, recorded (`entries`), and only then sent, of which `sparing` may leave out what the server knows; its answer is
shown once the rules are seen to stand. Whatever is not exactly as usual is left untouched to the lane (`request` and
`answer` return False), and an execution begun here (`passage`) unfolds into the lane's own.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from audit.domain._fast cimport Filling
from gateway.listeners.quick.clock cimport monotonic
from gateway.listeners.quick.entries cimport Entries
from gateway.listeners.quick.passage cimport Lane, Passage
from gateway.listeners.quick.requests cimport Requests
from gateway.listeners.quick.sparing cimport Sparing
from gateway.protocols.postgres._fast cimport (
    Answer, count as count_rows, cut, find_answer, mask as mask_rows, same_bytes, scan as scan_frames
)
from gateway.protocols.postgres.state cimport (
    ClientState, MeaningState, NamesState, RelayState, SessionState, TurnsState, UpstreamState
)
from gateway.session.state cimport ContextState, KnownState, RecurringState, SnapshotState, ViewState
from gateway.upstreams.state cimport RecollectionState

from audit.answers import RecordUnavailable
from gateway.listeners.postgres_deferred import Deferred
from gateway.protocols.postgres.frames import MAX_UPSTREAM_MESSAGE, ProtocolViolation
from gateway.session.recurring import NO_ROWS
from gateway.upstreams.postgres_execution import KEPT_BYTES, RECORDING_FORMAT, SCANNED_TURN_BYTES

cdef object _Deferred = Deferred
cdef Py_ssize_t _LIMIT = MAX_UPSTREAM_MESSAGE
cdef Py_ssize_t _MOST = SCANNED_TURN_BYTES  # a longer answer may have to be handed on in turns
cdef Py_ssize_t _KEPT = KEPT_BYTES
cdef object _RECORDING_FORMAT = RECORDING_FORMAT
cdef bytes _SUSPENDED = b"SUSPENDED"  # `express.answered_tag`
cdef ViewState _NO_ROWS = NO_ROWS
cdef object _NOT_ON_DISK = RecordUnavailable("the journal cannot be synced")


cdef class QuickLane(Lane):
    """One session's.

    `ordinary(occurrence, asked, statement, reused, templated)` makes the exchange of one begun here;
    `keep_portal(data, statement, known, fields, names)` notes the portal of one that was answered and outlives it.
    """

    def __init__(self, session not None, dict queries not None, dict texts not None, ordinary, keep_portal, otherwise):
        services = session.services
        self.session, self.client, self.upstream, self.relay = session, session.client, session.upstream, session.relay
        self.meaning, self.context, self.turns = session.meaning, session.context, session._turns
        self.statements, self.portals = session.statements, session.portals
        self.snapshots, self.meter = services.snapshots, services.meter
        self.recordings = session.recordings
        self.fresh = self.snapshots if isinstance(self.snapshots, SnapshotState) else None
        self.ordinary, self.keep_portal, self.otherwise = ordinary, keep_portal, otherwise
        self.sparing = Sparing(self.statements, self.relay, self.upstream)
        self.requests = Requests(self, self.statements, self.sparing, queries, texts)
        self.entries = Entries(services, self.context)
        self.under_way = None

    # --- the request ---

    def serve(self, bytes data not None):
        """`ExpressLane.serve`."""
        return True if self.request(data) else self.otherwise(data)

    cpdef bint request(self, bytes data) except -1:
        """Serve `data` if it is one whole remembered request and nothing about it is unusual; False: nothing was done."""
        cdef Passage passage
        cdef bytes spelled
        cdef double now
        if PyBytes_GET_SIZE(data) < 6 or not self.rests():
            return False
        passage = self.requests.read(data)
        if passage is None:
            return False
        now = monotonic()
        if not self.holds(passage.recurring, now):
            return False
        spelled = self.requests.spelled(passage)
        return spelled is not None and self.record(passage, spelled, now)

    def at_rest(self):
        return self.rests()

    cdef bint rests(self) except -1:
        """`ClientSession.at_rest`, what costs least asked first."""
        cdef SessionState session = self.session
        cdef RelayState relay = self.relay
        return (
            session.resting
            and relay._exchange is None
            and not relay._queue
            and not self.meaning.unsettled
            and not relay.skipping
            and not relay.broken
            and session.at_boundary
            and not session._outgoing
            and not session.reason
            and not session._retiring
            and session.cancelling is None
            and session.holding is None
            and session.deferred is None
            and session.can_send
        )

    cdef object rules(self, double now):
        return self.snapshots.current() if self.fresh is None else self.fresh.current_at(now)

    cdef bint holds(self, RecurringState recurring, double now) except -1:
        """Whether it is plainly allowed now, and nothing has to be waited for, counted or told about it."""
        cdef object remembered = recurring._recollection
        if not recurring.plain or self.meter.trace is not None:
            return False
        if recurring.keeps and self.recordings is not None and not self.recordings.has_room:
            return False
        try:
            if self.rules(now) is not recurring._snapshot:
                return False  # the lane looks whether they are the same rules
        except Exception:  # fail closed: the ordinary way says so to the client
            return False
        if now >= recurring.known.until:
            return False
        if isinstance(remembered, RecollectionState) and not (<RecollectionState>remembered)._estimated:
            return (<RecollectionState>remembered).holds_at(now)
        return remembered.holds() is True

    cdef bint record(self, Passage passage, bytes spelled, double now) except -1:
        """Send it once its authorised entry is durable: now, or when that is told. False: it is left to the lane."""
        cdef Filling filling
        try:
            filling = self.entries.begun(passage, spelled)
            if passage.recurring.waits:
                return self.defer(passage, filling)
            if not self.entries.authorise(passage, filling):
                return False
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            return False
        self.meter.remembered += 1
        self.send(passage, now)
        return True

    cdef bint defer(self, Passage passage, Filling filling) except -1:
        """Until it is told what became of the entry, the session is not at rest, and whoever ends or cancels is heard."""
        try:
            self.session.deferred = passage
            if not self.entries.authorise_soon(passage, filling):
                self.postpone(passage)
                self.entries.authorise_slowly(passage, filling)
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            passage.deferred = self.session.deferred = None
            return False
        return True

    cdef object postpone(self, Passage passage):
        """The lane's own way of waiting, which knows of everything that may have happened meanwhile."""
        deferred = _Deferred(self.session, passage.recurring.known, passage.data, passage.send)
        deferred.withdrawn = passage.withdrawn
        passage.deferred = self.session.deferred = deferred

    cdef int resume(self, Passage passage, bint reached) except -1:
        """`Deferred.told`, where nothing has happened while it waited."""
        cdef SessionState session = self.session
        cdef RecurringState recurring = passage.recurring
        cdef double now = monotonic()
        if session.deferred is not passage:
            return 0  # it was not known to wait for this, and went the long way
        session.deferred = None
        if not (
            reached
            and not passage.withdrawn
            and not self.client.closed
            and recurring.known.quiet is True
            and self.rests()
            and self.holds(recurring, now)
        ):
            self.postpone(passage)
            passage.answered(None if reached else _NOT_ON_DISK)
        else:
            self.meter.remembered += 1
            self.send(passage, now)
            if self.client._frames or self.client.violation is not None:
                session.client.wake()  # for what came meanwhile
        if reached:
            self.entries.alike.tell(passage.authorised)
        return 0

    cdef int send(self, Passage passage, double now) except -1:
        cdef UpstreamState upstream = self.upstream
        if passage.recurring.known.control:
            self.session.sends_control(passage.recurring.known)
        if passage.simple:  # a simple Query destroys the unnamed statement and portal
            if "" in self.statements._confirmed:
                self.statements.forget("")
            if "" in self.portals._confirmed:
                self.portals.forget("")
        self.session._last_activity = now
        self.relay._exchange = self.under_way = passage
        if upstream._transport is not None and not upstream.closed:
            upstream._transport.write(self.sparing.outgoing(passage, now))
            self.session.uncertain = passage.reused or passage.templated
        self.sparing.sent(passage, now)
        return 0

    # --- the answer ---

    def answer(self, bytes data not None):
        """Take the usual answer to what was sent here last; False: nothing was done with it."""
        cdef Passage passage = self.under_way
        cdef bint held = self.session.uncertain
        cdef bint taken = True
        if passage is None:
            return False
        self.session.uncertain = False
        if passage.refusal is None:
            taken = self.answered(passage, data)
        else:
            data, passage.refusal = passage.refusal + data, None
            if not self.answered(passage, data):
                self.upstream.arrived(data)
        if held and not self.session.uncertain and (
            self.client._frames or self.client.violation is not None or self.session._retiring
        ):
            self.session.client.wake()  # for what came meanwhile
        return taken

    cdef bint answered(self, Passage passage, bytes data) except -1:
        cdef Answer places
        cdef ViewState view
        cdef KnownState known = passage.recurring.known
        cdef bytes out
        cdef bint open
        cdef double now, seconds
        self.under_way = None  # if not now, then the ordinary way
        self.sparing.doubt()
        if not self.is_whole(passage, data):
            return False
        if not find_answer(
            data,
            (passage.parsed or passage.templated) and not passage.reused,
            passage.templated or not passage.simple,
            &places,
        ):
            return (passage.reused or passage.templated) and self.again(passage, data, monotonic())
        open = places.state == 0x54
        if open and passage.templated:
            return False
        now = monotonic()
        view = self.viewed(known, data, places.description, places.rows)
        if view is None or self.meter.trace is not None or not self.rules_stand(passage, now):
            return False
        if not self.may_keep(passage, &places):
            return False
        passage.view = view
        out = self.shown(passage, data, &places)
        if out is None:
            return False
        out = self.sparing.as_asked(passage, out, places.description, places.rows)
        seconds = self.entries.complete(passage)
        try:  # it is in the log as shown, and so it is, whatever comes
            if self.client._transport is not None and not self.client.closed:
                self.client._transport.write(out)
            self.session._last_activity = now
            self.sparing.answered(passage, seconds)
            if open and not passage.simple:  # the portal outlives its answer
                self.keep_portal(passage.data, passage.statement, known, view.fields, None)
            self.ready(open, known.control)
        finally:
            self.relay._exchange = None
        return True

    cdef bint is_whole(self, Passage passage, bytes data) except -1:
        """Whether `data` is all that has come and whole frames, and nobody but `passage` waits for it."""
        cdef RelayState relay = self.relay
        cdef Py_ssize_t wanted
        if (
            relay._exchange is not passage
            or passage.exchange is not None
            or relay.broken
            or relay._out
            or relay._feeding
            or self.turns._rest
            or self.upstream._buffer.rest
            or PyBytes_GET_SIZE(data) > _MOST
        ):
            return False
        try:
            return scan_frames(data, _LIMIT, 0, PyBytes_GET_SIZE(data), &wanted) == PyBytes_GET_SIZE(data)
        except ProtocolViolation:  # the ordinary way finds it too, and ends the session with it
            return False

    cdef bint again(self, Passage passage, bytes data, double now) except -1:
        """Send it as it came after all, if the server refuses what was sent instead: nothing has run."""
        cdef Py_ssize_t end
        if (
            passage.withdrawn
            or self.client.closed
            or self.session.reason
            or self.session.cancelling is not None
            or self.upstream._transport is None
            or not self.holds(passage.recurring, now)
        ):
            return False
        end = self.sparing.refusal(passage, data)
        if not end:
            return False
        self.under_way = passage
        if end == PyBytes_GET_SIZE(data):  # ReadyForQuery follows
            passage.refusal = data
            self.session.uncertain = True
            return True
        self.sparing.sent_as_it_came(passage, now)
        self.upstream._transport.write(passage.whole())
        return True

    cdef ViewState viewed(self, KnownState known, bytes data, Py_ssize_t start, Py_ssize_t stop):
        """How a result of this description is shown; None where nobody has seen one, or it has no columns to count by."""
        cdef bytes description
        cdef ViewState view
        if start == stop or PyBytes_AS_STRING(data)[start] != 0x54:
            return _NO_ROWS
        if same_bytes(known._described, data, start, stop):
            return known._view
        description = cut(data, start, stop)
        view = known.views.get(description)
        if view is None or not view.width:
            return None
        known._described, known._view = description, view
        return view

    cdef bint rules_stand(self, Passage passage, double now) except -1:
        """Otherwise the execution asks again what they make of the result: it may have waited for a lock."""
        try:
            snapshot = self.rules(now)
        except Exception:  # fail closed: they are not known to
            return False
        return snapshot is passage.recurring._snapshot or snapshot.version == passage.recurring._snapshot.version

    cdef bint may_keep(self, Passage passage, Answer *places) except -1:
        """Whether its result can be recorded as a whole, or needs not be."""
        if self.recordings is None or not passage.recurring.keeps:
            return True
        return places.tag - places.rows <= _KEPT and self.recordings.has_room

    cdef int keep(self, Passage passage, bytes rows) except -1:
        """Record its result as it is shown. What has no columns leaves none."""
        cdef object digest
        if passage.view.width and self.recordings is not None:
            digest = self.recordings.keep(
                self.context.session_id, passage.statement_id(), _RECORDING_FORMAT, passage.view.head + rows
            )
            passage.recorded = b'"%b"' % (<str?>digest).encode("ascii")
        return 0

    cdef bytes shown(self, Passage passage, bytes data, Answer *places):
        """`data` with its rows masked as `passage.view` says, and counted; None: they are not as they should be."""
        cdef bytes masked
        try:
            masked = self.masked(passage, data, places)
        except Exception:  # fail closed: the ordinary way finds the same, and ends the session
            return None
        if masked is None:
            return data
        return cut(data, 0, places.rows) + masked + cut(data, places.tag, PyBytes_GET_SIZE(data))

    cdef bytes masked(self, Passage passage, bytes data, Answer *places):
        """The rows at `places` masked as `passage.view` says, counted and kept; None: as they came. Raises if not whole."""
        cdef ViewState view = passage.view
        cdef Py_ssize_t start = places.rows, stop = places.tag, at, rows = 0
        cdef list counts = None
        cdef object found = None
        if view.masks:
            counts = [0] * view.width
            at, rows, found = mask_rows(data, start, stop, view.width, view.masks, counts)
        else:
            at = count_rows(data, start, stop, &rows)
        if at != stop:
            raise ProtocolViolation("rows that do not end where they should")
        passage.counts, passage.rows = counts, rows
        passage.size = stop - start if found is None else PyBytes_GET_SIZE(<bytes?>found)
        if places.end == stop + 5:
            passage.tag = _SUSPENDED
        else:
            if not same_bytes(self.tag, data, stop + 5, places.end - 1):
                self.tag = cut(data, stop + 5, places.end - 1)
            passage.tag = self.tag
        if passage.recurring.keeps:
            self.keep(passage, cut(data, start, stop) if found is None else <bytes>found)
        return <bytes?>found if found is not None else None

    cdef int ready(self, bint open, bint control) except -1:
        """`Relay.ready`, without asking those who have nothing to do."""
        cdef ContextState context = self.context
        cdef str status = "T" if open else "I"
        if (
            control
            or status != self.relay.status
            or self.meaning.volatile
            or (not open and (context.uncommitted_definitions or context.approved_cursors or self.portals._confirmed))
        ):
            self.relay.ready(status)
        return 0
