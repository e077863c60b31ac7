# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of `randomness.random_bytes`, `commitment.commitment_to`, `template.fill_entry`, `spell_entry` and
`journal.put_record`, and the usual course through `audit.writer`: the same bytes. Digests and the cipher are
`_openssl`'s."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object)
    void *PyUnicode_DATA(object)

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.unistd cimport pwrite

cimport cython

from audit.domain._openssl cimport AesGcm, Links, hmac_sha256
from audit.domain.state cimport (
    BacklogState, HeldState, JournalState, LiveState, Run, Segment, ServingState, SyncState, TemplateState, WriterState
)

import os
import time

from audit.domain.canonical import canonical_text as _canonical_text

cdef const char *_HEX = b"0123456789abcdef"
cdef object _urandom = os.urandom
cdef enum:
    DRAWN = 4096
    LINK = 16
    RECORD = 20
    HEADER = 84  # of a segment
    SALT = 32
    NONCE = 12
    TAG = 16
    COMMITMENT = 32
    KEPT = 65536

# --- randomness.py ----------------------------------------------------------------------------------------------------

# Nothing between reading and moving the place lets another thread run: the interpreter's lock is held.
cdef bytes _drawn = b""
cdef Py_ssize_t _drawn_at = 0


def random_bytes(Py_ssize_t count):
    return _random_bytes(count)


cdef bytes _random_bytes(Py_ssize_t count):
    cdef bytes out
    if count < 0:
        raise ValueError("negative argument not allowed")
    out = PyBytes_FromStringAndSize(NULL, count)
    _draw(<unsigned char *>PyBytes_AS_STRING(out), count)
    return out


cdef int _draw(unsigned char *to, Py_ssize_t count) except -1:
    global _drawn, _drawn_at
    cdef bytes fresh
    if _drawn_at + count > PyBytes_GET_SIZE(_drawn):
        fresh = _urandom(max(<Py_ssize_t>DRAWN, count))  # another thread may draw meanwhile: each uses its own
        memcpy(to, PyBytes_AS_STRING(fresh), count)
        _drawn, _drawn_at = fresh, count
        return 0
    memcpy(to, PyBytes_AS_STRING(_drawn) + _drawn_at, count)
    _drawn_at += count
    return 0


def time_ordered_id(int64_t millis):
    return new_id(millis)


cdef str new_id(int64_t millis):
    cdef unsigned char text[36]
    _spell_id(millis, text)
    return PyUnicode_DecodeASCII(<const char *>text, 36, NULL)


cdef bytes new_quoted_id(int64_t millis):
    """A new id in canonical form, quotes included."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 38)
    cdef unsigned char *text = <unsigned char *>PyBytes_AS_STRING(out)
    text[0] = text[37] = 0x22
    _spell_id(millis, text + 1)
    return out


cdef int _spell_id(int64_t millis, unsigned char *text) except -1:
    """36 characters to `text`."""
    cdef unsigned char raw[16]
    cdef Py_ssize_t at, place = 0
    for at in range(6):
        raw[at] = (millis >> (40 - 8 * at)) & 0xFF
    _draw(raw + 6, 10)
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    for at in range(16):
        if at == 4 or at == 6 or at == 8 or at == 10:
            text[place] = 0x2D
            place += 1
        text[place] = _HEX[raw[at] >> 4]
        text[place + 1] = _HEX[raw[at] & 15]
        place += 2
    return 0


def forget_drawn():
    global _drawn, _drawn_at
    _drawn, _drawn_at = b"", 0


# --- commitment.py ----------------------------------------------------------------------------------------------------

def commitment_to(bytes plaintext not None, bytes salt not None):
    cdef unsigned char out[COMMITMENT]
    hmac_sha256(
        <const unsigned char *>PyBytes_AS_STRING(salt),
        PyBytes_GET_SIZE(salt),
        <const unsigned char *>PyBytes_AS_STRING(plaintext),
        PyBytes_GET_SIZE(plaintext),
        out,
    )
    return PyBytes_FromStringAndSize(<const char *>out, COMMITMENT)


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
    cdef _Entry entry
    cdef bytes statement = _quoted(statement_id), spelled
    cdef unsigned char *at
    _measure(&entry, body, values, at_us, PyBytes_GET_SIZE(commitment), around, session, statement, ending)
    spelled = PyBytes_FromStringAndSize(NULL, 8 + entry.head + entry.tail + PyBytes_GET_SIZE(box))
    at = _spell(
        &entry,
        <unsigned char *>PyBytes_AS_STRING(spelled),
        body,
        values,
        <const unsigned char *>PyBytes_AS_STRING(commitment),
        around,
        session,
        statement,
        ending,
    )
    _put(at, box)
    return spelled


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


cdef struct _Entry:
    Py_ssize_t head, tail, digest
    Py_ssize_t digits  # of its moment
    unsigned char moment[20]


cdef int _measure(
    _Entry *entry,
    tuple body,
    tuple values,
    int64_t at_us,
    Py_ssize_t digest,
    bytes around,
    bytes session,
    bytes statement,
    bytes ending,
) except -1:
    """How long the parts of the entry are that `_spell` spells."""
    cdef Py_ssize_t parts = len(body), number, size = 0
    cdef uint64_t left = <uint64_t>at_us if at_us >= 0 else 0 - <uint64_t>at_us
    if parts != len(values) + 1:
        raise ValueError(f"an entry of {parts - 1} blanks, {len(values)} values")
    for number in range(parts):
        size += PyBytes_GET_SIZE(<bytes?>body[number])
    for number in range(parts - 1):
        size += PyBytes_GET_SIZE(<bytes?>values[number])
    entry.digits = 0
    while True:
        entry.digits += 1
        entry.moment[20 - entry.digits] = 0x30 + left % 10
        left //= 10
        if left == 0:
            break
    if at_us < 0:
        entry.digits += 1
        entry.moment[20 - entry.digits] = 0x2D
    entry.digest = digest
    entry.head = (
        PyBytes_GET_SIZE(_MOMENT) + entry.digits + PyBytes_GET_SIZE(_BODY) + size
        + PyBytes_GET_SIZE(_COMMITMENT) + 2 * digest + 1 + PyBytes_GET_SIZE(around)
    )
    entry.tail = PyBytes_GET_SIZE(session) + PyBytes_GET_SIZE(statement) + PyBytes_GET_SIZE(ending)
    if entry.head > 0xFFFFFFFF or entry.tail > 0xFFFFFFFF:
        raise ValueError("an entry longer than its lengths can say")
    return 0


cdef unsigned char *_spell(
    _Entry *entry,
    unsigned char *at,
    tuple body,
    tuple values,
    const unsigned char *commitment,
    bytes around,
    bytes session,
    bytes statement,
    bytes ending,
) noexcept:
    """`template.spell_entry` without the box, whose place is returned. Everything was looked at by `_measure`."""
    cdef Py_ssize_t number
    _put_uint32(at, <uint32_t>entry.head)
    _put_uint32(at + 4, <uint32_t>entry.tail)
    at = _put(at + 8, _MOMENT)
    memcpy(at, entry.moment + 20 - entry.digits, entry.digits)
    at = _put(at + entry.digits, _BODY)
    for number in range(len(body)):
        if number:
            at = _put(at, <bytes>values[number - 1])
        at = _put(at, <bytes>body[number])
    at = _put(at, _COMMITMENT)
    for number in range(entry.digest):
        at[0] = _HEX[commitment[number] >> 4]
        at[1] = _HEX[commitment[number] & 15]
        at += 2
    at[0] = 0x22
    return _put(_put(_put(_put(at + 1, around), session), statement), ending)


@cython.freelist(8)
cdef class Filling:
    def __init__(
        self, str statement_id not None, tuple values not None=(), sensitive=None, int64_t at_us=0, bytes spelled=None
    ):
        self.statement_id, self.values, self.sensitive = statement_id, values, sensitive
        self.at_us, self.spelled = at_us, spelled


cdef Filling new_filling(bytes quoted_id, tuple values, bytes spelled, int64_t at_us):
    """One for `Alike.put` and `put_soon` alone: it has no `statement_id` of its own, as `plain` gives one."""
    cdef Filling filling = Filling.__new__(Filling)
    filling.quoted_id, filling.values, filling.spelled, filling.at_us = quoted_id, values, spelled, at_us
    return filling


cdef object _now_ns = time.time_ns
cdef bytes _BOUND = b"hoopweb log text\x00"
cdef bytes _ENDING = b',"v":1}'
cdef object _encode_sensitive = None


cdef class _Scratch:
    """Where an entry is spelled before it is copied to its place; used with the interpreter's lock held throughout."""

    cdef unsigned char *start
    cdef Py_ssize_t room

    def __cinit__(self):
        self.start, self.room = NULL, 0

    def __dealloc__(self):
        free(self.start)

    cdef unsigned char *of(self, Py_ssize_t size) except NULL:
        cdef Py_ssize_t room = KEPT if size <= KEPT else size
        if self.room != room:  # a longer one is not kept for the next
            free(self.start)
            self.start, self.room = <unsigned char *>malloc(room), 0
            if self.start is NULL:
                raise MemoryError
            self.room = room
        return self.start


cdef _Scratch _scratch = _Scratch()


def fill_entry(tuple body not None, bytes around not None, bytes session not None, Filling filling not None, sealer):
    cdef Py_ssize_t size = _fill(body, around, session, filling, sealer, 0)
    return PyBytes_FromStringAndSize(<const char *>_scratch.start, size)


cdef Py_ssize_t _fill(
    tuple body, bytes around, bytes session, Filling filling, sealer, Py_ssize_t before
) except -1:
    """Spell the entry into the scratch, `before` bytes behind its start; returns how many.

    Everything that may ask the interpreter is done before the first byte is written there.
    """
    global _encode_sensitive
    cdef object plaintext = filling.spelled
    cdef bytes text = None, box = None, statement = filling.quoted_id
    cdef bytes head
    cdef AesGcm cipher = None
    cdef tuple using
    cdef unsigned char salt[SALT]
    cdef unsigned char nonce[NONCE]
    cdef unsigned char commitment[COMMITMENT]
    cdef unsigned char bound[1 + 17 + COMMITMENT]
    cdef unsigned char *at
    cdef _Entry entry
    cdef Py_ssize_t sealed = 0, size
    if statement is None:
        statement = _quoted(filling.statement_id)
    if plaintext is None and filling.sensitive is not None:
        if _encode_sensitive is None:
            from audit.domain.chain import encode_sensitive as _encode_sensitive
        plaintext = _encode_sensitive(filling.sensitive)
    if plaintext is not None:
        text = <bytes?>plaintext
        _draw(salt, SALT)
        hmac_sha256(salt, SALT, <const unsigned char *>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), commitment)
        using = sealer._current
        if using is not None and type(using[1]) is AesGcm and next(using[2], None) is not None:
            cipher, head = <AesGcm>using[1], <bytes?>sealer._prefix + <bytes?>using[0]
            _draw(nonce, NONCE)
            sealed = PyBytes_GET_SIZE(head) + NONCE + SALT + PyBytes_GET_SIZE(text) + TAG
        else:  # its own way, which goes on to the next cipher
            box = <bytes?>sealer.seal(
                <bytes>PyBytes_FromStringAndSize(<const char *>salt, SALT) + text,
                bound_to=_BOUND + <bytes>PyBytes_FromStringAndSize(<const char *>commitment, COMMITMENT),
            )
            sealed = PyBytes_GET_SIZE(box)
    _measure(
        &entry,
        body,
        filling.values,
        filling.at_us or <int64_t>_now_ns() // 1000,
        0 if text is None else COMMITMENT,
        around,
        session,
        statement,
        _ENDING,
    )
    size = 8 + entry.head + entry.tail + sealed
    at = _scratch.of(before + size) + before
    at = _spell(&entry, at, body, filling.values, commitment, around, session, statement, _ENDING)
    if cipher is not None:
        at = _put(at, head)
        memcpy(at, nonce, NONCE)
        bound[0] = 1  # box._VERSION
        memcpy(bound + 1, PyBytes_AS_STRING(_BOUND), 17)
        memcpy(bound + 18, commitment, COMMITMENT)
        cipher.seal(
            nonce,
            bound,
            sizeof(bound),
            salt,
            SALT,
            <const unsigned char *>PyBytes_AS_STRING(text),
            PyBytes_GET_SIZE(text),
            at + NONCE,
        )
    elif box is not None:
        _put(at, box)
    return size


# --- journal.py -------------------------------------------------------------------------------------------------------

def put_record(view, Py_ssize_t place, bytes chain not None, bytes payload not None):
    _put_record(view, place, chain, payload)


cdef int _put_record(view, Py_ssize_t place, bytes chain, bytes payload) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef unsigned char *record
    if PyBytes_GET_SIZE(chain) != LINK:
        raise ValueError("a link has 16 bytes")
    record = _scratch.of(RECORD + size)
    _put_uint32(record, <uint32_t>size)
    memcpy(record + 4, PyBytes_AS_STRING(chain), LINK)
    memcpy(record + RECORD, PyBytes_AS_STRING(payload), size)
    return _copy(view, place, record, RECORD + size)


cdef int _copy(view, Py_ssize_t place, const unsigned char *record, Py_ssize_t size) except -1:
    cdef Py_buffer buffer
    PyObject_GetBuffer(view, &buffer, PyBUF_WRITABLE)
    try:
        if place < 0 or place + size > buffer.len:
            raise ValueError("a record outside its segment")
        memcpy(<unsigned char *>buffer.buf + place, record, size)
    finally:
        PyBuffer_Release(&buffer)
    return 0


# --- audit.writer: an entry that is put into the journal as nearly all are -----------------------------------------------

cdef Py_ssize_t _MAX_RUN = 2_000  # audit.backlog.MAX_RUN


def append_alike(WriterState writer not None, TemplateState template not None, Filling filling not None, Py_ssize_t most):
    return _append_alike(writer, template, filling, most)


@cython.wraparound(True)
cdef bint _append_alike(WriterState writer, TemplateState template, Filling filling, Py_ssize_t most) except -1:
    """Put an entry of this template into the writer's journal. False: nothing was done, the ordinary way has to.

    Whatever comes seldom is left to that way: the first entries, a new segment or one to be made ahead, a new run, a
    journal that may take no more.
    """
    cdef BacklogState backlog
    cdef HeldState held
    cdef JournalState journal
    cdef Segment segment
    cdef Run run
    cdef unsigned char *record
    cdef Py_ssize_t size, end, place
    if writer._journal is None or writer._sealer is None or writer._closing or not writer._tasks:
        return False
    backlog = <BacklogState?>writer._backlog
    if template.durability == "database" or backlog.behind >= most or not backlog.runs:
        return False
    run = <Run?>backlog.runs[-1]
    if run.entries >= _MAX_RUN or run.after != backlog.numbered or template._around[0] is not writer._gateway:
        return False
    held = <HeldState?>writer._journal
    journal = <JournalState?>held.journal
    size = RECORD + _fill(
        template._body, <bytes?>template._around[1], template._session, filling, writer._sealer, RECORD
    )
    record = _scratch.start
    segment = <Segment?>journal._segments[-1]
    end = segment.end - segment.start + size
    if HEADER + end + 4 > journal._segment_bytes:
        return False
    if 2 * end > journal._segment_bytes and journal._spare is None and held._making_spare is None:
        return False
    if PyBytes_GET_SIZE(journal._chain) != LINK:
        raise ValueError("a link has 16 bytes")
    place = HEADER + end - size
    _put_uint32(record, <uint32_t>(size - RECORD))
    (<Links?>journal._links).put(
        <const unsigned char *>PyBytes_AS_STRING(journal._chain), record + RECORD, size - RECORD, record + 4
    )
    if template.durability == "os":
        _copy(segment.view, place, record, size)
    elif pwrite(segment.file, record, size, place) != size:  # pages written to through a mapping are dearer to sync
        raise OSError("a record was not written whole")
    journal._chain = PyBytes_FromStringAndSize(<const char *>record + 4, LINK)
    segment.end += size
    backlog.behind += 1
    run.end = segment.end
    run.entries += 1
    return True


cdef class Alike:
    """`audit.live.LiveRecord`'s doors for entries that are many alike."""

    def __init__(self, LiveState live not None, WriterState writer not None, ServingState serving not None, Py_ssize_t most_told):
        self.live, self.writer, self.serving, self.most_told = live, writer, serving, most_told

    def append(self, template, Filling filling not None, whole, bint begins):
        return self.put(template, filling, whole, begins)

    cdef bint put(self, template, Filling filling, whole, bint begins) except -1:
        cdef TemplateState known = <TemplateState?>template
        if begins and (self.serving.stopped or known.durability != "os"):
            return False
        if not _append_alike(self.writer, known, filling, self.writer.most_behind if begins else self.writer.most_kept):
            return False
        self.tell(whole)
        return True

    cdef bint put_soon(self, template, Filling filling, reached) except -1:
        """`append_soon` of what waits for the disk alone; `reached` is told, once, whether it is there.

        It is another one's to `tell` of it then. False: nothing was done.
        """
        cdef TemplateState known = <TemplateState?>template
        cdef SyncState sync
        if self.serving.stopped or known.durability != "disk":
            return False
        if not _append_alike(self.writer, known, filling, self.writer.most_behind):
            return False
        sync = <SyncState?>(<HeldState>self.writer._journal)._syncing
        sync._waiting.append(reached)
        if not sync._begun or len(sync._waiting) == sync._enough:
            sync.begin_soon()
        return True

    cdef int tell(self, whole) except -1:
        if len(self.live._waiting) >= self.most_told:
            self.live._dropped += 1
        else:
            self.live._tell(whole())
        return 0
