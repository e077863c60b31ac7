# cython: language_level=3, boundscheck=False, cdivision=True
"""Pipelines: many executions, Bind [Describe] Execute each, sent one behind the other before a Sync ends them all.

What the lane does with a whole request is done with each of them here: it is looked up, asked whether it still holds,
recorded, and only then sent. Its place is in the relay's queue, among whatever else is expected, where it stands for
its ordinary expectations and becomes them as soon as anything is not as usual (`Relay.unfold`).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from gateway.listeners.quick.clock cimport monotonic
from gateway.listeners.quick.lane cimport QuickLane
from gateway.listeners.quick.passage cimport Passage
from gateway.protocols.postgres._fast cimport Answer, cut, execution_end, find_result
from gateway.protocols.postgres.state cimport MeaningState, RelayState, SessionState
from gateway.session.state cimport KnownState

cdef enum:
    SYNC = 5  # bytes
    MOST_A_CALL = 64  # `postgres_asking.MOST_A_TURN`
    MOST_EXPECTED = 1_000  # `postgres_session.MOST_STEPS`: so much is unfolded at once, and kept until it is answered:
    MOST_BYTES = 8_192  # requests of so many bytes each at most


cdef class Run:
    """Executions in their order, and what the server is sent of them."""

    cdef readonly list passages
    cdef list _out
    cdef bytes _data
    cdef Py_ssize_t _start, _stop  # what is sent of `_data` as it came

    def __cinit__(self):
        self.passages, self._out = [], []

    cdef int add(self, Passage passage, bytes data, Py_ssize_t start, Py_ssize_t stop) except -1:
        self._data = data
        self.passages.append(passage)
        if passage.undescribed:
            self.cut()
            self._out.append(_without_sync(passage.whole()))
            self._start = stop
        self._stop = stop
        return 0

    cdef int cut(self) except -1:
        if self._stop > self._start:
            self._out.append(cut(self._data, self._start, self._stop))
        return 0

    cdef bytes outgoing(self):
        self.cut()
        return <bytes>self._out[0] if len(self._out) == 1 else b"".join(self._out)


cdef class Steps:
    """One session's, beside its `lane`.

    `recall(data)` looks anew whether what `data` asks for is remembered; `deferring(steps)` makes what is told of entries
    that have to be waited for (`postgres_deferred.DeferredRun`).
    """

    cdef QuickLane lane
    cdef SessionState session
    cdef RelayState relay
    cdef MeaningState meaning
    cdef object plans, recall, deferring
    cdef bytes spelled  # of the execution that was found last

    def __init__(self, QuickLane lane not None, recall, deferring):
        self.lane, self.recall, self.deferring = lane, recall, deferring
        self.session, self.relay, self.meaning = lane.session, lane.relay, lane.meaning
        self.plans = (<object>lane.session).plans

    # --- requests ---

    cpdef Py_ssize_t arrived(self, bytes data) except -1:
        """`serve`, where the session's task has nothing to do first."""
        if not self.session.resting or self.session._outgoing:
            return 0
        return self.serve(data)

    cpdef Py_ssize_t serve(self, bytes data) except -1:
        """Serve the executions that `data`, whole frames, begins with; returns where they end. The rest was not looked at."""
        cdef Py_ssize_t at = 0, end = 0
        cdef Passage passage
        cdef Run run = Run()
        cdef object waiting = None
        if not execution_end(data, 0) or not self.may_send():
            return 0
        while len(run.passages) < MOST_A_CALL:
            end = execution_end(data, at)
            passage = self.remembered(data, at, end) if 0 < end - at <= MOST_BYTES else None
            if passage is None:
                break
            if waiting is None and passage.recurring.waits:
                waiting = self.session.deferred = self.deferring(self)
            if not (self.record(passage) if waiting is None else self.record_soon(passage, waiting)):
                break
            run.add(passage, data, at, end)
            at = end
        if waiting is not None:
            waiting.complete(run, cut(data, 0, at))
        elif at:
            self.send(run)
        return at

    cpdef send(self, Run run):
        """They are recorded, and everything is still as it was when they were let in."""
        cdef Passage passage
        cdef object names = self.plans.names
        if self.relay._exchange is not None:
            (<object>self.relay).unfold()
        for passage in run.passages:
            passage.is_step, passage.names = True, names
            self.relay._queue.append(passage)
        self.relay._steps += len(run.passages)
        self.session.at_boundary = False
        self.session._outgoing.append(run.outgoing())
        (<object>self.session).flush()

    cdef bint may_send(self) except -1:
        return self.session.can_send and len(self.relay._queue) < MOST_EXPECTED and self.may_go()

    cpdef bint may_go(self) except -1:
        """Whether the session is where the ordinary way would send a remembered statement without asking anybody anything."""
        cdef SessionState session = self.session
        return (
            not self.meaning.unsettled
            and not self.relay.skipping
            and not self.relay.broken
            and not session.reason
            and not session._retiring
            and session.cancelling is None
            and session.holding is None
            and session.deferred is None
            and not session.uncertain
            and self.plans.fresh
        )

    cdef Passage remembered(self, bytes data, Py_ssize_t at, Py_ssize_t end):
        """The execution there, if it is plainly allowed now; what is sealed of it is in `spelled`."""
        cdef double now = monotonic()
        cdef bytes asked = _with_sync(data, at, end)
        cdef Passage passage
        cdef KnownState known
        try:
            passage = self.lane.requests.read(asked)
            if passage is None or not self.lane.holds(passage.recurring, now):
                passage = self.lane.requests.read(asked) if self.recall(asked) else None
                if passage is None or not self.lane.holds(passage.recurring, now):
                    return None
            self.spelled = self.lane.requests.spelled(passage)
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            return None
        known = passage.recurring.known
        if self.spelled is None or known.control or known.quiet is not True:
            return None
        self.session._last_activity = now
        return passage

    cdef bint record(self, Passage passage) except -1:
        """Make its authorised entry durable now. False: it is left to the ordinary way."""
        try:
            if not self.lane.entries.authorise(passage, self.lane.entries.begun(passage, self.spelled)):
                return False
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            return False
        self.lane.meter.remembered += 1
        return True

    cdef bint record_soon(self, Passage passage, waiting) except -1:
        """Have `waiting` told when it is. False: it will not be."""
        try:
            passage.deferred = waiting.one_more()
            self.lane.entries.authorise_slowly(passage, self.lane.entries.begun(passage, self.spelled))
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            passage.deferred = None
            waiting.one_less()
            return False
        return True

    # --- answers ---

    cpdef Py_ssize_t take(self, bytes data, Py_ssize_t at) except -1:
        """Take the whole usual answers at `at` of the steps expected first; returns where they end."""
        cdef RelayState relay = self.relay
        cdef Py_ssize_t kept = at, size = PyBytes_GET_SIZE(data)
        cdef Passage passage, last = None
        cdef Answer places
        cdef bytes shown
        cdef double now = monotonic()
        while at < size and relay._queue and relay._queue[0].is_step:
            passage = <Passage?>relay._queue[0]
            if not find_result(data, at, True, &places):
                break
            try:
                shown = self.accounted(passage, data, &places, now)
            except BaseException:  # those before it are in the log as shown
                self.emit(data, kept, at)
                raise
            relay._queue.popleft()
            relay._steps -= 1
            last = passage
            if passage.undescribed:
                self.emit(data, kept, places.description)
                kept = places.rows
            if shown is not None:
                self.emit(data, kept, places.rows)
                relay._out.append(shown)
                kept = places.tag
            at = places.end
        self.emit(data, kept, at)
        if last is not None:
            self.session._last_activity = now
            (<object>relay).answered(last.recurring.text)
            if not (relay._queue and relay._queue[0].is_step):  # whose Bind takes the place of the portal
                self.lane.keep_portal(
                    last.data, last.statement, last.recurring.known, self.fields(last, data, &places), last.names
                )
        return at

    cdef bytes accounted(self, Passage passage, bytes data, Answer *places, double now):
        """Account for its result; returns its rows for the client, None when they are as they came."""
        cdef QuickLane lane = self.lane
        cdef bytes masked
        if passage.exchange is None and lane.meter.trace is None:
            passage.view = lane.viewed(passage.recurring.known, data, places.description, places.rows)
            if passage.view is not None and lane.rules_stand(passage, now) and lane.may_keep(passage, places):
                masked = lane.masked(passage, data, places)
                lane.entries.complete(passage)
                return masked
        return passage.ordinary().accounted(data, _answer(places))

    cdef tuple fields(self, Passage passage, bytes data, Answer *places):
        return passage.view.fields if passage.exchange is None else passage.exchange.fields(data, _answer(places))

    cdef int emit(self, bytes data, Py_ssize_t start, Py_ssize_t stop) except -1:
        if stop > start:
            self.relay._out.append(cut(data, start, stop))
        return 0


cdef tuple _answer(Answer *places):
    """`express.Answer`, of a result by itself."""
    return places.description, places.rows, places.tag, places.end, 0


cdef bytes _with_sync(bytes data, Py_ssize_t start, Py_ssize_t stop):
    """An execution as the request it would be by itself."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, stop - start + SYNC)
    memcpy(PyBytes_AS_STRING(out), PyBytes_AS_STRING(data) + start, stop - start)
    memcpy(PyBytes_AS_STRING(out) + stop - start, b"S\0\0\0\x04", SYNC)
    return out


cdef bytes _without_sync(bytes request):
    return cut(request, 0, PyBytes_GET_SIZE(request) - SYNC)
