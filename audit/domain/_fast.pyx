# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of `randomness.random_bytes`, `commitment.commitment_to`, `template.fill_entry`, `spell_entry` and
`journal.put_record`, `journaled.split_entry` and `append.leaf_row`, and the usual course through `audit.writer`: the
same bytes. Digests and ciphers stay where they
are, in OpenSSL and hashlib."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object)
    void *PyUnicode_DATA(object)

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cimport cython

from audit.domain.state cimport (
    BacklogState, HeldState, JournalState, Run, Segment, SyncState, TemplateState, WriterState
)

import hashlib
import os
import time

from audit.domain.canonical import canonical_text as _canonical_text
from audit.domain.columns import text_column as _text_column

cdef const char *_HEX = b"0123456789abcdef"
cdef object _sha256 = hashlib.sha256
cdef object _urandom = os.urandom
cdef enum:
    DRAWN = 4096
    BLOCK = 64
    RECORD = 20
    HEADER = 84  # of a segment
    SALT = 32
    NONCE = 12

# --- randomness.py ----------------------------------------------------------------------------------------------------

# Nothing between reading and moving the place lets another thread run: the interpreter's lock is held.
cdef bytes _drawn = b""
cdef Py_ssize_t _drawn_at = 0


def random_bytes(Py_ssize_t count):
    return _random_bytes(count)


cdef bytes _random_bytes(Py_ssize_t count):
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
    return new_id(millis)


cdef str new_id(int64_t millis):
    cdef unsigned char raw[16]
    cdef unsigned char text[36]
    cdef bytes noise = _random_bytes(10)
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
    return _commitment_to(plaintext, salt)


cdef bytes _commitment_to(bytes plaintext, bytes salt):
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
    return _spell_entry(body, values, at_us, commitment, around, session, statement_id, ending, box)


cdef bytes _quoted(str text):
    """`canonical_text`; of what has nothing to escape, identifiers, without asking it."""
    cdef Py_ssize_t size = len(text), at
    cdef bytes out
    cdef const unsigned char *raw
    cdef char *to
    if not PyUnicode_IS_COMPACT_ASCII(text):
        return _canonical_text(text)
    raw = <const unsigned char *>PyUnicode_DATA(text)
    for at in range(size):
        if raw[at] < 0x20 or raw[at] == 0x22 or raw[at] == 0x5C:
            return _canonical_text(text)
    out = PyBytes_FromStringAndSize(NULL, size + 2)
    to = PyBytes_AS_STRING(out)
    to[0] = to[size + 1] = 0x22
    memcpy(to + 1, raw, size)
    return out


cdef bytes _spell_entry(
    tuple body,
    tuple values,
    int64_t at_us,
    bytes commitment,
    bytes around,
    bytes session,
    str statement_id,
    bytes ending,
    bytes box,
):
    cdef bytes moment = b"%d" % at_us, statement = _quoted(statement_id), entry, piece
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


cdef class Filling:
    def __init__(
        self, str statement_id not None, tuple values not None=(), sensitive=None, int64_t at_us=0, bytes spelled=None
    ):
        self.statement_id, self.values, self.sensitive = statement_id, values, sensitive
        self.at_us, self.spelled = at_us, spelled


cdef object _now_ns = time.time_ns
cdef bytes _VERSION = b"\x01"
cdef bytes _BOUND = b"hoopweb log text\x00"
cdef bytes _ENDING = b',"v":1}'
cdef object _encode_sensitive = None


cdef bytes _sealed(sealer, bytes salted, bytes commitment):
    """`Sealer.seal`, under the cipher it is using now; its own way where it needs the next one."""
    cdef object current = sealer._current
    cdef tuple using
    cdef bytes nonce
    if current is not None:
        using = current
        if next(using[2], None) is not None:
            nonce = _random_bytes(NONCE)
            return <bytes?>sealer._prefix + <bytes?>using[0] + nonce + <bytes?>using[1].encrypt(
                nonce, salted, _VERSION + _BOUND + commitment
            )
    return sealer.seal(salted, bound_to=_BOUND + commitment)


def fill_entry(tuple body not None, bytes around not None, bytes session not None, Filling filling not None, sealer):
    return _fill_entry(body, around, session, filling, sealer)


cdef bytes _fill_entry(tuple body, bytes around, bytes session, Filling filling, sealer):
    global _encode_sensitive
    cdef bytes commitment = b"", box = b"", salt
    cdef object plaintext = filling.spelled
    if plaintext is None and filling.sensitive is not None:
        if _encode_sensitive is None:
            from audit.domain.chain import encode_sensitive as _encode_sensitive
        plaintext = _encode_sensitive(filling.sensitive)
    if plaintext is not None:
        salt = _random_bytes(SALT)
        commitment = _commitment_to(<bytes?>plaintext, salt)
        box = _sealed(sealer, salt + <bytes?>plaintext, commitment)
    return _spell_entry(
        body,
        filling.values,
        filling.at_us or <int64_t>_now_ns() // 1000,
        commitment,
        around,
        session,
        filling.statement_id,
        _ENDING,
        box,
    )


# --- journal.py -------------------------------------------------------------------------------------------------------

def put_record(view, Py_ssize_t place, bytes chain not None, bytes payload not None):
    _put_record(view, place, chain, payload)


cdef int _put_record(view, Py_ssize_t place, bytes chain, bytes payload) except -1:
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
    return 0


# --- the way into the log: journaled.py, append.py ---------------------------------------------------------

cdef int64_t _EPOCH_US = 946684800000000


cdef inline unsigned char *_put_sized(unsigned char *at, bytes piece) noexcept:
    _put_uint32(at, <uint32_t>PyBytes_GET_SIZE(piece))
    return _put(at + 4, piece)


cdef inline unsigned char *_put_int8(unsigned char *at, int64_t value) noexcept:
    _put_uint32(at, 8)
    _put_uint32(at + 4, <uint32_t>(<uint64_t>value >> 32))
    _put_uint32(at + 8, <uint32_t>(<uint64_t>value & 0xFFFFFFFF))
    return at + 12


cdef bytes _column(text, Py_ssize_t length):
    """`columns.text_column`, encoded."""
    if type(text) is str and PyUnicode_IS_COMPACT_ASCII(text) and len(text) <= length and "\x00" not in <str>text:
        return (<str>text).encode()
    return _text_column(text, length).encode()


def leaf_row(
    bytes head not None,
    int64_t seq,
    int64_t at_us,
    bytes digest not None,
    bytes prev not None,
    bytes canonical not None,
    session_id,
    statement_id,
    bytes shared not None,
):
    cdef bytes session = _column(session_id, 64), statement = _column(statement_id, 64)
    cdef bytes row = PyBytes_FromStringAndSize(
        NULL,
        PyBytes_GET_SIZE(head) + 24 + 20 + PyBytes_GET_SIZE(digest) + PyBytes_GET_SIZE(prev)
        + PyBytes_GET_SIZE(canonical) + PyBytes_GET_SIZE(session) + PyBytes_GET_SIZE(statement)
        + PyBytes_GET_SIZE(shared),
    )
    cdef unsigned char *out = _put(<unsigned char *>PyBytes_AS_STRING(row), head)
    out = _put_int8(_put_int8(out, seq), at_us - _EPOCH_US)
    out = _put_sized(_put_sized(_put_sized(out, digest), prev), canonical)
    _put(_put_sized(_put_sized(out, session), statement), shared)
    return row


def split_entry(bytes payload not None):
    """The parts of what `journaled.pack` packed."""
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(payload)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload), head_size, tail_size, body, stop, around, named, version
    cdef bytes head, tail
    if size < 8:
        raise ValueError("no packed entry")
    head_size = <Py_ssize_t>_uint32(raw)
    tail_size = <Py_ssize_t>_uint32(raw + 4)
    if 8 + head_size + tail_size > size:
        raise ValueError("no packed entry")
    head = payload[8 : 8 + head_size]
    tail = payload[8 + head_size : 8 + head_size + tail_size]
    body = head.index(_BODY)
    stop = head.rindex(_COMMITMENT)
    around = head.index(b'"', stop + PyBytes_GET_SIZE(_COMMITMENT))
    named = tail.rindex(_STATEMENT)
    version = tail.rindex(_ENDS)
    return (
        head,
        tail,
        payload[8 + head_size + tail_size :],
        int(head[PyBytes_GET_SIZE(_MOMENT) : body]),
        head[body + PyBytes_GET_SIZE(_BODY) : stop],
        head[around + 2 :],
        tail[: named + 1],
        tail[named + PyBytes_GET_SIZE(_STATEMENT) : version],
    )


cdef bytes _STATEMENT = b',"statement":', _ENDS = b',"v":'


cdef inline uint32_t _uint32(const unsigned char *at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


# --- audit.writer: an entry that is put into the journal as nearly all are -----------------------------------------------

cdef object _pwrite = os.pwrite
cdef Py_ssize_t _MAX_RUN = 2_000  # audit.backlog.MAX_RUN


cdef bytes _length(Py_ssize_t size):
    cdef unsigned char raw[4]
    _put_uint32(raw, <uint32_t>size)
    return PyBytes_FromStringAndSize(<const char *>raw, 4)


def append_alike(WriterState writer not None, TemplateState template not None, Filling filling not None, Py_ssize_t most):
    return _append_alike(writer, template, filling, most)


@cython.wraparound(True)
cdef bint _append_alike(WriterState writer, TemplateState template, Filling filling, Py_ssize_t most) except -1:
    """Put an entry of this template into the writer's journal. False: nothing was done, the ordinary way has to.

    Whatever comes seldom is left to that way: the first entries, a new segment or one to be made ahead, a new run, a
    journal that may take no more.
    """
    cdef BacklogState backlog
    cdef JournalState journal
    cdef Segment segment
    cdef Run run
    cdef object link
    cdef bytes payload, chain, whole
    cdef Py_ssize_t size, end, place
    if writer._journal is None or writer._sealer is None or writer._closing or not writer._tasks:
        return False
    backlog = <BacklogState?>writer._backlog
    if template.durability == "database" or backlog.behind >= most or not backlog.runs:
        return False
    run = <Run?>backlog.runs[-1]
    if run.entries >= _MAX_RUN or run.after != backlog.numbered or template._around[0] is not writer._gateway:
        return False
    journal = <JournalState?>(<HeldState?>writer._journal).journal
    payload = _fill_entry(template._body, <bytes?>template._around[1], template._session, filling, writer._sealer)
    size = RECORD + PyBytes_GET_SIZE(payload)
    segment = <Segment?>journal._segments[-1]
    end = segment.end - segment.start + size
    if HEADER + end + 4 > journal._segment_bytes or (2 * end > journal._segment_bytes and journal._spare is None):
        return False
    place = HEADER + end - size
    link = journal._keyed.copy()
    link.update(journal._chain + payload)
    chain = link.digest()
    if template.durability == "os":
        _put_record(segment.view, place, chain, payload)
    else:  # pages written to through a mapping are dearer to sync
        whole = b"%b%b%b" % (_length(size - RECORD), chain, payload)
        if _pwrite(segment.file, whole, place) != size:
            raise OSError("a record was not written whole")
    journal._chain = chain
    segment.end += size
    backlog.behind += 1
    run.end = segment.end
    run.entries += 1
    return True


cdef class Alike:
    """`audit.live.LiveRecord`'s doors for entries that are many alike."""

    def __init__(self, live, WriterState writer not None, serving, Py_ssize_t most_told):
        self.live, self.writer, self.serving, self.most_told = live, writer, serving, most_told

    def append(self, template, Filling filling not None, whole, bint begins):
        return self.put(template, filling, whole, begins)

    cdef bint put(self, template, Filling filling, whole, bint begins) except -1:
        cdef TemplateState known = <TemplateState?>template
        if begins and (self.serving.stopped or known.durability != "os"):
            return False
        cdef WriterState writer = <WriterState?>self.writer
        if not _append_alike(writer, known, filling, writer.most_behind if begins else writer.most_kept):
            return False
        self.tell(whole)
        return True

    cdef bint put_soon(self, template, Filling filling, reached) except -1:
        """`append_soon` of what waits for the disk alone; `reached` is told, once, whether it is there.

        It is another one's to `tell` of it then. False: nothing was done.
        """
        cdef TemplateState known = <TemplateState?>template
        cdef WriterState writer = <WriterState?>self.writer
        cdef SyncState sync
        if self.serving.stopped or known.durability != "disk":
            return False
        if not _append_alike(writer, known, filling, writer.most_behind):
            return False
        sync = <SyncState?>(<HeldState>writer._journal)._syncing
        sync._waiting.append(reached)
        if not sync._begun:
            sync.begin_soon()
        return True

    cdef int tell(self, whole) except -1:
        if len(<list?>self.live._waiting) >= self.most_told:
            self.live._dropped += 1
        else:
            self.live._tell(whole())
        return 0
