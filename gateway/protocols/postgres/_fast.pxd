from libc.stdint cimport uint32_t


cdef struct Answer:
    Py_ssize_t description, rows, tag, end
    int state


cdef bytes query_text(bytes data)
cdef bytes blanked(bytes text)
cdef tuple request(bytes data)
cdef bint find_answer(bytes data, bint parsed, bint bound, Answer *found) except -1
cdef Py_ssize_t scan(bytes data, uint32_t most, Py_ssize_t at, Py_ssize_t size, Py_ssize_t *wanted) except -1
cdef Py_ssize_t count(bytes data, Py_ssize_t at, Py_ssize_t end, Py_ssize_t *rows) except -1
cdef tuple mask(bytes data, Py_ssize_t at, Py_ssize_t end, int width, tuple masks, list counts)
