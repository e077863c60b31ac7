cimport cython

from audit.domain._fast cimport Filling
from gateway.listeners.quick.entries cimport Entries
from gateway.listeners.quick.passage cimport Lane, Passage
from gateway.listeners.quick.requests cimport Requests
from gateway.listeners.quick.sparing cimport Sparing
from gateway.protocols.postgres._fast cimport Answer
from gateway.protocols.postgres.state cimport (
    ClientState, MeaningState, NamesState, RelayState, SessionState, TurnsState, UpstreamState
)
from gateway.session.state cimport ContextState, KnownState, RecurringState, SnapshotState, ViewState


@cython.final
cdef class QuickLane(Lane):
    cdef readonly Sparing sparing
    cdef Requests requests
    cdef Entries entries
    cdef SessionState session
    cdef ClientState client
    cdef UpstreamState upstream
    cdef RelayState relay
    cdef MeaningState meaning
    cdef NamesState statements, portals
    cdef TurnsState turns
    cdef SnapshotState fresh  # None: rules of another make, which are asked
    cdef ContextState context
    cdef object snapshots, recordings, keep_portal, otherwise
    cdef Passage under_way
    cdef bytes tag  # that came last, so that the same one is not made again
    cpdef bint request(self, bytes data) except -1
    cdef bint rests(self) except -1
    cdef object rules(self, double now)
    cdef bint holds(self, RecurringState recurring, double now) except -1
    cdef bint record(self, Passage passage, bytes spelled, double now) except -1
    cdef bint defer(self, Passage passage, Filling filling) except -1
    cdef object postpone(self, Passage passage)
    cdef bint answered(self, Passage passage, bytes data) except -1
    cdef bint is_whole(self, Passage passage, bytes data) except -1
    cdef bint again(self, Passage passage, bytes data, double now) except -1
    cdef ViewState viewed(self, KnownState known, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef bint rules_stand(self, Passage passage, double now) except -1
    cdef bint may_keep(self, Passage passage, Answer *places) except -1
    cdef int keep(self, Passage passage, bytes rows) except -1
    cdef bytes shown(self, Passage passage, bytes data, Answer *places)
    cdef bytes masked(self, Passage passage, bytes data, Answer *places)
    cdef int ready(self, bint open, bint control) except -1
