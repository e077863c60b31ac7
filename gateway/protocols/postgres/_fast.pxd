cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t


cdef struct Answer:
    Py_ssize_t description, rows, tag, end
    int state


# Places in a request: its Parse's text ends at `text_end` (0: it has none) and its types at `types_end`; the name of the
# statement; the counts before format codes, parameters and format codes of results.
cdef struct Request:
    Py_ssize_t text_end, types_end, name, name_end, formats, parameters, results
    bint described


cdef inline bytes cut(bytes data, Py_ssize_t start, Py_ssize_t stop):
    """`data[start:stop]` of places that are there, without a slice made of them."""
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, stop - start)


cdef uint32_t frame_length(bytes data, Py_ssize_t at) noexcept
cdef bint same_bytes(bytes known, bytes data, Py_ssize_t start, Py_ssize_t stop) noexcept
cdef bytes query_text(bytes data)
cdef bytes blanked(bytes text)
cdef bytes bound_integers(bytes text)
cdef tuple request(bytes data)
cdef bint find_request(bytes data, Request *found) noexcept
cdef bytes describing(bytes data)
cdef bytes request_text(bytes data, Request *found)
cdef tuple request_types(bytes data, Request *found)
cdef tuple codes(bytes data, Py_ssize_t at)
cdef bytes hexed_between(bytes head, bytes data, Py_ssize_t at, bytes tail)
cdef bint find_answer(bytes data, bint parsed, bint bound, Answer *found) except -1
cdef bint find_result(bytes data, Py_ssize_t at, bint bound, Answer *found) noexcept
cdef Py_ssize_t execution_end(bytes data, Py_ssize_t at) noexcept
cdef Py_ssize_t scan(bytes data, uint32_t most, Py_ssize_t at, Py_ssize_t size, Py_ssize_t *wanted) except -1
cdef Py_ssize_t count(bytes data, Py_ssize_t at, Py_ssize_t end, Py_ssize_t *rows) except -1
cdef tuple mask(bytes data, Py_ssize_t at, Py_ssize_t end, int width, tuple masks, list counts)

@cython.final
cdef class Out:
    cdef unsigned char *start
    cdef Py_ssize_t size, room
    cdef int reserve(self, Py_ssize_t more) except -1
    cdef int put(self, const unsigned char *raw, Py_ssize_t size) except -1
    cdef void copy(self, const unsigned char *raw, Py_ssize_t size) noexcept
    cdef void length(self, uint32_t value) noexcept


cdef struct Column:
    Py_ssize_t index
    bint constant  # then `value` stands in every row: no function is called
    bint keeps_null
    bint is_null
    bint only_changed
    const unsigned char *value
    Py_ssize_t size
    PyObject *fast  # a FastMask, asked before the function; NULL
    Py_ssize_t counted


cdef class Columns:
    cdef Column *all
    cdef Py_ssize_t count, extra  # bytes that constants, and what compiled masks make, take in one row at most
    cdef list functions, kept
    cdef int tell(self, list counts) except -1


cdef int mask_row(
    Out out, const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop, int width, Columns columns, list counts
) except -1
