# cython: language_level=3, boundscheck=False, cdivision=True
"""The usual course through the express lane (`postgres_express`) in one step each way: the same bytes, the same record.

Every promise of the lane is kept here as it is there: a statement is looked up, asked whether it still holds, recorded,
and only then sent; its answer is shown once the rules are seen to stand. Whatever is not exactly as usual is left
untouched to the lane (`request` and `answer` return False), and an execution begun here unfolds into the lane's own.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

import cython

from audit.domain._fast cimport Alike, Filling, new_filling, new_quoted_id
from gateway.protocols.postgres._fast cimport (
    Answer, Request, blanked, bound_integers, codes, count as count_rows, find_answer, find_request, hexed_between,
    mask as mask_rows, query_text, request as read_extended, request_text, request_types, scan as scan_frames,
)
from gateway.protocols.postgres.state cimport (
    ClientState, MeaningState, NamesState, PreparedState, RelayState, SessionState, TurnsState, UpstreamState
)
from gateway.session.state cimport (
    ContextState, KnownState, MeterState, RecurringState, SnapshotState, TallyState, ViewState
)
from gateway.upstreams.state cimport RecollectionState

from json.encoder import encode_basestring_ascii
from time import monotonic, perf_counter, time_ns

from audit.answers import RecordUnavailable
from audit.domain.canonical import canonical_text
from gateway.listeners.postgres_deferred import Deferred
from gateway.listeners.postgres_names import Prepared
from gateway.protocols.postgres.frames import MAX_UPSTREAM_MESSAGE, ProtocolViolation
from gateway.protocols.postgres.server import PARSE_COMPLETE_FRAME, decode_error
from gateway.protocols.postgres.templates import template_of
from gateway.session.meter import BUCKETS
from gateway.session.quotas import FREE
from gateway.session.recurring import MOST_REUSED_RUN_S, MOST_REUSED_S, Occurrence
from gateway.upstreams.postgres_execution import SCANNED_TURN_BYTES

cdef object _monotonic = monotonic, _perf_counter = perf_counter, _time_ns = time_ns
cdef object _encoded = encode_basestring_ascii, _canonical_text = canonical_text
cdef object _Prepared = Prepared, _Deferred = Deferred
cdef Py_ssize_t _LIMIT = MAX_UPSTREAM_MESSAGE
cdef bytes _EXACTLY = b"\0"
cdef Py_ssize_t _MOST = SCANNED_TURN_BYTES  # a longer answer may have to be handed on in turns
cdef tuple _NOTHING = ()
cdef bytes _NO_MASKS = b"[]"
cdef bytes _PARSED = PARSE_COMPLETE_FRAME, _IDLE = b"Z\0\0\0\5I"
# Classes of what a server says before it runs anything: the text is wrong by now, or it has another result or is not there
# any more; and of what may be wrong with values, which is an answer to whoever sent them as parameters.
cdef frozenset _OF_TEXTS = frozenset((b"0A", b"26", b"42"))
cdef bytes _OF_VALUES = b"22"
cdef object _template_of = template_of
cdef object _NOT_ON_DISK = RecordUnavailable("the journal cannot be synced")
cdef enum:
    BOUNDS = 16
cdef double _bounds[BOUNDS]
if len(BUCKETS) != BOUNDS:
    raise ImportError("a histogram of other buckets")
for _place, _bound in enumerate(BUCKETS):
    _bounds[_place] = _bound
cdef tuple _COUNTED = tuple([b"%d" % number for number in range(1024)])  # small numbers as they are written
cdef dict _TAGGED = {}


cdef bytes _number(Py_ssize_t value):
    return <bytes>_COUNTED[value] if 0 <= value < 1024 else b"%d" % value


cdef inline uint32_t _length(bytes data, Py_ssize_t at) noexcept:
    """Of the frame there, as the frame says; it is whole."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data) + at
    return (<uint32_t>raw[1] << 24) | (<uint32_t>raw[2] << 16) | (<uint32_t>raw[3] << 8) | raw[4]


cdef bytes _behind_parse(bytes data):
    """A request without the Parse it begins with."""
    return data[1 + <Py_ssize_t>_length(data, 0) :]


cdef str _tag(bytes raw):
    return raw.decode("utf-8", "replace")


cdef bytes _tagged(bytes raw):
    """A command tag in canonical form."""
    cdef object found = _TAGGED.get(raw)
    if found is None:
        found = _canonical_text(_tag(raw))
        if len(_TAGGED) < 256:
            _TAGGED[raw] = found
    return <bytes?>found


cdef inline bint _stands(bytes known, bytes data, Py_ssize_t start, Py_ssize_t stop) noexcept:
    """Whether `known` is what `data` has there."""
    return (
        known is not None
        and PyBytes_GET_SIZE(known) == stop - start
        and memcmp(PyBytes_AS_STRING(known), PyBytes_AS_STRING(data) + start, stop - start) == 0
    )


cdef bytes _statement(bytes raw):
    """The sealed text of a Query without parameters: `encode_sensitive` of it; None when it is no text."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(raw), at
    cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(raw)
    cdef bytes out
    cdef char *to
    for at in range(size):
        if text[at] < 0x20 or text[at] > 0x7E or text[at] == 0x22 or text[at] == 0x5C:
            try:
                return f'{{"statement":{_encoded(raw.decode("utf-8"))}}}'.encode()
            except UnicodeDecodeError:
                return None
    out = PyBytes_FromStringAndSize(NULL, size + 16)
    to = PyBytes_AS_STRING(out)
    memcpy(to, b'{"statement":"', 14)
    memcpy(to + 14, text, size)
    memcpy(to + 14 + size, b'"}', 2)
    return out


@cython.freelist(16)
cdef class Passage:
    """One execution between its request and its answer. Fulfils `postgres_expectations.Exchange`.

    What only the ordinary way asks for (its parameters, its names, its text) is read from its request then.
    """

    cdef QuickLane lane
    cdef readonly RecurringState recurring
    cdef ViewState view
    cdef object statement, exchange, counts, deferred
    cdef bytes data, quoted_id, tag
    cdef double began
    cdef bint parsed, simple
    cdef bint templated  # sent with its integers as parameters of a template
    cdef bint reused  # without having the server parse what it has
    cdef bytes refusal  # the server's, until it is ready: then it may be sent as it came
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
        self.lane.send(self, _monotonic())

    def permit(self):
        """It is recorded and will not run."""
        return self.occurrence().permit()

    # --- for whoever does not find the usual ---

    cdef str statement_id(self):
        return self.quoted_id[1:37].decode("ascii")

    cdef str text(self):
        """Where it is another one of the same shape."""
        cdef bytes raw
        if not self.simple:
            return ""
        if not self.recurring.shape:
            return self.recurring.text
        raw = query_text(self.data)
        return raw.removesuffix(b";").decode("utf-8")

    cdef object ordinary(self):
        """The lane's own exchange, from where everything goes as ever."""
        if self.exchange is None:
            self.exchange = self.lane.ordinary(
                self.occurrence(),
                None if self.simple else read_extended(self.data),
                self.statement,
                self.reused,
                self.templated,
            )
        return self.exchange

    cdef object occurrence(self):
        cdef tuple asked = None if self.simple else read_extended(self.data)
        occurrence = Occurrence(
            self.recurring,
            _NOTHING if asked is None else asked[4],
            _NOTHING if asked is None else asked[3],
            self.text(),
            FREE,
        )
        occurrence.statement_id, occurrence.began = self.statement_id(), self.began
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
        counts = [0] * self.view.width if self.counts is None else self.counts
        return self.occurrence().ended(self.view, rows=self.rows, size=self.size, tag=_tag(self.tag), counts=counts)


cdef class QuickLane:
    """One session's; `ordinary(occurrence, asked, statement, reused, templated)` makes the exchange of one begun here."""

    cdef SessionState session
    cdef ClientState client
    cdef UpstreamState upstream
    cdef RelayState relay
    cdef MeaningState meaning
    cdef NamesState statements, portals
    cdef TurnsState turns
    cdef SnapshotState fresh  # None: rules of another make, which are asked
    cdef ContextState context
    cdef MeterState meter
    cdef TallyState tally
    cdef Alike alike
    cdef object ordinary, snapshots, entries, otherwise
    cdef dict queries, texts
    cdef Passage under_way
    cdef PreparedState last_made  # was confirmed as the unnamed statement; None while it is not certain, and
    cdef RecurringState last_template  # the same of what stands in for simple queries of its shape
    cdef double made_at  # when either was parsed
    cdef public double most_reused_s, most_reused_run_s
    cdef bytes _asked  # the name that was asked for last, and
    cdef str _name  # the same as the names have it

    def __init__(self, session not None, dict queries not None, dict texts not None, ordinary, otherwise):
        self.session, self.client, self.upstream, self.relay = session, session.client, session.upstream, session.relay
        self.meaning, self.context, self.turns = session.meaning, session.context, session._turns
        services = session.services
        self.meter, self.snapshots, self.entries = services.meter, services.snapshots, services.record
        self.tally = services.meter.tally(session.context)
        self.fresh = self.snapshots if isinstance(self.snapshots, SnapshotState) else None
        self.statements, self.portals = session.statements, session.portals
        self.alike, self.otherwise = getattr(services.record, "alike", None), otherwise
        self.queries, self.texts, self.ordinary = queries, texts, ordinary
        self.under_way = None
        self.most_reused_s, self.most_reused_run_s = MOST_REUSED_S, MOST_REUSED_RUN_S

    # --- the request ---

    def serve(self, bytes data not None):
        """`ExpressLane.serve`."""
        return True if self.request(data) else self.otherwise(data)

    def request(self, bytes data not None):
        """Serve `data` if it is one whole remembered request and nothing about it is unusual; False: nothing was done."""
        cdef Request found
        if PyBytes_GET_SIZE(data) < 6 or not self.rests():
            return False
        if PyBytes_AS_STRING(data)[0] == 0x51:
            return self.query(data)
        if not find_request(data, &found):
            return False
        return self.made(data, &found) if found.text_end else self.bound(data, &found)

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

    cdef bint query(self, bytes data) except -1:
        cdef bytes raw = query_text(data), spelled
        cdef RecurringState recurring
        cdef double now = _monotonic()
        if raw is None:
            return False
        recurring = self.queries.get(blanked(raw))
        if recurring is None:
            recurring = self.queries.get(_EXACTLY + raw)
        if recurring is None or not self.holds(recurring, now):
            return False
        if not recurring.shape:
            spelled = recurring._whole
        else:
            if raw.endswith(b";"):
                raw = raw[: PyBytes_GET_SIZE(raw) - 1]
            spelled = None if PyBytes_GET_SIZE(raw) == 0 else _statement(raw)
        if spelled is None:
            return False
        return self.record(self.passage(recurring, data, None), spelled, now)

    cdef bint bound(self, bytes data, Request *found) except -1:
        """Bind of a statement the server has, and its execution."""
        cdef PreparedState statement = self.confirmed(data, found.name, found.name_end)
        cdef RecurringState recurring
        cdef double now = _monotonic()
        if statement is None or not statement.fixed:
            return False
        recurring = statement.recurring
        if recurring is None or not self.holds(recurring, now):
            return False
        return self.record(self.passage(recurring, data, statement), self.spelled(recurring, data, found), now)

    cdef bint made(self, bytes data, Request *found) except -1:
        """Parse, and execution of what was parsed."""
        cdef tuple types = request_types(data, found)
        cdef RecurringState recurring = None
        cdef Passage passage
        cdef double now = _monotonic()
        if not self.statements.full:
            recurring = self.texts.get((request_text(data, found), types))
        if recurring is None or not self.holds(recurring, now):
            return False
        passage = self.passage(recurring, data, self.unnamed(recurring, types))
        passage.parsed = True
        return self.record(passage, self.spelled(recurring, data, found), now)

    cdef PreparedState unnamed(self, RecurringState recurring, tuple types):
        """The statement it makes: the one that is there if the same was parsed before and nobody described it."""
        cdef PreparedState statement = self.statements._confirmed.get("")
        if statement is not None and statement is self.last_made and statement.recurring is recurring:
            shape = statement.shape
            if shape.fields is None and not shape.requested:
                return statement
        statement = _Prepared("", recurring.text, types, None, True)
        statement.recurring = recurring
        statement.analysis = recurring.known.analysis_of(recurring.text, types)
        return statement

    cdef Passage passage(self, RecurringState recurring, bytes data, statement):
        cdef Passage passage = Passage.__new__(Passage)
        passage.lane, passage.recurring, passage.data, passage.statement = self, recurring, data, statement
        passage.simple = statement is None
        return passage

    cdef PreparedState confirmed(self, bytes data, Py_ssize_t start, Py_ssize_t stop):
        """The statement the server has confirmed under the name."""
        if not _stands(self._asked, data, start, stop):
            self._asked = data[start:stop]
            try:
                self._name = self._asked.decode("utf-8")
            except UnicodeDecodeError:
                self._asked = None
                return None
        if self.statements._proposed:
            return self.statements.get(self._name)
        return self.statements._confirmed.get(self._name)

    cdef bytes spelled(self, RecurringState recurring, bytes data, Request *found):
        """`Recurring.spelled`."""
        cdef tuple formats
        cdef bytes tail
        if found.results == found.parameters + 2:  # it has none
            return recurring._whole
        formats = codes(data, found.formats)
        tail = recurring._tails.get(formats)
        if tail is None:
            tail = recurring.tail(formats)
        return hexed_between(recurring._head, data, found.parameters, tail)

    cdef bint record(self, Passage passage, bytes spelled, double now) except -1:
        """Send it once its authorised entry is durable: now, or when that is told. False: it is left to the lane."""
        cdef RecurringState recurring = passage.recurring
        cdef long long at_us = <long long>_time_ns() // 1000
        cdef Filling filling
        passage.began = _perf_counter()
        passage.quoted_id = new_quoted_id(at_us // 1000)
        try:
            filling = new_filling(passage.quoted_id, _NOTHING, spelled, at_us)
            if recurring.waits:
                return self.defer(passage, filling)
            if self.alike is None or not self.alike.put(recurring.authorised, filling, passage.authorised, True):
                filling.statement_id = passage.statement_id()
                if (
                    self.entries.append_like(recurring.authorised, filling, passage.authorised) is None
                    and self.entries.append_now(passage.authorised()) is None
                ):
                    return False
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            return False
        self.meter.remembered += 1
        self.send(passage, now)
        return True

    cdef bint defer(self, Passage passage, Filling filling) except -1:
        """Until it is told what became of the entry, the session is not at rest, and whoever ends or cancels is heard."""
        cdef RecurringState recurring = passage.recurring
        try:
            self.session.deferred = passage
            if self.alike is not None and self.alike.put_soon(recurring.authorised, filling, passage):
                return True
            self.postpone(passage)
            filling.statement_id = passage.statement_id()
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
        cdef double now = _monotonic()
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
            self.alike.tell(passage.authorised)
        return 0

    cdef int send(self, Passage passage, double now) except -1:
        cdef UpstreamState upstream = self.upstream
        if passage.simple:  # a simple Query destroys the unnamed statement and portal
            if "" in self.statements._confirmed:
                self.statements.forget("")
            if "" in self.portals._confirmed:
                self.portals.forget("")
        self.session._last_activity = now
        self.relay._exchange = self.under_way = passage
        if upstream._transport is not None and not upstream.closed:
            upstream._transport.write(self.outgoing(passage, now))
            self.session.uncertain = passage.reused or passage.templated
        if (passage.parsed or passage.templated) and not passage.reused:
            self.last_made, self.last_template, self.made_at = None, None, now
            upstream.undisturbed = True
        elif passage.simple and not passage.templated:
            upstream.undisturbed = False  # the server has no unnamed statement then
        return 0

    cdef bytes outgoing(self, Passage passage, double now):
        """What of it the server has to be sent."""
        cdef RecurringState recurring = passage.recurring
        cdef bytes asked
        if passage.simple:
            if recurring.template is None or self.relay.status != "I":
                return passage.data
            passage.templated, passage.reused = True, self.last_template is recurring and self.stands(now)
            asked = bound_integers(query_text(passage.data))
            return asked if passage.reused else recurring.template + asked
        passage.reused = (
            passage.parsed
            and recurring.reusable
            and self.last_made is not None
            and self.last_made is passage.statement
            and self.statements._confirmed.get("") is passage.statement
            and self.relay.status == "I"
            and self.stands(now)
        )
        return _behind_parse(passage.data) if passage.reused else passage.data

    cdef bint stands(self, double now) except -1:
        """Whether what the server was asked to parse last is certain to be what it would make of it now.

        Only where that makes no difference: nothing was said to the server since that could change what it makes of it, and
        what others do is seen within `most_reused_s`. Between transactions, because there `again` can do as if it never
        happened, and for texts without anything that is evaluated while it is parsed.
        """
        return self.upstream.undisturbed and now < self.made_at + self.most_reused_s

    cdef bint again(self, Passage passage, bytes data, double now) except -1:
        """Send it as it came after all, if the server refuses what was sent instead: nothing has run."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, end
        cdef bytes sqlstate
        if passage.templated and not passage.reused and PyBytes_AS_STRING(data)[0] == 0x31:
            at = 5
        if size < at + 5 or PyBytes_AS_STRING(data)[at] != 0x45:
            return False
        end = at + 1 + <Py_ssize_t>_length(data, at)
        if (
            (end != size and data[end:] != _IDLE)
            or passage.withdrawn
            or self.client.closed
            or self.session.reason
            or self.session.cancelling is not None
            or self.upstream._transport is None
            or not self.holds(passage.recurring, now)
        ):
            return False
        sqlstate = decode_error(data[at + 5 : end]).get("C", "").encode()[:2]
        if sqlstate not in _OF_TEXTS and not (passage.templated and sqlstate == _OF_VALUES):
            return False
        self.under_way = passage
        if end == size:  # ReadyForQuery follows
            passage.refusal = data
            self.session.uncertain = True
            return True
        if passage.templated and not passage.reused:
            passage.recurring.template = None  # it is not what the text means
        self.made_at, self.upstream.undisturbed = now, passage.parsed
        passage.reused = passage.templated = False
        self.upstream._transport.write(passage.data)
        return True

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
        cdef RelayState relay = self.relay
        cdef SessionState session = self.session
        cdef ViewState view
        cdef list counts = None
        cdef object shown = None
        cdef Answer places
        cdef Py_ssize_t start, stop, at, rows = 0, wanted
        cdef bytes out = data
        cdef PreparedState last_made = self.last_made
        cdef RecurringState last_template = self.last_template
        cdef double now
        self.under_way = self.last_made = self.last_template = None  # if not now, then the ordinary way
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
            if scan_frames(data, _LIMIT, 0, PyBytes_GET_SIZE(data), &wanted) != PyBytes_GET_SIZE(data):
                return False
        except ProtocolViolation:  # the ordinary way finds it too, and ends the session with it
            return False
        if not find_answer(
            data,
            (passage.parsed or passage.templated) and not passage.reused,
            passage.templated or not passage.simple,
            &places,
        ):
            return (passage.reused or passage.templated) and self.again(passage, data, _monotonic())
        if places.state != 0x49 and (passage.templated or not passage.simple or places.state != 0x54):
            return False  # the portal outlives its answer
        start, stop = places.rows, places.tag
        now = _monotonic()
        view = self.viewed(passage.recurring.known, data, places.description, start)
        if view is None or not view.width or self.meter.trace is not None or not self.rules_stand(passage, now):
            return False
        try:
            if view.masks:
                counts = [0] * view.width
                at, rows, shown = mask_rows(data, start, stop, view.width, view.masks, counts)
                out = data[:start] + <bytes?>shown + data[stop:]
            else:
                at = count_rows(data, start, stop, &rows)
        except Exception:  # fail closed: the ordinary way finds the same, and ends the session
            return False
        if at != stop:
            return False
        passage.view, passage.counts, passage.rows = view, counts, rows
        passage.size = stop - start + PyBytes_GET_SIZE(out) - PyBytes_GET_SIZE(data)
        passage.tag = data[stop + 5 : places.end - 1]
        if self.complete(passage) < self.most_reused_run_s or not passage.reused:
            self.last_made, self.last_template = last_made, last_template
        if passage.simple:
            if passage.templated:
                out = out[places.description :]
                self.last_template = passage.recurring if not passage.reused else self.last_template
            elif not passage.recurring.tried:
                self.make_template(passage)
        elif passage.reused:
            out = _PARSED + out
        elif passage.parsed:
            self.confirm(passage.statement)
        self.ready("I" if places.state == 0x49 else "T")
        relay._exchange = None
        session._last_activity = now
        if self.client._transport is not None and not self.client.closed:
            self.client._transport.write(out)
        return True

    cdef int make_template(self, Passage passage) except -1:
        """For the next query of this shape, as this one was answered with rows."""
        cdef RecurringState recurring = passage.recurring
        recurring.tried = True
        if recurring.shape:
            recurring.template = _template_of(blanked(query_text(passage.data)))
        return 0

    cdef int confirm(self, PreparedState statement) except -1:
        """The unnamed statement is this one now."""
        if self.statements._proposed or self.statements._confirmed.get("") is not statement:
            self.statements.commit("", statement)
        self.last_made = statement
        return 0

    cdef ViewState viewed(self, KnownState known, bytes data, Py_ssize_t start, Py_ssize_t stop):
        """How a result of this description is shown; None where nobody has seen one."""
        cdef bytes description
        cdef ViewState view
        if _stands(known._described, data, start, stop):
            return known._view
        description = data[start:stop]
        view = known.views.get(description)
        if view is not None:
            known._described, known._view = description, view
        return view

    cdef bint rules_stand(self, Passage passage, double now) except -1:
        """Otherwise the execution asks again what they make of the result: it may have waited for a lock."""
        try:
            snapshot = self.rules(now)
        except Exception:  # fail closed: they are not known to
            return False
        return snapshot is passage.recurring._snapshot or snapshot.version == passage.recurring._snapshot.version

    cdef double complete(self, Passage passage) except -1:
        """`Occurrence.complete`; returns how many seconds it took."""
        cdef RecurringState recurring = passage.recurring
        cdef Filling filling
        cdef bint kept
        cdef bytes masks = _NO_MASKS
        cdef double seconds = self.count(passage)
        if passage.view.masks:
            self.meter.masked_values(self.context, passage.view.counts(passage.counts))
            masks = passage.view.spelled(passage.counts)
        filling = new_filling(
            passage.quoted_id,
            (_number(passage.size), _tagged(passage.tag), masks, _number(passage.rows)),
            None,
            <long long>_time_ns() // 1000,
        )
        try:
            kept = self.alike is not None and self.alike.put(recurring.completed, filling, passage.completed, False)
            if not kept:
                filling.statement_id = passage.statement_id()
                kept = self.entries.append_like_later(recurring.completed, filling, passage.completed)
        except Exception:  # it happened: the ordinary way keeps it until it is written
            kept = False
        if not kept:
            self.entries.append_later(passage.completed())
        return seconds

    cdef double count(self, Passage passage) except -1:
        """`Tally.ended`; returns how many seconds it took."""
        cdef TallyState tally = self.tally
        cdef double seconds = <double>_perf_counter() - passage.began
        cdef Py_ssize_t place = 0
        while place < BOUNDS and _bounds[place] < seconds:
            place += 1
        tally.counts[place] += 1
        tally.statements += 1
        tally.rows += passage.rows
        tally.bytes += passage.size
        tally.seconds += seconds
        return seconds

    cdef int ready(self, str status) except -1:
        """`Relay.ready`, without asking those who have nothing to do."""
        cdef ContextState context = self.context
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
