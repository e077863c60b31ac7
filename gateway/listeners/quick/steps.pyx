# cython: language_level=3, boundscheck=False, cdivision=True
"""Pipelines: many executions, Bind [Describe] Execute each, sent one behind the other before a Sync ends them all.

What the lane does with a whole request is done with each of them here: it is looked up, asked whether it still holds,
recorded, and only then sent. Its place is in the relay's queue, among whatever else is expected, where it stands for
its ordinary expectations and becomes them as soon as anything is not as usual (`Relay.unfold`).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from audit.domain._fast cimport Filling
from gateway.listeners.quick.clock cimport monotonic
from gateway.listeners.quick.lane cimport QuickLane
from gateway.listeners.quick.passage cimport Passage
from gateway.protocols.postgres._fast cimport Answer, cut, execution_end, find_result
from gateway.protocols.postgres.state cimport MeaningState, RelayState, SessionState
from gateway.session.state cimport KnownState

cdef enum:
    SYNC = 5  # bytes
    MOST_A_CALL = 64  # `postgres_asking.MOST_A_TURN`
    MOST_EXPECTED = 5_000  # half of what `postgres_session` lets be expected, and kept until it is answered:
    MOST_BYTES = 8_192  # requests of so many bytes each at most


cdef class Steps:
    """One session's, beside its `lane`. `recall(data)` looks anew whether what `data` asks for is remembered."""

    cdef QuickLane lane
    cdef SessionState session
    cdef RelayState relay
    cdef MeaningState meaning
    cdef object plans, recall

    def __init__(self, QuickLane lane not None, recall):
        self.lane, self.recall = lane, recall
        self.session, self.relay, self.meaning = lane.session, lane.relay, lane.meaning
        self.plans = (<object>lane.session).plans

    # --- requests ---

    cpdef Py_ssize_t arrived(self, bytes data) except -1:
        """`serve`, where the session's task has nothing to do first."""
        if not self.session.resting or self.session._outgoing:
            return 0
        return self.serve(data)

    cpdef Py_ssize_t serve(self, bytes data) except -1:
        """Send the executions that `data`, whole frames, begins with; returns where they end. The rest was not looked at."""
        cdef Py_ssize_t at = 0, sent = 0, end, count = 0
        cdef list out
        cdef object names
        cdef Passage passage
        if not execution_end(data, 0) or not self.may_send():
            return 0
        out, names = [], self.plans.names
        if self.relay._exchange is not None:
            (<object>self.relay).unfold()
        while count < MOST_A_CALL:
            end = execution_end(data, at)
            passage = self.recorded(_with_sync(data, at, end)) if 0 < end - at <= MOST_BYTES else None
            if passage is None:
                break
            passage.is_step, passage.names = True, names
            self.relay._queue.append(passage)
            self.relay._steps += 1
            count += 1
            if passage.undescribed:
                if at > sent:
                    out.append(cut(data, sent, at))
                out.append(_without_sync(passage.whole()))
                sent = end
            at = end
        if at > sent:
            out.append(cut(data, sent, at))
        if out:
            self.session.at_boundary = False
            self.session._outgoing.append(out[0] if len(out) == 1 else b"".join(out))
            (<object>self.session).flush()
        return at

    cdef bint may_send(self) except -1:
        """Whether the session is where the ordinary way would send a remembered statement without waiting for anything."""
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
            and session.can_send
            and len(self.relay._queue) < MOST_EXPECTED
            and self.plans.fresh
        )

    cdef Passage recorded(self, bytes data):
        """The execution that `data` asks for, as one request, once it may be sent; None: it is left to the ordinary way."""
        cdef Passage passage
        cdef Filling filling
        cdef bytes spelled
        cdef double now = monotonic()
        try:
            passage = self.remembered(data, now)
            spelled = None if passage is None else self.lane.requests.spelled(passage)
            if spelled is None:
                return None
            filling = self.lane.entries.begun(passage, spelled)
            if not self.lane.entries.authorise(passage, filling):
                return None
        except Exception:  # fail closed: the long way tries again, and refuses with the reason
            return None
        self.lane.meter.remembered += 1
        self.session._last_activity = now
        return passage

    cdef Passage remembered(self, bytes data, double now):
        cdef Passage passage = self.lane.requests.read(data)
        cdef KnownState known
        if passage is None or not self.lane.holds(passage.recurring, now):
            passage = self.lane.requests.read(data) if self.recall(data) else None
            if passage is None or not self.lane.holds(passage.recurring, now):
                return None
        known = passage.recurring.known
        return None if passage.recurring.waits or known.control or known.quiet is not True else passage

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
            shown = self.accounted(passage, data, &places, now)
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
            if passage.view is not None and lane.rules_stand(passage, now):
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
