# cython: language_level=3, boundscheck=False, cdivision=True
"""The usual course through the express lane (`postgres_express`) in one step each way: the same bytes, the same record.

Every promise of the lane is kept here as it is there: a statement is looked up, asked whether it still holds, recorded,
and only then sent; its answer is shown once the rules are seen to stand. Whatever is not exactly as usual is left
untouched to the lane (`request` and `answer` return False), and an execution begun here unfolds into the lane's own.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

import cython

from audit.domain._fast cimport Alike, Filling, new_id
from gateway.protocols.postgres._fast cimport (
    Answer, blanked, count as count_rows, find_answer, mask as mask_rows, query_text, request as read_extended,
    scan as scan_frames,
)
from gateway.protocols.postgres.state cimport (
    ClientState, FrameState, MeaningState, NamesState, RelayState, SessionState, TurnsState, UpstreamState
)
from gateway.session.state cimport RecurringState, SnapshotState, ViewState
from gateway.upstreams.state cimport RecollectionState

from json.encoder import encode_basestring_ascii
from time import monotonic, perf_counter, time_ns

from audit.answers import RecordUnavailable
from audit.domain.canonical import canonical_text
from gateway.listeners.postgres_deferred import Deferred
from gateway.listeners.postgres_names import Prepared
from gateway.protocols.postgres.frames import MAX_UPSTREAM_MESSAGE, ProtocolViolation
from gateway.session.meter import BUCKETS
from gateway.session.quotas import FREE
from gateway.session.recurring import Occurrence
from gateway.upstreams.postgres_execution import SCANNED_TURN_BYTES

cdef object _monotonic = monotonic, _perf_counter = perf_counter, _time_ns = time_ns
cdef object _encoded = encode_basestring_ascii, _canonical_text = canonical_text
cdef object _Prepared = Prepared, _Deferred = Deferred
cdef Py_ssize_t _LIMIT = MAX_UPSTREAM_MESSAGE
cdef bytes _EXACTLY = b"\0"
cdef Py_ssize_t _MOST = SCANNED_TURN_BYTES  # a longer answer may have to be handed on in turns
cdef tuple _NOTHING = ()
cdef object _NOT_ON_DISK = RecordUnavailable("the journal cannot be synced")
cdef tuple _BUCKETS = BUCKETS
cdef const char *_HEX = b"0123456789abcdef"
cdef dict _COUNTED = {}  # small numbers as they are written


cdef bytes _number(Py_ssize_t value):
    cdef object found = _COUNTED.get(value)
    if found is None:
        found = b"%d" % value
        if len(_COUNTED) < 4096:
            _COUNTED[value] = found
    return <bytes>found


cdef dict _TAGGED = {}


cdef bytes _tagged(str tag):
    cdef object found = _TAGGED.get(tag)
    if found is None:
        found = _canonical_text(tag)
        if len(_TAGGED) < 256:
            _TAGGED[tag] = found
    return <bytes?>found


cdef bytes _hexed(tuple parameters):
    """`"…","…"` or `null` for each, as `Recurring.spelled` has them."""
    cdef Py_ssize_t size = 0, at
    cdef bytes value, out
    cdef const unsigned char *raw
    cdef char *to
    cdef bint first = True
    for item in parameters:
        size += 5 if item is None else 3 + 2 * PyBytes_GET_SIZE(<bytes?>item)
    out = PyBytes_FromStringAndSize(NULL, size - 1)
    to = PyBytes_AS_STRING(out)
    for item in parameters:
        if not first:
            to[0] = c","
            to += 1
        first = False
        if item is None:
            memcpy(to, b"null", 4)
            to += 4
            continue
        value = <bytes>item
        raw = <const unsigned char *>PyBytes_AS_STRING(value)
        to[0] = c'"'
        to += 1
        for at in range(PyBytes_GET_SIZE(value)):
            to[0] = _HEX[raw[at] >> 4]
            to[1] = _HEX[raw[at] & 15]
            to += 2
        to[0] = c'"'
        to += 1
    return out


@cython.freelist(16)
cdef class Passage:
    """One execution between its request and its answer. Fulfils `postgres_expectations.Exchange`."""

    cdef QuickLane lane
    cdef readonly RecurringState recurring
    cdef ViewState view
    cdef object asked, statement, exchange, counts, deferred
    cdef bytes data
    cdef str statement_id, text, tag
    cdef tuple parameters, formats
    cdef double began
    cdef bint parsed, simple
    cdef Py_ssize_t rows, size
    cdef public bint withdrawn

    # --- while its entry is waited for ---

    def __call__(self, bint reached):
        """Whether its entry is on the disk, told in a later turn of the event loop."""
        self.lane.resume(self, reached)

    def answered(self, answer):
        """What became of its entry, told in a later turn of the event loop."""
        deferred, self.deferred = self.deferred, None
        if isinstance(answer, Exception):
            deferred.told(None)
            return
        self.lane.meter.remembered += 1
        deferred.told(self)

    def send(self):
        """It is recorded, and everything is still as it was when it was let in."""
        self.lane.send(self)

    def permit(self):
        """It is recorded and will not run."""
        return self.occurrence().permit()

    # --- for whoever does not find the usual ---

    cdef object ordinary(self):
        """The lane's own exchange, from where everything goes as ever."""
        if self.exchange is None:
            self.exchange = self.lane.unfold(self, self.occurrence())
        return self.exchange

    cdef object occurrence(self):
        occurrence = Occurrence(self.recurring, self.parameters, self.formats, self.text, FREE)
        occurrence.statement_id, occurrence.began = self.statement_id, self.began
        return occurrence

    @property
    def execution(self):
        return self.ordinary().execution

    def recognises(self, data):
        return self.ordinary().recognises(data)

    def take(self, relay, data):
        self.ordinary().take(relay, data)

    def unfold(self):
        return self.ordinary().unfold()

    # --- its entries spelled the ordinary way, for whoever is told of them or keeps them ---

    def authorised(self):
        return self.occurrence()._authorised()

    def completed(self):
        return self.occurrence().ended(self.view, rows=self.rows, size=self.size, tag=self.tag, counts=self.counts)


cdef class QuickLane:
    """One session's; `unfold(passage, occurrence)` makes the lane's own exchange of an execution begun here."""

    cdef SessionState session
    cdef ClientState client
    cdef UpstreamState upstream
    cdef RelayState relay
    cdef MeaningState meaning
    cdef NamesState statements, portals
    cdef TurnsState turns
    cdef SnapshotState fresh  # None: rules of another make, which are asked
    cdef Alike alike
    cdef object context, ordinary, meter, snapshots, entries, counted, stage, name, otherwise
    cdef dict queries, texts
    cdef Passage under_way

    def __init__(self, session not None, dict queries not None, dict texts not None, unfold, otherwise):
        self.session, self.client, self.upstream, self.relay = session, session.client, session.upstream, session.relay
        self.meaning, self.context, self.turns = session.meaning, session.context, session._turns
        services = session.services
        self.meter, self.snapshots, self.entries = services.meter, services.snapshots, services.record
        self.fresh = self.snapshots if isinstance(self.snapshots, SnapshotState) else None
        self.statements, self.portals = session.statements, session.portals
        self.alike, self.otherwise = getattr(services.record, "alike", None), otherwise
        self.name = session.context.connection.name
        self.counted, self.stage = (self.name, session.context.protocol, "completed"), (self.name, "remembered")
        self.queries, self.texts, self.ordinary = queries, texts, unfold
        self.under_way = None

    cdef object unfold(self, Passage passage, occurrence):
        return self.ordinary(occurrence, None if passage.simple else passage.asked, passage.statement)

    # --- the request ---

    def serve(self, bytes data not None):
        """`ExpressLane.serve`."""
        return True if self.request(data) else self.otherwise(data)

    def request(self, bytes data not None):
        """Serve `data` if it is one whole remembered request and nothing about it is unusual; False: nothing was done."""
        if PyBytes_GET_SIZE(data) < 6 or not self.rests():
            return False
        if PyBytes_AS_STRING(data)[0] == 0x51:
            return self.query(data)
        return self.extended(data)

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

    cdef object rules(self):
        return self.snapshots.current() if self.fresh is None else self.fresh.current()

    cdef bint holds(self, RecurringState recurring) except -1:
        """Whether it is plainly allowed now, and nothing has to be waited for, counted or told about it."""
        cdef object remembered = recurring._recollection
        if not recurring.plain or self.meter.trace is not None:
            return False
        try:
            if self.rules() is not recurring._snapshot:
                return False  # the lane looks whether they are the same rules
        except Exception:  # fail closed: the ordinary way says so to the client
            return False
        if <double>_monotonic() >= <double>recurring.known.until:
            return False
        if isinstance(remembered, RecollectionState) and not (<RecollectionState>remembered)._estimated:
            return (<RecollectionState>remembered).holds_here()
        return remembered.holds() is True

    cdef object query(self, bytes data):
        cdef bytes raw = query_text(data), text
        cdef RecurringState recurring
        cdef Passage passage
        if raw is None:
            return False
        recurring = self.queries.get(blanked(raw))
        if recurring is None:
            recurring = self.queries.get(_EXACTLY + raw)
        if recurring is None or not self.holds(recurring):
            return False
        passage = Passage.__new__(Passage)
        if recurring.shape:
            text = raw
            if text.endswith(b";"):
                text = text[: PyBytes_GET_SIZE(text) - 1]
            try:
                passage.text = text.decode("utf-8")
            except UnicodeDecodeError:
                return False
        else:
            passage.text = recurring.text
        if not passage.text:
            return False
        passage.parameters, passage.formats = _NOTHING, _NOTHING
        passage.parsed, passage.simple = False, True
        return self.record(passage, recurring, f'{{"statement":{_encoded(passage.text)}}}'.encode(), data)

    cdef object extended(self, bytes data):
        cdef tuple parts = read_extended(data)
        cdef object statement
        cdef RecurringState recurring
        cdef Passage passage
        if parts is None:
            return False
        if parts[1] is None:
            statement = self.confirmed(<bytes>parts[0])
            recurring = None if statement is None else statement.recurring
        else:
            statement = None
            recurring = None if self.statements.full else self.texts.get((parts[1], parts[2]))
        if recurring is None or not self.holds(recurring):
            return False
        passage = Passage.__new__(Passage)
        passage.text = ""
        passage.formats, passage.parameters = <tuple>parts[3], <tuple>parts[4]
        passage.asked, passage.statement = parts, statement
        passage.parsed, passage.simple = parts[1] is not None, False
        if passage.parsed:
            passage.statement = statement = _Prepared("", recurring.text, parts[2], None, True)
            statement.recurring = recurring
            statement.analysis = recurring.known.analysis_of(statement.text, statement.types)
        return self.record(passage, recurring, self.spelled(recurring, passage), data)

    cdef object confirmed(self, bytes name):
        """The statement the server has confirmed under the name and that ran here before."""
        cdef object found
        try:
            found = name.decode("utf-8")
            found = self.statements.get(found) if self.statements._proposed else self.statements._confirmed.get(found)
        except UnicodeDecodeError:
            return None
        return found if found is not None and found.fixed else None

    cdef bytes spelled(self, RecurringState recurring, Passage passage):
        cdef object tail
        if not passage.parameters:
            return f"{recurring._head}}}".encode()
        tail = recurring._tails.get(passage.formats)
        if tail is None:
            tail = recurring.tail(passage.formats)
        return f'{recurring._head},"parameters":['.encode() + _hexed(passage.parameters) + (<str?>tail).encode()

    cdef bint record(self, Passage passage, RecurringState recurring, bytes spelled, bytes data) except -1:
        """Send it once its authorised entry is durable: now, or when that is told. False: it is left to the lane."""
        passage.lane, passage.recurring, passage.data = self, recurring, data
        passage.began = _perf_counter()
        passage.statement_id = new_id(<long long>_time_ns() // 1_000_000)
        try:
            filling = Filling(passage.statement_id, _NOTHING, None, 0, spelled)
            if recurring.waits:
                return self.defer(passage, recurring, filling)
            if (
                (self.alike is None or not self.alike.put(recurring.authorised, filling, passage.authorised, True))
                and self.entries.append_like(recurring.authorised, filling, passage.authorised) is None
                and self.entries.append_now(passage.authorised()) is None
            ):
                return False
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            return False
        self.meter.remembered += 1
        self.send(passage)
        return True

    cdef bint defer(self, Passage passage, RecurringState recurring, Filling filling) except -1:
        """Until it is told what became of the entry, the session is not at rest, and whoever ends or cancels is heard."""
        try:
            self.session.deferred = passage
            if self.alike is not None and self.alike.put_soon(recurring.authorised, filling, passage):
                return True
            self.postpone(passage)
            self.entries.append_soon(recurring.authorised, filling, passage.authorised, passage.answered)
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
        if session.deferred is not passage:
            return 0  # it was not known to wait for this, and went the long way
        session.deferred = None
        if not (
            reached
            and not passage.withdrawn
            and not self.client.closed
            and recurring.known.quiet is True
            and self.rests()
            and self.holds(recurring)
        ):
            self.postpone(passage)
            passage.answered(None if reached else _NOT_ON_DISK)
        else:
            self.meter.remembered += 1
            self.send(passage)
            if self.client._frames or self.client.violation is not None:
                session.client.wake()  # for what came meanwhile
        if reached:
            self.alike.tell(passage.authorised)
        return 0

    cdef int send(self, Passage passage) except -1:
        cdef UpstreamState upstream = self.upstream
        if passage.simple:  # a simple Query destroys the unnamed statement and portal
            if "" in self.statements._confirmed:
                self.statements.forget("")
            if "" in self.portals._confirmed:
                self.portals.forget("")
        self.session._last_activity = _monotonic()
        self.relay._exchange = self.under_way = passage
        if upstream._transport is not None and not upstream.closed:
            upstream._transport.write(passage.data)
        return 0

    # --- the answer ---

    def answer(self, bytes data not None):
        """Take the usual answer to what was sent here last; False: nothing was done with it."""
        cdef Passage passage = self.under_way
        cdef RelayState relay = self.relay
        cdef SessionState session = self.session
        cdef ViewState view
        cdef list counts
        cdef object shown = None
        cdef Answer places
        cdef Py_ssize_t start, stop, at, rows = 0, size, wanted
        cdef bytes out
        if passage is None:
            return False
        self.under_way = None  # if not now, then the ordinary way
        if (
            relay._exchange is not passage
            or passage.exchange is not None
            or relay.broken
            or relay._out
            or relay._feeding
            or self.turns._rest
            or (<FrameState?>self.upstream._buffer).rest
            or PyBytes_GET_SIZE(data) > _MOST
        ):
            return False
        try:
            if scan_frames(data, _LIMIT, 0, PyBytes_GET_SIZE(data), &wanted) != PyBytes_GET_SIZE(data):
                return False
        except ProtocolViolation:  # the ordinary way finds it too, and ends the session with it
            return False
        if not find_answer(data, passage.parsed, not passage.simple, &places):
            return False
        if places.state != 0x49 and not (passage.simple and places.state == 0x54):
            return False  # the portal outlives its answer
        start, stop = places.rows, places.tag
        view = passage.recurring.known.views.get(data[places.description : start])
        if view is None or not view.width or self.meter.trace is not None or not self.rules_stand(passage):
            return False
        counts = [0] * view.width
        try:
            if view.masks:
                at, rows, shown = mask_rows(data, start, stop, view.width, view.masks, counts)
            else:
                at = count_rows(data, start, stop, &rows)
        except Exception:  # fail closed: the ordinary way finds the same, and ends the session
            return False
        if at != stop:
            return False
        size = stop - start if shown is None else PyBytes_GET_SIZE(<bytes?>shown)
        passage.view, passage.counts, passage.rows, passage.size = view, counts, rows, size
        passage.tag = data[stop + 5 : places.end - 1].decode("utf-8", "replace")
        self.complete(passage)
        if passage.parsed:
            self.statements.commit("", passage.statement)
        if shown is None:
            out = data
        else:
            out = data[:start] + <bytes>shown + data[stop:]
        self.ready("I" if places.state == 0x49 else "T")
        relay._exchange = None
        session._last_activity = _monotonic()
        if self.client._transport is not None and not self.client.closed:
            self.client._transport.write(out)
        return True

    cdef bint rules_stand(self, Passage passage) except -1:
        """Otherwise the execution asks again what they make of the result: it may have waited for a lock."""
        try:
            snapshot = self.rules()
        except Exception:  # fail closed: they are not known to
            return False
        return snapshot is passage.recurring._snapshot or snapshot.version == passage.recurring._snapshot.version

    cdef int complete(self, Passage passage) except -1:
        """`Occurrence.complete`."""
        cdef RecurringState recurring = passage.recurring
        cdef Filling filling
        cdef bint kept
        self.count(passage)
        filling = Filling(
            passage.statement_id,
            (
                _number(passage.size),
                _tagged(passage.tag),
                passage.view.spelled(passage.counts) if passage.view.masks else b"[]",
                _number(passage.rows),
            ),
        )
        try:
            kept = self.alike is not None and self.alike.put(recurring.completed, filling, passage.completed, False)
            if not kept:
                kept = self.entries.append_like_later(recurring.completed, filling, passage.completed)
        except Exception:  # it happened: the ordinary way keeps it until it is written
            kept = False
        if not kept:
            self.entries.append_later(passage.completed())
        return 0

    cdef int count(self, Passage passage) except -1:
        """`Meter.completed_again`."""
        cdef object meter = self.meter, histogram
        cdef double seconds = <double>_perf_counter() - passage.began
        cdef Py_ssize_t place = 0
        cdef list counts
        for bound in _BUCKETS:
            if <double>bound >= seconds:
                break
            place += 1
        histogram = meter.stages[self.stage]
        counts = histogram.counts
        counts[place] += 1
        histogram.seconds += seconds
        meter.statements[self.counted] += 1
        meter.rows[self.name] += passage.rows
        meter.bytes[self.name] += passage.size
        if passage.view.masks:
            meter.masked_values(self.context, passage.view.counts(passage.counts))
        return 0

    cdef int ready(self, str status) except -1:
        """`Relay.ready`, without asking those who have nothing to do."""
        cdef object context = self.context
        if (
            self.meaning.volatile
            or context.uncommitted_definitions
            or context.approved_cursors
            or self.portals._confirmed
        ):
            self.relay.ready(status)
        else:
            self.relay.status = status
        return 0
