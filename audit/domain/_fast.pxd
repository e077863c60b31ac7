from libc.stdint cimport int64_t


cdef class Filling:
    cdef public str statement_id
    cdef public tuple values
    cdef public object sensitive, spelled
    cdef public int64_t at_us


cdef class Alike:
    cdef object live, writer, serving
    cdef Py_ssize_t most_told
    cdef bint put(self, template, Filling filling, whole, bint begins) except -1
    cdef bint put_soon(self, template, Filling filling, reached) except -1
    cdef int tell(self, whole) except -1


cdef str new_id(int64_t millis)
