cimport cython

from audit.domain._fast cimport Alike, Filling
from gateway.listeners.quick.passage cimport Passage
from gateway.session.state cimport ContextState, MeterState, TallyState


@cython.final
cdef class Entries:
    cdef ContextState context
    cdef MeterState meter
    cdef TallyState tally
    cdef Alike alike
    cdef object record
    cdef Filling begun(self, Passage passage, bytes spelled)
    cdef bint authorise(self, Passage passage, Filling filling) except -1
    cdef bint authorise_soon(self, Passage passage, Filling filling) except -1
    cdef int authorise_slowly(self, Passage passage, Filling filling) except -1
    cdef double complete(self, Passage passage) except -1
    cdef double count(self, Passage passage) except -1
