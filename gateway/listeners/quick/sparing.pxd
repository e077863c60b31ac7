cimport cython

from gateway.listeners.quick.passage cimport Passage
from gateway.protocols.postgres.state cimport NamesState, PreparedState, RelayState, UpstreamState
from gateway.session.state cimport RecurringState


@cython.final
cdef class Sparing:
    cdef NamesState statements
    cdef RelayState relay
    cdef UpstreamState upstream
    cdef PreparedState made  # was confirmed as the unnamed statement; None while it is not certain, and
    cdef RecurringState template  # the same of what stands in for simple queries of its shape
    cdef PreparedState _doubted_made
    cdef RecurringState _doubted_template
    cdef double made_at  # when either was parsed
    cdef public double most_reused_s, most_reused_run_s
    cdef bytes outgoing(self, Passage passage, double now)
    cdef bint stands(self, double now) except -1
    cdef int sent(self, Passage passage, double now) except -1
    cdef int doubt(self) except -1
    cdef Py_ssize_t refusal(self, Passage passage, bytes data) except -1
    cdef int sent_as_it_came(self, Passage passage, double now) except -1
    cdef int answered(self, Passage passage, double seconds) except -1
    cdef int make_template(self, Passage passage) except -1
    cdef int confirm(self, PreparedState statement) except -1
    cdef bytes as_asked(self, Passage passage, bytes answer, Py_ssize_t description, Py_ssize_t rows)
