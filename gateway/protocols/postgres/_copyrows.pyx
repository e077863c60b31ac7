# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of `copyrows.count_copied` and of `CopyMasker.run`, in the three formats: same bytes, same counts.

A message that is not one whole row of the usual kind (a header, a trailer, a row nobody can tell apart) is left to the
masker's own `feed`, which knows it or refuses it. So are the values of fields with escapes or quotes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy

from gateway.protocols.postgres._fast cimport Column, Columns, Out, mask_row
from masking.engines._fast cimport FastMask

from gateway.protocols.postgres.violation import ProtocolViolation

cdef enum:
    COPY_DATA = 0x64
    HEAD = 5  # bytes of a frame before its body


cdef inline uint32_t _uint32(const unsigned char *at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | <uint32_t>at[3]


cdef inline Py_ssize_t _stop(const unsigned char *raw, Py_ssize_t at, Py_ssize_t end) except -1:
    """Where the frame there ends."""
    cdef Py_ssize_t stop = at + 1 + <Py_ssize_t>_uint32(raw + at + 1) if end - at >= HEAD else end + 1
    if stop > end or stop - at < HEAD:
        raise ProtocolViolation("a copied row that is not whole")
    return stop


cdef int _check(bytes data, Py_ssize_t at, Py_ssize_t end) except -1:
    if at < 0 or end > PyBytes_GET_SIZE(data):
        raise ProtocolViolation("a run of rows outside its bytes")
    return 0


def count_copied(bytes data not None, Py_ssize_t at, Py_ssize_t end):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t rows = 0
    _check(data, at, end)
    while at < end and raw[at] == COPY_DATA:
        at = _stop(raw, at, end)
        rows += 1
    return at, rows


cdef class CopyRun:
    """The rows of one COPY. `masker` is what it is the twin of."""

    cdef object masker
    cdef Columns columns
    cdef list counts
    cdef int width
    cdef bint began  # whatever is first in a COPY may be a header

    def __init__(self, masker not None, masks not None, list counts not None, int width):
        if width < 1 or len(counts) < width:
            raise ValueError(f"{len(counts)} counts of {width} columns")
        self.masker, self.counts, self.width = masker, counts, width
        self.columns, self.began = Columns(masks), False

    def run(self, bytes data not None, Py_ssize_t at, Py_ssize_t end):
        cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
        cdef Out out = Out(end - at + (end - at) // 8)
        cdef Py_ssize_t rows = 0, stop, begin
        _check(data, at, end)
        try:
            while at < end and raw[at] == COPY_DATA:
                stop = _stop(raw, at, end)
                begin = out.size
                if self.began and self.row(out, raw, at, stop):
                    rows += 1
                else:
                    out.size = begin
                    rows += self.fed(out, data[at + HEAD : stop])
                self.began = True
                at = stop
        finally:
            self.columns.tell(self.counts)
        return at, rows, PyBytes_FromStringAndSize(<const char *>out.start, out.size)

    cdef bint row(self, Out out, const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop) except -1:
        """Put one frame masked. False: nothing was counted, and the masker has to."""
        return False

    cdef Py_ssize_t fed(self, Out out, bytes body) except -1:
        cdef object masked, rows
        cdef Py_ssize_t begin = out.size
        masked, rows = self.masker.feed(body)
        out.reserve(HEAD)
        out.copy(<const unsigned char *>b"d\0\0\0\0", HEAD)
        out.put(<const unsigned char *>PyBytes_AS_STRING(<bytes?>masked), PyBytes_GET_SIZE(<bytes>masked))
        _frame(out, begin)
        return rows


cdef inline void _frame(Out out, Py_ssize_t begin) noexcept:
    """Write the length of the frame that begins there and ends here."""
    cdef Py_ssize_t end = out.size
    out.size = begin + 1
    out.length(<uint32_t>(end - begin - 1))
    out.size = end


cdef class BinaryRun(CopyRun):
    """A tuple is what the body of a DataRow is."""

    cdef bint row(self, Out out, const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop) except -1:
        if not self.is_whole(raw, at + HEAD, stop):
            return False
        mask_row(out, raw, at, stop, self.width, self.columns, self.counts)
        return True

    cdef bint is_whole(self, const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop) noexcept:
        """Whether there is one tuple of as many fields as were described, and nothing behind it."""
        cdef int left = self.width
        cdef uint32_t length
        if stop - at < 2 or ((raw[at] << 8) | raw[at + 1]) != left:
            return False
        at += 2
        while left and stop - at >= 4:
            length = _uint32(raw + at)
            at += 4
            if length != 0xFFFFFFFF:
                if length > <uint32_t>(stop - at):
                    return False
                at += length
            left -= 1
        return not left and at == stop


cdef class FieldRun(CopyRun):
    """Of the formats whose fields stand between delimiters."""

    cdef unsigned char delimiter
    cdef bytes null
    cdef bint special[256]  # what a value may not hold to stand as it is
    cdef Py_ssize_t *starts  # of the row's fields, and where they end
    cdef Py_ssize_t *ends
    cdef list spelled  # constants, as the format writes them
    cdef Py_ssize_t extra

    def __cinit__(self):
        self.starts = self.ends = NULL

    def __init__(self, masker not None, masks not None, list counts not None, int width):
        cdef Py_ssize_t number
        cdef Column *column
        cdef bytes spelled
        CopyRun.__init__(self, masker, masks, counts, width)
        self.delimiter, self.null = ord(masker.delimiter), <bytes?>masker.null
        for number in range(256):
            self.special[number] = False
        for number in masker.special:
            self.special[number] = True
        self.starts = <Py_ssize_t *>malloc(width * sizeof(Py_ssize_t))
        self.ends = <Py_ssize_t *>malloc(width * sizeof(Py_ssize_t))
        if self.starts is NULL or self.ends is NULL:
            raise MemoryError
        self.spelled, self.extra = [], self.columns.extra
        for number in range(self.columns.count):
            column = self.columns.all + number
            self.extra += PyBytes_GET_SIZE(self.null)
            if column.constant and not column.is_null:
                spelled = <bytes?>masker.spelled(PyBytes_FromStringAndSize(<const char *>column.value, column.size))
                self.spelled.append(spelled)
                column.value = <const unsigned char *>PyBytes_AS_STRING(spelled)
                column.size = PyBytes_GET_SIZE(spelled)
                self.extra += column.size

    def __dealloc__(self):
        free(self.starts)
        free(self.ends)

    cdef bint row(self, Out out, const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop) except -1:
        cdef Py_ssize_t end = stop - 1 if raw[stop - 1] == 0x0A and stop - at > HEAD else stop
        cdef Py_ssize_t begin = out.size, kept = at, number
        cdef Column *column
        if not self.told_apart(raw, at + HEAD, end):
            return False
        out.reserve(stop - at + self.extra)
        for number in range(self.columns.count):
            column = self.columns.all + number
            out.copy(raw + kept, self.starts[column.index] - kept)
            kept = self.ends[column.index]
            self.field(out, raw, self.starts[column.index], kept, column, number)
            out.reserve(stop - kept + self.extra)
        out.copy(raw + kept, stop - kept)
        _frame(out, begin)
        return True

    cdef bint told_apart(self, const unsigned char *raw, Py_ssize_t at, Py_ssize_t end) noexcept:
        """Whether there are as many fields as were described: between `starts` and `ends`."""
        return False

    cdef bint stands(self, const unsigned char *raw, Py_ssize_t size) noexcept:
        """Whether a value is written as it is."""
        cdef Py_ssize_t at
        for at in range(size):
            if self.special[raw[at]]:
                return False
        return True

    cdef inline bint is_null(self, const unsigned char *raw, Py_ssize_t size) noexcept:
        return size == PyBytes_GET_SIZE(self.null) and memcmp(raw, PyBytes_AS_STRING(self.null), size) == 0

    cdef int field(
        self, Out out, const unsigned char *raw, Py_ssize_t start, Py_ssize_t end, Column *column, Py_ssize_t number
    ) except -1:
        """Put what stands in the place of one field; there is room for constants, NULL and what compiled masks make."""
        cdef bint null = self.is_null(raw + start, end - start)
        cdef Py_ssize_t size
        cdef const unsigned char *made
        cdef object value, masked
        if column.constant:
            column.counted += not null
            if column.is_null or (null and column.keeps_null):
                return self.put_null(out)
            out.copy(column.value, column.size)
            return 0
        if column.fast is not NULL and null:
            return self.put_null(out)
        if column.fast is not NULL and self.stands(raw + start, end - start):
            made = out.start + out.size
            size = (<FastMask>column.fast).put(raw + start, end - start, <unsigned char *>made)
            if size >= 0:
                if column.only_changed and size == end - start and memcmp(made, raw + start, size) == 0:
                    out.size += size
                    return 0
                column.counted += 1
                if self.stands(made, size) and not self.is_null(made, size):
                    out.size += size
                    return 0
                return self.put(out, PyBytes_FromStringAndSize(<const char *>made, size))
        value = None
        if not null:
            value = PyBytes_FromStringAndSize(<const char *>raw + start, end - start)
            if not self.stands(raw + start, end - start):
                value = self.masker.value_of(value)
        masked = self.columns.functions[number](value)
        if column.only_changed and masked == value:
            out.put(raw + start, end - start)
            return 0
        column.counted += column.only_changed or value is not None
        return self.put_null(out) if masked is None else self.put(out, <bytes?>masked)

    cdef int put_null(self, Out out) except -1:
        return out.put(<const unsigned char *>PyBytes_AS_STRING(self.null), PyBytes_GET_SIZE(self.null))

    cdef int put(self, Out out, bytes value) except -1:
        cdef bytes spelled = value
        cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(value)
        if not self.stands(raw, PyBytes_GET_SIZE(value)) or self.is_null(raw, PyBytes_GET_SIZE(value)):
            spelled = <bytes?>self.masker.spelled(value)
        return out.put(<const unsigned char *>PyBytes_AS_STRING(spelled), PyBytes_GET_SIZE(spelled))


cdef class TextRun(FieldRun):
    cdef bint told_apart(self, const unsigned char *raw, Py_ssize_t at, Py_ssize_t end) noexcept:
        cdef int number = 0
        self.starts[0] = at
        while at < end:
            if raw[at] == 0x5C:  # with what it escapes
                at += 2
            elif raw[at] == self.delimiter:
                self.ends[number] = at
                number += 1
                at += 1
                if number == self.width:
                    return False
                self.starts[number] = at
            else:
                at += 1
        if at > end:  # a backslash at the end escapes nothing
            return False
        self.ends[number] = end
        return number + 1 == self.width


cdef class CsvRun(FieldRun):
    cdef unsigned char quote, escape

    def __init__(self, masker not None, masks not None, list counts not None, int width):
        FieldRun.__init__(self, masker, masks, counts, width)
        self.quote, self.escape = ord(masker.quote), ord(masker.escape)

    cdef bint told_apart(self, const unsigned char *raw, Py_ssize_t at, Py_ssize_t end) noexcept:
        cdef int number = 0
        cdef const void *found
        while True:
            self.starts[number] = at
            if at < end and raw[at] == self.quote:
                at = self.closed(raw, at + 1, end)
                if at < 0 or (at < end and raw[at] != self.delimiter):
                    return False
            else:
                found = memchr(raw + at, self.delimiter, end - at)
                at = end if found is NULL else <const unsigned char *>found - raw
            self.ends[number] = at
            number += 1
            if at == end:
                return number == self.width
            if number == self.width:
                return False
            at += 1

    cdef Py_ssize_t closed(self, const unsigned char *raw, Py_ssize_t at, Py_ssize_t end) noexcept:
        """Behind the quote that ends the field; -1: none does."""
        while at < end:
            if raw[at] == self.escape and at + 1 < end and (raw[at + 1] == self.quote or raw[at + 1] == self.escape):
                at += 2
            elif raw[at] == self.quote:
                return at + 1
            else:
                at += 1
        return -1
