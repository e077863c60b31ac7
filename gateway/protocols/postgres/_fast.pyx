# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of `frames.scan_frames`, `datarow.count_rows` and `datarow.mask_rows`: same promises, same errors.

Everything a peer says about lengths is checked before a byte is read or copied by it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy

from gateway.protocols.postgres.violation import ProtocolViolation

cdef enum:
    DATA_ROW = 0x44


cdef inline uint32_t _uint32(const unsigned char *at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | <uint32_t>at[3]


cdef inline void _put_uint32(unsigned char *at, uint32_t value) noexcept nogil:
    at[0] = value >> 24
    at[1] = (value >> 16) & 0xFF
    at[2] = (value >> 8) & 0xFF
    at[3] = value & 0xFF


def scan_frames(bytes data not None, limit):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0
    cdef uint32_t length, most = limit
    while size - at >= 5:
        length = _uint32(raw + at + 1)
        if length < 4:
            raise ProtocolViolation(f"message length {length}, expected at least 4")
        if length > most:
            raise ProtocolViolation(f"message length {length}, expected no more than {most}")
        if at + 1 + <Py_ssize_t>length > size:
            return at, 1 + <Py_ssize_t>length
        at += 1 + <Py_ssize_t>length
    return at, 5


def count_rows(bytes data not None, Py_ssize_t at, Py_ssize_t end):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t rows = 0, stop
    if at < 0 or end > PyBytes_GET_SIZE(data):
        raise ProtocolViolation("a run of rows outside its bytes")
    while at < end and raw[at] == DATA_ROW:
        stop = at + 1 + <Py_ssize_t>_uint32(raw + at + 1) if end - at >= 5 else end + 1
        if stop > end or stop - at < 5:
            raise ProtocolViolation("a row that is not whole")
        at = stop
        rows += 1
    return at, rows


cdef class _Out:
    """A growing buffer; freed whatever happens."""

    cdef unsigned char *start
    cdef Py_ssize_t size, room

    def __cinit__(self, Py_ssize_t room):
        self.room = room if room > 256 else 256
        self.size = 0
        self.start = <unsigned char *>malloc(self.room)
        if self.start is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.start)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef unsigned char *moved
        cdef Py_ssize_t room = self.room
        if self.size + more <= room:
            return 0
        while room < self.size + more:
            room *= 2
        moved = <unsigned char *>realloc(self.start, room)
        if moved is NULL:
            raise MemoryError
        self.start, self.room = moved, room
        return 0

    cdef int put(self, const unsigned char *raw, Py_ssize_t size) except -1:
        self.reserve(size)
        memcpy(self.start + self.size, raw, size)
        self.size += size
        return 0

    cdef int put_length(self, uint32_t value) except -1:
        self.reserve(4)
        _put_uint32(self.start + self.size, value)
        self.size += 4
        return 0


def mask_rows(bytes data not None, Py_ssize_t at, Py_ssize_t end, *, int width, masks, list counts not None):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t rows = 0, stop
    cdef tuple columns = tuple(masks)
    cdef _Out out = _Out(end - at + (end - at) // 8)
    if at < 0 or end > PyBytes_GET_SIZE(data):
        raise ProtocolViolation("a run of rows outside its bytes")
    while at < end and raw[at] == DATA_ROW:
        stop = at + 1 + <Py_ssize_t>_uint32(raw + at + 1) if end - at >= 5 else end + 1
        if stop > end or stop - at < 7 or ((raw[at + 5] << 8) | raw[at + 6]) != width:
            raise ProtocolViolation("a row does not have the columns that were described")
        _mask_row(out, raw, at, stop, width, columns, counts)
        at = stop
        rows += 1
    return at, rows, PyBytes_FromStringAndSize(<char *>out.start, out.size)


cdef int _mask_row(
    _Out out, const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop, int width, tuple columns, list counts
) except -1:
    cdef Py_ssize_t kept = at + 7, cursor = at + 7, begin = out.size, after, number = 0, total = len(columns)
    cdef Py_ssize_t wanted = columns[0][0] if total else -1
    cdef int index
    cdef int32_t length
    cdef tuple column
    cdef object value, masked
    out.put(raw + at, 7)
    for index in range(width):
        if cursor + 4 > stop:
            raise ProtocolViolation("the lengths of a row's values do not add up")
        length = <int32_t>_uint32(raw + cursor)
        if length < -1 or (length > 0 and length > stop - cursor - 4):
            raise ProtocolViolation("the lengths of a row's values do not add up")
        after = cursor + 4 + (length if length > 0 else 0)
        if index == wanted:
            column = columns[number]
            out.put(raw + kept, cursor - kept)
            value = None if length < 0 else PyBytes_FromStringAndSize(<const char *>raw + cursor + 4, length)
            masked = column[1](value)
            if (masked != value) if column[2] else value is not None:
                counts[index] = counts[index] + 1
            if masked is None:
                out.put_length(0xFFFFFFFF)
            else:
                _put_value(out, masked)
            kept = after
            number += 1
            wanted = columns[number][0] if number < total else -1
        cursor = after
    if cursor != stop or number != total:  # a mask that found no column must not be forgotten
        raise ProtocolViolation("the lengths of a row's values do not add up")
    out.put(raw + kept, stop - kept)
    _put_uint32(out.start + begin + 1, <uint32_t>(out.size - begin - 1))
    return 0


cdef int _put_value(_Out out, bytes masked) except -1:
    out.put_length(<uint32_t>PyBytes_GET_SIZE(masked))
    out.put(<const unsigned char *>PyBytes_AS_STRING(masked), PyBytes_GET_SIZE(masked))
    return 0


# --- express.py -------------------------------------------------------------------------------------------------------

cdef bytes _TAIL = b"D\0\0\0\x06P\0" + b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\x04"
cdef tuple _NOTHING = ()


cdef inline uint32_t _uint16(const unsigned char *at) noexcept nogil:
    return (<uint32_t>at[0] << 8) | <uint32_t>at[1]


cdef inline bint _is(const unsigned char *at, unsigned char kind, uint32_t length) noexcept nogil:
    return at[0] == kind and _uint32(at + 1) == length


cdef Py_ssize_t _zero(const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop) noexcept:
    """Where the string starting at `at` ends, or -1 when that is not before `stop`."""
    cdef const void *found
    if at >= stop:
        return -1
    found = memchr(raw + at, 0, stop - at)
    return -1 if found is NULL else <const unsigned char *>found - raw


cdef bytes _cut(const unsigned char *raw, Py_ssize_t start, Py_ssize_t stop):
    return PyBytes_FromStringAndSize(<const char *>raw + start, stop - start)


def read_query(bytes data not None):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if size < 6 or not _is(raw, 0x51, <uint32_t>(size - 1)) or _zero(raw, 5, size) != size - 1:
        return None
    return _cut(raw, 5, size - 1)


cdef tuple _codes(const unsigned char *raw, Py_ssize_t *at, Py_ssize_t stop):
    """Format codes; None when they are not whole, or others than 0 and 1."""
    cdef Py_ssize_t count, number
    cdef list codes
    if at[0] + 2 > stop:
        return None
    count = _uint16(raw + at[0])
    at[0] += 2
    if at[0] + 2 * count > stop:
        return None
    if count == 0:
        return _NOTHING
    codes = []
    for number in range(count):
        if _uint16(raw + at[0]) > 1:
            return None
        codes.append(<int>_uint16(raw + at[0]))
        at[0] += 2
    return tuple(codes)


cdef tuple _parameters(const unsigned char *raw, Py_ssize_t *at, Py_ssize_t stop):
    cdef Py_ssize_t count, number
    cdef int32_t size
    cdef list values = []
    if at[0] + 2 > stop:
        return None
    count = _uint16(raw + at[0])
    at[0] += 2
    for number in range(count):
        if at[0] + 4 > stop:
            return None
        size = <int32_t>_uint32(raw + at[0])
        at[0] += 4
        if size == -1:
            values.append(None)
            continue
        if size < -1 or size > stop - at[0]:
            return None
        values.append(_cut(raw, at[0], at[0] + size))
        at[0] += size
    return tuple(values)


def read_extended(bytes data not None):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), tail = PyBytes_GET_SIZE(_TAIL)
    cdef Py_ssize_t at = 0, end, place, stop = size - tail
    cdef object text = None
    cdef tuple types = _NOTHING, formats, parameters, result_formats
    cdef bytes name
    if stop < 12 or memcmp(raw + stop, PyBytes_AS_STRING(_TAIL), tail) != 0:
        return None
    if raw[0] == 0x50:
        at = 1 + <Py_ssize_t>_uint32(raw + 1)
        if at > stop or at < 9 or raw[5] != 0:
            return None
        end = _zero(raw, 6, at)
        if end < 0 or end + 3 > at or end + 3 + 4 * <Py_ssize_t>_uint16(raw + end + 1) != at:
            return None
        text = _cut(raw, 6, end)
        types = tuple([_uint32(raw + place) for place in range(end + 3, at, 4)])
    if stop - at < 12 or raw[at] != 0x42 or at + 1 + <Py_ssize_t>_uint32(raw + at + 1) != stop or raw[at + 5] != 0:
        return None
    end = _zero(raw, at + 6, stop)
    if end < 0 or (text is not None and end != at + 6):
        return None
    name = _cut(raw, at + 6, end)
    at = end + 1
    formats = _codes(raw, &at, stop)
    parameters = None if formats is None else _parameters(raw, &at, stop)
    result_formats = None if parameters is None else _codes(raw, &at, stop)
    if result_formats is None or at != stop or (len(formats) > 1 and len(formats) != len(parameters)):
        return None
    return name, text, types, formats, parameters, result_formats


def read_answer(bytes data not None, *, bint parsed):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, description, rows, end
    cdef uint32_t length
    if parsed:
        if size < 5 or not _is(raw, 0x31, 4):
            return None
        at = 5
    if size - at < 22 or not _is(raw + at, 0x32, 4) or raw[at + 5] != 0x54:
        return None
    description = at + 5
    at = rows = description + 1 + <Py_ssize_t>_uint32(raw + description + 1)
    while size - at >= 11 and raw[at] == 0x44:
        length = _uint32(raw + at + 1)
        at += 1 + <Py_ssize_t>(length if length > 4 else 4)
    if size - at < 11 or raw[at] != 0x43:
        return None
    end = at + 1 + <Py_ssize_t>_uint32(raw + at + 1)
    if end != size - 6 or end < at + 6 or raw[end - 1] != 0 or not _is(raw + end, 0x5A, 5):
        return None
    if raw[size - 1] != 0x49 and raw[size - 1] != 0x54:
        return None
    return description, rows, at, end, <int>raw[size - 1]
