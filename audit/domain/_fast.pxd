from libc.stdint cimport int64_t

from audit.domain.state cimport LiveState, ServingState, WriterState


cdef class Filling:
    cdef public str statement_id
    cdef bytes quoted_id  # instead of it, in canonical form
    cdef public tuple values
    cdef public object sensitive, spelled
    cdef public int64_t at_us


cdef class Alike:
    cdef LiveState live
    cdef WriterState writer
    cdef ServingState serving
    cdef Py_ssize_t most_told
    cdef bint put(self, template, Filling filling, whole, bint begins) except -1
    cdef bint put_soon(self, template, Filling filling, reached) except -1
    cdef int tell(self, whole) except -1


cdef str new_id(int64_t millis)
cdef bytes new_quoted_id(int64_t millis)
cdef Filling new_filling(bytes quoted_id, tuple values, bytes spelled, int64_t at_us)
