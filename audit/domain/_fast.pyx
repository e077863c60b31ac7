# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of `randomness.random_bytes`, `commitment.commitment_to`, `template.spell_entry` and
`journal.put_record`: the same bytes. Digests and ciphers stay where they are, in OpenSSL and hashlib."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

import hashlib
import os

from audit.domain.canonical import canonical_text as _canonical_text

cdef const char *_HEX = b"0123456789abcdef"
cdef object _sha256 = hashlib.sha256
cdef object _urandom = os.urandom
cdef enum:
    DRAWN = 4096
    BLOCK = 64
    RECORD = 20

# --- randomness.py ----------------------------------------------------------------------------------------------------

# Nothing between reading and moving the place lets another thread run: the interpreter's lock is held.
cdef bytes _drawn = b""
cdef Py_ssize_t _drawn_at = 0


def random_bytes(Py_ssize_t count):
    global _drawn, _drawn_at
    cdef bytes fresh
    cdef Py_ssize_t at
    if count < 0:
        raise ValueError("negative argument not allowed")
    if _drawn_at + count > PyBytes_GET_SIZE(_drawn):
        fresh = _urandom(max(<Py_ssize_t>DRAWN, count))  # another thread may draw meanwhile: each uses its own
        _drawn, _drawn_at = fresh, count
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(fresh), count)
    at = _drawn_at
    _drawn_at = at + count
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(_drawn) + at, count)


def time_ordered_id(int64_t millis):
    cdef unsigned char raw[16]
    cdef unsigned char text[36]
    cdef bytes noise = random_bytes(10)
    cdef Py_ssize_t at, place = 0
    for at in range(6):
        raw[at] = (millis >> (40 - 8 * at)) & 0xFF
    memcpy(raw + 6, PyBytes_AS_STRING(noise), 10)
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    for at in range(16):
        if at == 4 or at == 6 or at == 8 or at == 10:
            text[place] = 0x2D
            place += 1
        text[place] = _HEX[raw[at] >> 4]
        text[place + 1] = _HEX[raw[at] & 15]
        place += 2
    return PyUnicode_DecodeASCII(<const char *>text, 36, NULL)


def forget_drawn():
    global _drawn, _drawn_at
    _drawn, _drawn_at = b"", 0


# --- commitment.py ----------------------------------------------------------------------------------------------------

cdef bytes _padded(const unsigned char *salt, Py_ssize_t size, unsigned char pad, const char *data, Py_ssize_t more):
    cdef bytes block = PyBytes_FromStringAndSize(NULL, BLOCK + more)
    cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(block)
    cdef Py_ssize_t at
    memset(out, pad, BLOCK)
    for at in range(size):
        out[at] = salt[at] ^ pad
    memcpy(out + BLOCK, data, more)
    return block


def commitment_to(bytes plaintext not None, bytes salt not None):
    cdef const unsigned char *key = <const unsigned char *>PyBytes_AS_STRING(salt)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(salt)
    cdef bytes inner
    if size > BLOCK:
        raise ValueError(f"a salt of {size} bytes, expected no more than {BLOCK}")
    inner = _sha256(_padded(key, size, 0x36, PyBytes_AS_STRING(plaintext), PyBytes_GET_SIZE(plaintext))).digest()
    return _sha256(_padded(key, size, 0x5C, PyBytes_AS_STRING(inner), PyBytes_GET_SIZE(inner))).digest()


# --- template.py ------------------------------------------------------------------------------------------------------

cdef inline void _put_uint32(unsigned char *at, uint32_t value) noexcept nogil:
    at[0] = value >> 24
    at[1] = (value >> 16) & 0xFF
    at[2] = (value >> 8) & 0xFF
    at[3] = value & 0xFF


cdef inline unsigned char *_put(unsigned char *at, bytes piece) noexcept:
    memcpy(at, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
    return at + PyBytes_GET_SIZE(piece)


cdef bytes _MOMENT = b'{"at_us":'
cdef bytes _BODY = b',"body":'
cdef bytes _COMMITMENT = b',"commitment":"'


def spell_entry(
    tuple body not None,
    tuple values not None,
    int64_t at_us,
    bytes commitment not None,
    bytes around not None,
    bytes session not None,
    str statement_id not None,
    bytes ending not None,
    bytes box not None,
):
    cdef bytes moment = b"%d" % at_us, statement = _canonical_text(statement_id), entry, piece
    cdef Py_ssize_t parts = len(body), number, size = 0, head, tail, digest = PyBytes_GET_SIZE(commitment)
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(commitment)
    cdef unsigned char *start
    cdef unsigned char *at
    if parts != len(values) + 1:
        raise ValueError(f"an entry of {parts - 1} blanks, {len(values)} values")
    for piece in body:
        size += PyBytes_GET_SIZE(piece)
    for piece in values:
        size += PyBytes_GET_SIZE(piece)
    head = (
        PyBytes_GET_SIZE(_MOMENT) + PyBytes_GET_SIZE(moment) + PyBytes_GET_SIZE(_BODY) + size
        + PyBytes_GET_SIZE(_COMMITMENT) + 2 * digest + 1 + PyBytes_GET_SIZE(around)
    )
    tail = PyBytes_GET_SIZE(session) + PyBytes_GET_SIZE(statement) + PyBytes_GET_SIZE(ending)
    entry = PyBytes_FromStringAndSize(NULL, 8 + head + tail + PyBytes_GET_SIZE(box))
    start = <unsigned char *>PyBytes_AS_STRING(entry)
    _put_uint32(start, <uint32_t>head)
    _put_uint32(start + 4, <uint32_t>tail)
    at = _put(_put(_put(start + 8, _MOMENT), moment), _BODY)
    for number in range(parts):
        if number:
            at = _put(at, <bytes>values[number - 1])
        at = _put(at, <bytes>body[number])
    at = _put(at, _COMMITMENT)
    for number in range(digest):
        at[0] = _HEX[raw[number] >> 4]
        at[1] = _HEX[raw[number] & 15]
        at += 2
    at[0] = 0x22
    at = _put(_put(at + 1, around), session)
    _put(_put(_put(at, statement), ending), box)
    return entry


# --- journal.py -------------------------------------------------------------------------------------------------------

def put_record(view, Py_ssize_t place, bytes chain not None, bytes payload not None):
    cdef Py_buffer buffer
    cdef unsigned char *at
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    if PyBytes_GET_SIZE(chain) != 16:
        raise ValueError("a link has 16 bytes")
    PyObject_GetBuffer(view, &buffer, PyBUF_WRITABLE)
    try:
        if place < 0 or place + RECORD + size > buffer.len:
            raise ValueError("a record outside its segment")
        at = <unsigned char *>buffer.buf + place
        _put_uint32(at, <uint32_t>size)
        memcpy(at + 4, PyBytes_AS_STRING(chain), 16)
        memcpy(at + RECORD, PyBytes_AS_STRING(payload), size)
    finally:
        PyBuffer_Release(&buffer)
