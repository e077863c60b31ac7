# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of the techniques that compute something of a value, for the values that most values are.

A `FastMask` masks into a buffer what it knows how to and leaves every other value to the Python mask it stands for: the two
never differ. NULL stays NULL in all of them. `put` never writes more than `most` bytes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from audit.domain._openssl cimport Labelled

from masking.engines.restricted_zip3 import RESTRICTED

cdef enum:
    ASK = -1  # the ordinary mask
    TOKEN = 16  # bytes of a digest that are shown
    TOKEN_TEXT = 30  # tok_ and 26 characters
    UUID_TEXT = 36
    LONGEST_TAIL = 64
    LONGEST_DATE = 48
    LONGEST_PLAIN = 39  # a longer value may be prose
    DAYS_TO_2000 = 730119  # from 1 January of the year 1
    LAST_DAY = 2921939  # 31 December 9999, from 2000

cdef int64_t _DAY_US = 86_400_000_000
cdef const unsigned char *_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567"
cdef const unsigned char *_HEX = b"0123456789abcdef"
cdef bint _restricted[1000]
for _prefix in range(1000):
    _restricted[_prefix] = f"{_prefix:03d}" in RESTRICTED


cdef class FastMask:
    """A `MaskValue`; `ordinary` is asked for what it does not know. Its callers in C use `put` and `most`."""

    def __call__(self, value):
        cdef bytes given
        cdef bytes out
        cdef Py_ssize_t size
        if type(value) is bytes:
            given = <bytes>value
            out = PyBytes_FromStringAndSize(NULL, self.most)
            size = self.put(
                <const unsigned char *>PyBytes_AS_STRING(given),
                PyBytes_GET_SIZE(given),
                <unsigned char *>PyBytes_AS_STRING(out),
            )
            if size >= 0:
                return out[:size]
        return self.ordinary(value)

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        """Write `value` masked; how many bytes that took, or ASK. Raises where the library gives no digest."""
        return ASK


cdef inline bint _is_ascii(const unsigned char *value, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at
    cdef unsigned char seen = 0
    for at in range(size):
        seen |= value[at]
    return seen < 0x80


cdef inline bint _are_digits(const unsigned char *value, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at
    for at in range(size):
        if not 0x30 <= value[at] <= 0x39:
            return False
    return True


cdef inline Py_ssize_t _without_padding(const unsigned char *value, Py_ssize_t size) noexcept:
    while size and value[size - 1] == 0x20:
        size -= 1
    return size


cdef inline int _number(const unsigned char *digits, Py_ssize_t size) noexcept:
    cdef int number = 0
    cdef Py_ssize_t at
    for at in range(size):
        number = 10 * number + digits[at] - 0x30
    return number


cdef inline int64_t _signed(const unsigned char *value, Py_ssize_t size) noexcept:
    """A big-endian two's complement of 4 or 8 bytes."""
    cdef uint64_t number = 0
    cdef Py_ssize_t at
    for at in range(size):
        number = (number << 8) | value[at]
    return <int64_t>number if size == 8 else <int64_t><int32_t><uint32_t>number


cdef inline Py_ssize_t _put_number(unsigned char *into, uint64_t number, Py_ssize_t size) noexcept:
    """Big-endian."""
    cdef Py_ssize_t at
    for at in range(size):
        into[at] = (number >> (8 * (size - 1 - at))) & 0xFF
    return size


cdef Py_ssize_t _spelled(unsigned char *into, uint64_t number) noexcept:
    """In decimal."""
    cdef unsigned char digits[20]
    cdef Py_ssize_t size = 0
    while True:
        size += 1
        digits[20 - size] = 0x30 + number % 10
        number //= 10
        if number == 0:
            break
    memcpy(into, digits + 20 - size, size)
    return size


# --- partial.py -------------------------------------------------------------------------------------------------------

cdef class FastPartial(FastMask):
    cdef Py_ssize_t keep
    cdef bint padded

    def __init__(self, ordinary not None, *, Py_ssize_t keep, bint padded):
        if not 0 <= keep <= LONGEST_TAIL:
            raise ValueError(f"{keep} characters, expected 0 to {LONGEST_TAIL}")
        self.ordinary, self.keep, self.padded, self.most = ordinary, keep, padded, 4 + keep

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        cdef Py_ssize_t kept
        if not _is_ascii(value, size):
            return ASK
        if self.padded:
            size = _without_padding(value, size)
        kept = self.keep if self.keep < size // 2 else size // 2
        memcpy(into, b"****", 4)
        memcpy(into + 4, value + size - kept, kept)
        return 4 + kept


# --- zip3.py ----------------------------------------------------------------------------------------------------------

cdef class FastZip3(FastMask):
    """Of text."""

    def __init__(self, ordinary not None):
        self.ordinary, self.most = ordinary, 3

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        size = _without_padding(value, size)
        if size == 10 and (value[5] == 0x2D or value[5] == 0x20):
            if not _are_digits(value + 6, 4):
                return ASK
        elif size != 5:
            return ASK
        if not _are_digits(value, 5):
            return ASK
        if _restricted[_number(value, 3)]:
            memcpy(into, b"000", 3)
        else:
            memcpy(into, value, 3)
        return 3


# --- year.py ----------------------------------------------------------------------------------------------------------

cdef Py_ssize_t _first_of_january(unsigned char *into, int year) noexcept:
    into[0], into[1] = 0x30 + year // 1000, 0x30 + year // 100 % 10
    into[2], into[3] = 0x30 + year // 10 % 10, 0x30 + year % 10
    memcpy(into + 4, b"-01-01", 6)
    return 10


cdef inline int64_t _days_to(int year) noexcept:
    """From 2000-01-01 to 1 January of a year, in the proleptic Gregorian calendar."""
    cdef int64_t before = year - 1
    return 365 * before + before // 4 - before // 100 + before // 400 - DAYS_TO_2000


cdef int _year_of(int64_t days) noexcept:
    """Of a day from the year 1 to 9999."""
    cdef int64_t left = days + DAYS_TO_2000
    cdef int year = 400 * <int>(left // 146_097) + 1
    cdef int64_t centuries, fours, years
    left %= 146_097
    centuries = left // 36_524 if left // 36_524 < 4 else 3
    left -= centuries * 36_524
    fours = left // 1_461
    left -= fours * 1_461
    years = left // 365 if left // 365 < 4 else 3
    return year + <int>(100 * centuries + 4 * fours + years)


cdef class FastYear(FastMask):
    """Of dates and times in ISO 8601, in a column of dates, times or text."""

    cdef int floor

    def __init__(self, ordinary not None, *, int floor):
        if not 0 <= floor <= 9999:
            raise ValueError("a year, 0 to 9999")
        self.ordinary, self.floor, self.most = ordinary, floor, LONGEST_DATE

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        cdef int year
        cdef Py_ssize_t zone
        if (
            not 10 <= size <= LONGEST_DATE
            or value[4] != 0x2D
            or value[7] != 0x2D
            or not (_are_digits(value, 4) and _are_digits(value + 5, 2) and _are_digits(value + 8, 2))
        ):
            return ASK
        zone = 10 if size == 10 else _end_of_time(value, size)
        if zone < 0 or not (zone == size or (_is_offset(value + zone, size - zone) and _is_amid_year(value))):
            return ASK
        year = _number(value, 4)
        _first_of_january(into, year if year > self.floor else self.floor)
        if size == 10:
            return 10
        into[10] = value[10]
        memcpy(into + 11, b"00:00:00", 8)
        if zone == size:
            return 19
        memcpy(into + 19, b"+00", 3)
        return 22


cdef Py_ssize_t _end_of_time(const unsigned char *value, Py_ssize_t size) noexcept:
    """Where the time ends that follows a date, to the second or finer; -1: it is no such time."""
    cdef Py_ssize_t at = 20
    if (
        size < 19
        or (value[10] != 0x20 and value[10] != 0x54)
        or value[13] != 0x3A
        or value[16] != 0x3A
        or not (_are_digits(value + 11, 2) and _are_digits(value + 14, 2) and _are_digits(value + 17, 2))
    ):
        return -1
    if size == 19 or value[19] != 0x2E:
        return 19
    while at < size and 0x30 <= value[at] <= 0x39:
        at += 1
    return at if at > 20 else -1


cdef bint _is_offset(const unsigned char *zone, Py_ssize_t size) noexcept:
    """`+hh` or `+hh:mm`, as PostgreSQL writes them, of less than a day."""
    return (
        (size == 3 or (size == 6 and zone[3] == 0x3A and 0x30 <= zone[4] <= 0x35 and _are_digits(zone + 5, 1)))
        and (zone[0] == 0x2B or zone[0] == 0x2D)
        and _are_digits(zone + 1, 2)
        and _number(zone + 1, 2) <= 23
    )


cdef bint _is_amid_year(const unsigned char *value) noexcept:
    """Whether the year is the same a day earlier and later: a day there is in every month, at a time there is."""
    cdef int month = _number(value + 5, 2), day = _number(value + 8, 2)
    return (
        _number(value, 4) >= 1
        and 1 <= month <= 12
        and 1 <= day <= 28
        and not (month == 1 and day == 1)
        and _number(value + 11, 2) <= 23
        and _number(value + 14, 2) <= 59
        and _number(value + 17, 2) <= 59
    )


cdef class FastBinaryYear(FastMask):
    """Of dates (4 bytes, days) and times (8, microseconds) since 2000."""

    cdef int floor
    cdef Py_ssize_t width

    def __init__(self, ordinary not None, *, int floor, Py_ssize_t width):
        if not 1 <= floor <= 9999 or (width != 4 and width != 8):
            raise ValueError("a year, 1 to 9999, and a width of 4 or 8 bytes")
        self.ordinary, self.floor, self.width, self.most = ordinary, floor, width, width

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        cdef int64_t since, days
        cdef int year
        if size != self.width:
            return ASK
        since = _signed(value, size)
        days = since
        if size == 8:
            days = since // _DAY_US - (1 if since % _DAY_US < 0 else 0)  # the day it is in
        if not -DAYS_TO_2000 <= days <= LAST_DAY:
            return ASK  # infinities, BC, and beyond
        year = _year_of(days)
        days = _days_to(year if year > self.floor else self.floor)
        return _put_number(into, <uint64_t>(days * _DAY_US if size == 8 else days), size)


# --- hash.py ----------------------------------------------------------------------------------------------------------

cdef class FastToken(FastMask):
    """Of text, in base32."""

    cdef Labelled digests
    cdef bint padded

    def __init__(self, ordinary not None, Labelled digests not None, *, bint padded):
        self.ordinary, self.digests, self.padded, self.most = ordinary, digests, padded, TOKEN_TEXT

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        cdef unsigned char digest[32]
        if not _is_ascii(value, size):
            return ASK
        if self.padded:
            size = _without_padding(value, size)
        self.digests.put(value, size, digest)
        memcpy(into, b"tok_", 4)
        _put_base32(into + 4, digest)
        return TOKEN_TEXT


cdef void _put_base32(unsigned char *into, const unsigned char *raw) noexcept:
    """16 bytes as 26 characters: RFC 4648 without padding."""
    cdef uint64_t bits = 0
    cdef int have = 0
    cdef Py_ssize_t at, place = 0
    for at in range(TOKEN):
        bits = (bits << 8) | raw[at]
        have += 8
        while have >= 5:
            have -= 5
            into[place] = _BASE32[(bits >> have) & 31]
            place += 1
        bits &= (1 << have) - 1
    into[place] = _BASE32[(bits << (5 - have)) & 31]


cdef class FastIntegerToken(FastMask):
    cdef Labelled digests
    cdef bint binary
    cdef Py_ssize_t width

    def __init__(self, ordinary not None, Labelled digests not None, *, bint binary, Py_ssize_t width):
        if width != 4 and width != 8:
            raise ValueError("a width of 4 or 8 bytes")
        self.ordinary, self.digests, self.binary, self.width, self.most = ordinary, digests, binary, width, 20

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        cdef unsigned char digest[32]
        cdef unsigned char spelled[21]
        cdef const unsigned char *decimal = spelled
        cdef int64_t number
        cdef uint64_t hashed
        if self.binary:
            if size != self.width:
                return ASK
            number = _signed(value, size)
            if number < 0:
                spelled[0] = 0x2D
                size = 1 + _spelled(spelled + 1, 0 - <uint64_t>number)
            else:
                size = _spelled(spelled, <uint64_t>number)
            self.digests.put(decimal, size, digest)
        elif _is_canonical(value, size):
            self.digests.put(value, size, digest)
        else:
            return ASK
        hashed = (<uint64_t>_signed(digest, 8)) & ((<uint64_t>1 << (8 * self.width - 1)) - 1)
        return _put_number(into, hashed, self.width) if self.binary else _spelled(into, hashed)


cdef bint _is_canonical(const unsigned char *value, Py_ssize_t size) noexcept:
    """Whether this is how PostgreSQL, and Python, write an integer."""
    if size > 1 and value[0] == 0x2D:
        value += 1
        size -= 1
        if value[0] == 0x30:
            return False
    return 0 < size <= 19 and (value[0] != 0x30 or size == 1) and _are_digits(value, size)


cdef class FastUuidToken(FastMask):
    cdef Labelled digests
    cdef bint binary

    def __init__(self, ordinary not None, Labelled digests not None, *, bint binary):
        self.ordinary, self.digests, self.binary, self.most = ordinary, digests, binary, UUID_TEXT

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        cdef unsigned char digest[32]
        cdef unsigned char raw[16]
        if self.binary:
            if size != 16:
                return ASK
            self.digests.put(value, 16, digest)
        elif _read_uuid(value, size, raw):
            self.digests.put(raw, 16, digest)
        else:
            return ASK
        digest[6] = (digest[6] & 0x0F) | 0x80
        digest[8] = (digest[8] & 0x3F) | 0x80
        if self.binary:
            memcpy(into, digest, 16)
            return 16
        _spell_uuid(into, digest)
        return UUID_TEXT


cdef bint _read_uuid(const unsigned char *text, Py_ssize_t size, unsigned char *raw) noexcept:
    """As PostgreSQL writes them: 36 characters, lower case."""
    cdef Py_ssize_t at = 0, place, half
    cdef unsigned char digit, value
    if size != UUID_TEXT:
        return False
    for place in range(16):
        if place == 4 or place == 6 or place == 8 or place == 10:
            if text[at] != 0x2D:
                return False
            at += 1
        value = 0
        for half in range(2):
            digit = text[at]
            at += 1
            if 0x30 <= digit <= 0x39:
                value = (value << 4) | (digit - 0x30)
            elif 0x61 <= digit <= 0x66:
                value = (value << 4) | (digit - 0x57)
            else:
                return False
        raw[place] = value
    return True


cdef void _spell_uuid(unsigned char *into, const unsigned char *raw) noexcept:
    cdef Py_ssize_t at = 0, place
    for place in range(16):
        if place == 4 or place == 6 or place == 8 or place == 10:
            into[at] = 0x2D
            at += 1
        into[at] = _HEX[raw[place] >> 4]
        into[at + 1] = _HEX[raw[place] & 15]
        at += 2


# --- detectors/scan.py ------------------------------------------------------------------------------------------------

cdef class FastScan(FastMask):
    """Short values in which `structured.detect_structured` finds nothing, whatever its depth: it is not asked."""

    def __init__(self, ordinary not None):
        self.ordinary, self.most = ordinary, LONGEST_PLAIN

    def __call__(self, value):
        return self.ordinary(value)  # it remembers, and gives back the object it was given

    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2:
        if size > LONGEST_PLAIN or not _is_plain(value, size):
            return ASK
        memcpy(into, value, size)
        return size


cdef bint _is_plain(const unsigned char *value, Py_ssize_t size) noexcept:
    """Words, with a small number at most; or a number, a date, a code of digits: too few for an identifier's shape."""
    cdef Py_ssize_t at
    cdef int dots = 0, dashes = 0, digits = 0, others = 0
    cdef unsigned char letter
    cdef bint has_s = False
    for at in range(size):
        letter = value[at]
        if 0x30 <= letter <= 0x39:
            digits += 1
        elif letter == 0x2E:
            dots += 1
        elif letter == 0x2D:
            dashes += 1
        elif letter >= 0x80 or letter == 0x3A or letter == 0x40 or letter == 0x5B or letter == 0x28 or letter == 0x2B:
            return False  # what stands in an address (a colon, `@`, `[at]`, `(at)`) or before a number (`+`)
        elif letter != 0x20 and letter != 0x2C and letter != 0x2F:
            others += 1
            has_s |= letter == 0x53 or letter == 0x73
    if not others:
        return digits <= 8 and dots <= 2  # an SSN has nine, an IPv4 address three dots
    if dots or dashes > 4:  # www. and a MAC address of letters
        return False
    # Three digits are no record number, one is no SSN behind its name, and 15 characters no account's or vehicle's.
    return digits == 0 or (size < 16 and digits <= 3 and (digits == 1 or not has_s))
