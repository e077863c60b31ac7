# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of `frames.scan_frames`, `datarow.count_rows` and `datarow.mask_rows`: same promises, same errors.

Everything a peer says about lengths is checked before a byte is read or copied by it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy

from masking.engines._fast cimport FastMask

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


def scan_frames(bytes data not None, limit, Py_ssize_t at=0, stop=None):
    cdef Py_ssize_t wanted
    at = scan(data, limit, at, PyBytes_GET_SIZE(data) if stop is None else min(<Py_ssize_t>stop, PyBytes_GET_SIZE(data)), &wanted)
    return at, wanted


cdef Py_ssize_t scan(bytes data, uint32_t most, Py_ssize_t at, Py_ssize_t size, Py_ssize_t *wanted) except -1:
    """`frames.scan_frames` up to `size`, which is no more than there is."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef uint32_t length
    wanted[0] = 5
    if at < 0:
        raise ValueError("a place before the data")
    while size - at >= 5:
        length = _uint32(raw + at + 1)
        if length < 4:
            raise ProtocolViolation(f"message length {length}, expected at least 4")
        if length > most:
            raise ProtocolViolation(f"message length {length}, expected no more than {most}")
        if at + 1 + <Py_ssize_t>length > size:
            wanted[0] = 1 + <Py_ssize_t>length
            return at
        at += 1 + <Py_ssize_t>length
    return at


cdef uint32_t frame_length(bytes data, Py_ssize_t at) noexcept:
    """Of the frame there, as the frame says; it is whole."""
    return _uint32(<const unsigned char *>PyBytes_AS_STRING(data) + at + 1)


cdef bint same_bytes(bytes known, bytes data, Py_ssize_t start, Py_ssize_t stop) noexcept:
    """Whether `known` is what `data` has there."""
    return (
        known is not None
        and PyBytes_GET_SIZE(known) == stop - start
        and memcmp(PyBytes_AS_STRING(known), PyBytes_AS_STRING(data) + start, stop - start) == 0
    )


def count_rows(bytes data not None, Py_ssize_t at, Py_ssize_t end):
    cdef Py_ssize_t rows = 0
    at = count(data, at, end, &rows)
    return at, rows


cdef Py_ssize_t count(bytes data, Py_ssize_t at, Py_ssize_t end, Py_ssize_t *rows) except -1:
    """`datarow.count_rows`; returns where they end."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t stop
    if at < 0 or end > PyBytes_GET_SIZE(data):
        raise ProtocolViolation("a run of rows outside its bytes")
    while at < end and raw[at] == DATA_ROW:
        stop = at + 1 + <Py_ssize_t>_uint32(raw + at + 1) if end - at >= 5 else end + 1
        if stop > end or stop - at < 5:
            raise ProtocolViolation("a row that is not whole")
        at = stop
        rows[0] += 1
    return at


cdef class Out:
    """A growing buffer; freed whatever happens."""

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

    cdef void copy(self, const unsigned char *raw, Py_ssize_t size) noexcept:
        """`put` where there is room: reserved by the caller."""
        memcpy(self.start + self.size, raw, size)
        self.size += size

    cdef void length(self, uint32_t value) noexcept:
        """The length of a value; there is room."""
        _put_uint32(self.start + self.size, value)
        self.size += 4


cdef class Columns:
    """What is masked, in order, read once a run of rows."""

    def __cinit__(self, masks):
        cdef tuple mask
        cdef object constant
        cdef Column *column
        cdef Py_ssize_t number
        self.functions, self.kept, self.count, self.extra = [], [], len(masks), 0
        self.all = <Column *>malloc((self.count + 1) * sizeof(Column))
        if self.all is NULL:
            raise MemoryError
        for number, mask in enumerate(masks):
            column = self.all + number
            column.index, column.only_changed, column.counted = mask[0], mask[2], 0
            self.functions.append(mask[1])
            constant = None if column.only_changed else getattr(mask[1], "constant", None)
            column.constant, column.fast = constant is not None, NULL
            if isinstance(mask[1], FastMask):
                self.kept.append(mask[1])
                self.functions[number] = (<FastMask>mask[1]).ordinary
                column.fast = <PyObject *>mask[1]
                self.extra += 4 + (<FastMask>mask[1]).most
            column.size, column.is_null, column.keeps_null = 0, True, False
            if constant is None:
                continue
            self.kept.append(constant)
            column.keeps_null = constant[1]
            if constant[0] is not None:
                column.is_null = False
                column.value = <const unsigned char *>PyBytes_AS_STRING(<bytes?>constant[0])
                column.size = PyBytes_GET_SIZE(<bytes>constant[0])
            self.extra += 4 + column.size

    def __dealloc__(self):
        free(self.all)

    cdef int tell(self, list counts) except -1:
        """Add what was counted, and begin anew."""
        cdef Py_ssize_t number
        cdef Column *column
        for number in range(self.count):
            column = self.all + number
            if column.counted:
                counts[column.index] = counts[column.index] + column.counted
                column.counted = 0
        return 0


def mask_rows(bytes data not None, Py_ssize_t at, Py_ssize_t end, *, int width, masks, list counts not None):
    return mask(data, at, end, width, tuple(masks), counts)


cdef tuple mask(bytes data, Py_ssize_t at, Py_ssize_t end, int width, tuple masks, list counts):
    """`datarow.mask_rows`."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t rows = 0, stop
    cdef Columns columns = Columns(masks)
    cdef Out out = Out(end - at + (end - at) // 8)
    if len(counts) < width:
        raise ValueError(f"{len(counts)} counts of {width} columns")
    if at < 0 or end > PyBytes_GET_SIZE(data):
        raise ProtocolViolation("a run of rows outside its bytes")
    while at < end and raw[at] == DATA_ROW:
        stop = at + 1 + <Py_ssize_t>_uint32(raw + at + 1) if end - at >= 5 else end + 1
        if stop > end or stop - at < 7 or ((raw[at + 5] << 8) | raw[at + 6]) != width:
            raise ProtocolViolation("a row does not have the columns that were described")
        mask_row(out, raw, at, stop, width, columns, counts)
        at = stop
        rows += 1
    columns.tell(counts)
    return at, rows, PyBytes_FromStringAndSize(<char *>out.start, out.size)


cdef int mask_row(
    Out out, const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop, int width, Columns columns, list counts
) except -1:
    cdef Py_ssize_t kept = at, cursor = at + 7, begin = out.size, after, number = 0
    cdef Py_ssize_t wanted = columns.all[0].index if columns.count else -1
    cdef int index
    cdef int32_t length
    cdef Column *column
    cdef Py_ssize_t size
    cdef object value, masked
    out.reserve(stop - at + columns.extra)  # for all that is copied; what functions return asks for its own
    for index in range(width):
        if cursor + 4 > stop:
            raise ProtocolViolation("the lengths of a row's values do not add up")
        length = <int32_t>_uint32(raw + cursor)
        if length < -1 or (length > 0 and length > stop - cursor - 4):
            raise ProtocolViolation("the lengths of a row's values do not add up")
        after = cursor + 4 + (length if length > 0 else 0)
        if index == wanted:
            column = columns.all + number
            out.copy(raw + kept, cursor - kept)
            if column.constant:
                if length >= 0:
                    column.counted += 1
                if column.is_null or (length < 0 and column.keeps_null):
                    out.length(0xFFFFFFFF)
                else:
                    out.length(<uint32_t>column.size)
                    out.copy(column.value, column.size)
            elif column.fast is not NULL and length < 0:
                out.length(0xFFFFFFFF)
            elif column.fast is not NULL and (
                size := (<FastMask>column.fast).put(raw + cursor + 4, length, out.start + out.size + 4)
            ) >= 0:
                out.length(<uint32_t>size)
                if not column.only_changed or size != length or memcmp(out.start + out.size, raw + cursor + 4, size):
                    column.counted += 1
                out.size += size
            else:
                value = None if length < 0 else PyBytes_FromStringAndSize(<const char *>raw + cursor + 4, length)
                masked = columns.functions[number](value)
                if (masked != value) if column.only_changed else value is not None:
                    counts[index] = counts[index] + 1
                if masked is None:
                    out.length(0xFFFFFFFF)
                else:
                    _put_value(out, masked)
                    out.reserve(stop - after + columns.extra)
            kept = after
            number += 1
            wanted = columns.all[number].index if number < columns.count else -1
        cursor = after
    if cursor != stop or number != columns.count:  # a mask that found no column must not be forgotten
        raise ProtocolViolation("the lengths of a row's values do not add up")
    out.copy(raw + kept, stop - kept)
    _put_uint32(out.start + begin + 1, <uint32_t>(out.size - begin - 1))
    return 0


cdef int _put_value(Out out, bytes masked) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(masked)
    out.reserve(size + 4)
    out.length(<uint32_t>size)
    out.copy(<const unsigned char *>PyBytes_AS_STRING(masked), size)
    return 0


# --- express.py -------------------------------------------------------------------------------------------------------

cdef bytes _DESCRIBE = b"D\0\0\0\x06P\0", _EXECUTE = b"E\0\0\0\x09\0", _SYNC = b"S\0\0\0\x04"
cdef enum:
    DESCRIBE = 7
    EXECUTE = 6  # without how many rows are wanted
    SYNC = 5
    RUN = 15  # Execute and Sync
cdef tuple _NOTHING = ()
cdef const char *_HEX = b"0123456789abcdef"


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
    return query_text(data)


cdef bytes query_text(bytes data):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if size < 6 or not _is(raw, 0x51, <uint32_t>(size - 1)) or _zero(raw, 5, size) != size - 1:
        return None
    return _cut(raw, 5, size - 1)


cdef inline bint _digit(unsigned char value) noexcept nogil:
    return 0x30 <= value <= 0x39


cdef inline bint _before(unsigned char value) noexcept nogil:
    return value == 0x3D or value == 0x3C or value == 0x3E or value == 0x20 or value == 0x28 or value == 0x2C


cdef inline bint _behind(unsigned char value) noexcept nogil:
    return value == 0x20 or value == 0x29 or value == 0x2C or value == 0x3B


cdef inline Py_ssize_t _integer(const unsigned char *raw, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    """Where the free-standing short integer ends that begins at `at`; `at` where none does."""
    cdef Py_ssize_t end = at
    if at == 0 or not _digit(raw[at]) or not _before(raw[at - 1]):
        return at
    while end < size and _digit(raw[end]):
        end += 1
    # `$` of an expression also stands before a line feed that ends the text.
    if end - at <= 9 and (end == size or _behind(raw[end]) or (raw[end] == 0x0A and end + 1 == size)):
        return end
    return at


def blank_integers(bytes text not None):
    return blanked(text)


cdef bytes blanked(bytes text):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text), at = 0, end
    cdef Out out = Out(size)
    cdef unsigned char blank = 0
    while at < size:
        end = _integer(raw, at, size)
        if end > at:
            out.put(&blank, 1)
            at = end
        else:
            out.put(raw + at, 1)
            at += 1
    return PyBytes_FromStringAndSize(<char *>out.start, out.size)


def execute_with_integers(bytes text not None):
    """Bind of the unnamed statement to the integers `blank_integers` leaves out of `text`, Describe, Execute and Sync."""
    return bound_integers(text)


cdef bytes bound_integers(bytes text):
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text), at = 1, end
    cdef uint32_t count = 0
    cdef unsigned char counted[2]
    cdef Out out = Out(2 * size + 64)
    out.put(b"B\0\0\0\0\0\0\0\0\0\0", 11)  # its length, no names, values as text, how many: both numbers later
    while at < size:
        end = _integer(raw, at, size)
        if end == at:
            at += 1
            continue
        out.reserve(4 + end - at)
        out.length(<uint32_t>(end - at))
        out.copy(raw + at, end - at)
        count += 1
        at = end
    if count > 0xFFFF:
        raise ValueError("more parameters than the protocol has")
    counted[0], counted[1] = <unsigned char>(count >> 8), <unsigned char>count
    memcpy(out.start + 9, counted, 2)
    out.put(b"\0\0", 2)
    end, out.size = out.size, 1
    out.length(<uint32_t>(end - 1))
    out.size = end
    out.put(b"D\0\0\0\6P\0E\0\0\0\t\0\0\0\0\0S\0\0\0\4", 22)
    return PyBytes_FromStringAndSize(<char *>out.start, out.size)


cdef Py_ssize_t _past_codes(const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop) noexcept nogil:
    """Where format codes end; -1 when they are not whole, or others than 0 and 1."""
    cdef Py_ssize_t end
    if at + 2 > stop:
        return -1
    end = at + 2 + 2 * <Py_ssize_t>_uint16(raw + at)
    if end > stop:
        return -1
    at += 2
    while at < end:
        if _uint16(raw + at) > 1:
            return -1
        at += 2
    return end


cdef Py_ssize_t _past_parameters(const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop) noexcept nogil:
    """Where the values of parameters end; -1 when they are not whole."""
    cdef Py_ssize_t count
    cdef int32_t size
    if at + 2 > stop:
        return -1
    count = <Py_ssize_t>_uint16(raw + at)
    at += 2
    while count > 0:
        if at + 4 > stop:
            return -1
        size = <int32_t>_uint32(raw + at)
        at += 4
        if size < -1 or size > stop - at:
            return -1
        at += size if size > 0 else 0
        count -= 1
    return at


cdef bint find_request(bytes data, Request *found) noexcept:
    """`express.read_extended`; False: it is not exactly one execution of the unnamed portal."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, end, stop
    cdef uint32_t formats
    found.text_end = 0
    if size < 12 + RUN:
        return False
    if raw[0] == 0x50:
        at = 1 + <Py_ssize_t>_uint32(raw + 1)
        if at > size or at < 9 or raw[5] != 0:
            return False
        end = _zero(raw, 6, at)
        if end < 0 or end + 3 > at or end + 3 + 4 * <Py_ssize_t>_uint16(raw + end + 1) != at:
            return False
        found.text_end, found.types_end = end, at
    if size - at < 12 + RUN or raw[at] != 0x42 or raw[at + 5] != 0:
        return False
    stop = at + 1 + <Py_ssize_t>_uint32(raw + at + 1)
    if stop - at < 12 or not _is_run(raw, stop, size):
        return False
    found.described = size - stop > RUN
    found.name = at + 6
    end = _zero(raw, at + 6, stop)
    if end < 0 or (found.text_end and end != at + 6):
        return False
    found.name_end, found.formats = end, end + 1
    found.parameters = _past_codes(raw, found.formats, stop)
    found.results = -1 if found.parameters < 0 else _past_parameters(raw, found.parameters, stop)
    if found.results < 0 or _past_codes(raw, found.results, stop) != stop:
        return False
    formats = _uint16(raw + found.formats)
    return formats <= 1 or formats == _uint16(raw + found.parameters)


cdef bint _is_run(const unsigned char *raw, Py_ssize_t at, Py_ssize_t size) noexcept:
    """`express._is_run`; there is room for a run before the end."""
    cdef Py_ssize_t run = size - RUN
    if at != run and (at != run - DESCRIBE or memcmp(raw + at, PyBytes_AS_STRING(_DESCRIBE), DESCRIBE) != 0):
        return False
    return (
        memcmp(raw + run, PyBytes_AS_STRING(_EXECUTE), EXECUTE) == 0
        and memcmp(raw + size - SYNC, PyBytes_AS_STRING(_SYNC), SYNC) == 0
    )


cdef bytes describing(bytes data):
    """`express.describing`, of a request that was found."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), run = size - RUN
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size + DESCRIBE)
    cdef char *to = PyBytes_AS_STRING(out)
    memcpy(to, PyBytes_AS_STRING(data), run)
    memcpy(to + run, PyBytes_AS_STRING(_DESCRIBE), DESCRIBE)
    memcpy(to + run + DESCRIBE, PyBytes_AS_STRING(data) + run, RUN)
    return out


cdef tuple codes(bytes data, Py_ssize_t at):
    """The format codes whose count stands at `at`, of a request that was found."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t count = <Py_ssize_t>_uint16(raw + at), number
    if count == 0:
        return _NOTHING
    return tuple([<int>_uint16(raw + at + 2 + 2 * number) for number in range(count)])


cdef bytes request_text(bytes data, Request *found):
    """The text of its Parse."""
    return _cut(<const unsigned char *>PyBytes_AS_STRING(data), 6, found.text_end)


cdef tuple request_types(bytes data, Request *found):
    """The types of parameters its Parse names."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t place
    if found.text_end + 3 == found.types_end:
        return _NOTHING
    return tuple([_uint32(raw + place) for place in range(found.text_end + 3, found.types_end, 4)])


cdef tuple _parameters(const unsigned char *raw, Py_ssize_t at):
    cdef Py_ssize_t count = <Py_ssize_t>_uint16(raw + at), number
    cdef int32_t size
    cdef list values = []
    at += 2
    for number in range(count):
        size = <int32_t>_uint32(raw + at)
        at += 4
        if size == -1:
            values.append(None)
            continue
        values.append(_cut(raw, at, at + size))
        at += size
    return tuple(values)


cdef bytes hexed_between(bytes head, bytes data, Py_ssize_t at, bytes tail):
    """`head`, the parameters whose count stands at `at` as `Recurring.spelled` has them, `tail`."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef const unsigned char *value = raw + at + 2
    cdef Py_ssize_t count = <Py_ssize_t>_uint16(raw + at), number, place
    cdef Py_ssize_t size = PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(tail) + count - 1
    cdef int32_t length
    cdef bytes out
    cdef char *to
    for number in range(count):
        length = <int32_t>_uint32(value)
        value += 4 + (length if length > 0 else 0)
        size += 4 if length < 0 else 2 + 2 * <Py_ssize_t>length
    out = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(out)
    memcpy(to, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
    to += PyBytes_GET_SIZE(head)
    value = raw + at + 2
    for number in range(count):
        if number:
            to[0] = c","
            to += 1
        length = <int32_t>_uint32(value)
        value += 4
        if length < 0:
            memcpy(to, b"null", 4)
            to += 4
            continue
        to[0] = c'"'
        to += 1
        for place in range(length):
            to[0] = _HEX[value[place] >> 4]
            to[1] = _HEX[value[place] & 15]
            to += 2
        to[0] = c'"'
        to += 1
        value += length
    memcpy(to, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
    return out


def read_extended(bytes data not None):
    return request(data)


cdef tuple request(bytes data):
    """`express.read_extended`."""
    cdef Request found
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    if not find_request(data, &found):
        return None
    return (
        _cut(raw, found.name, found.name_end),
        request_text(data, &found) if found.text_end else None,
        request_types(data, &found) if found.text_end else _NOTHING,
        codes(data, found.formats),
        _parameters(raw, found.parameters),
        codes(data, found.results),
        bool(found.described),
    )


def read_answer(bytes data not None, *, bint parsed, bint bound=True):
    cdef Answer found
    if not find_answer(data, parsed, bound, &found):
        return None
    return found.description, found.rows, found.tag, found.end, found.state


cdef bint find_answer(bytes data, bint parsed, bint bound, Answer *found) except -1:
    """`express.read_answer`; False: it is not one whole answer."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0
    if parsed:
        if size < 5 or not _is(raw, 0x31, 4):
            return False
        at = 5
    if size - at < 12 or not find_result(data, at, bound, found) or found.end != size - 6:
        return False
    if not _is(raw + found.end, 0x5A, 5) or (raw[size - 1] != 0x49 and raw[size - 1] != 0x54):
        return False
    found.state = raw[size - 1]
    return True


cdef bint find_result(bytes data, Py_ssize_t at, bint bound, Answer *found) noexcept:
    """Where the parts of one whole result are that begins at `at`, up to its end; False: it is not one, or not whole."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), end
    cdef bint described
    found.state = 0
    if bound:
        if size - at < 5 or not _is(raw + at, 0x32, 4):
            return False
        at += 5
    if size - at < 6:
        return False
    found.description = found.rows = at
    described = raw[at] == 0x54
    if described:
        at = _past_frame(raw, at, size)
    elif bound and _is(raw + at, 0x6E, 4):  # NoData
        at += 5
    found.rows = at
    while described and 0 <= at < size and raw[at] == 0x44:
        at = _past_frame(raw, at, size)
    if at < 0 or size - at < 5:
        return False
    end = _past_frame(raw, at, size)
    if raw[at] == 0x73:  # PortalSuspended
        if not described or not _is(raw + at, 0x73, 4):
            return False
    elif end < at + 6 or raw[at] != 0x43 or raw[end - 1] != 0:
        return False
    found.tag, found.end = at, end
    return True


cdef inline Py_ssize_t _past_frame(const unsigned char *raw, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    """Where the frame at `at` ends; -1 when that is not within `size`."""
    cdef Py_ssize_t end
    if size - at < 5:
        return -1
    end = at + 1 + <Py_ssize_t>_uint32(raw + at + 1)
    return end if at + 5 <= end <= size else -1


cdef Py_ssize_t execution_end(bytes data, Py_ssize_t at) noexcept:
    """Where Bind [Describe] Execute end that begin at `at`, whatever they say; 0 when there are no such frames."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if at >= size or raw[at] != 0x42:
        return 0
    at = _past_frame(raw, at, size)
    if 0 < at < size and raw[at] == 0x44:
        at = _past_frame(raw, at, size)
    if at < 0 or at >= size or raw[at] != 0x45:
        return 0
    at = _past_frame(raw, at, size)
    return at if at > 0 else 0
