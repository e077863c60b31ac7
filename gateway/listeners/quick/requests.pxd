cimport cython

from gateway.listeners.quick.passage cimport Lane, Passage
from gateway.listeners.quick.sparing cimport Sparing
from gateway.protocols.postgres._fast cimport Request
from gateway.protocols.postgres.state cimport NamesState, PreparedState
from gateway.session.state cimport RecurringState


@cython.final
cdef class Requests:
    cdef Lane lane
    cdef NamesState statements
    cdef Sparing sparing
    cdef dict queries, texts
    cdef bytes _text  # of the Query that was read last; of the last request that was none,
    cdef Request _places  # what stands where in it
    cdef bytes _asked  # the name that was asked for last, and
    cdef str _name  # the same as the names have it
    cdef Passage read(self, bytes data)
    cdef Passage query(self, bytes data)
    cdef Passage bound(self, bytes data)
    cdef Passage made(self, bytes data)
    cdef PreparedState confirmed(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef PreparedState unnamed(self, RecurringState recurring, tuple types)
    cdef bytes spelled(self, Passage passage)
