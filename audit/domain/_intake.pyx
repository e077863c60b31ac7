# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of the log's intake: `journal_follow.read_record`, `journaled.split_entry` and `unpack_with`,
`chain.link_entries`, `append.leaf_row`, `leaf_rows` and `box_rows`, `projection.fold`, `statement_rows.rows_to_copy`:
the same objects, the same bytes, the same refusals. Digests are `_openssl`'s."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject, PyObject_GenericSetAttr
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object)
    void *PyUnicode_DATA(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)

cdef extern from "string.h" nogil:
    void *memmem(const void *, size_t, const void *, size_t)
    void *memchr(const void *, int, size_t)

from audit.domain._openssl cimport Links, marked_sha256

from audit.domain.canonical import CanonicalBody, Draft
from audit.domain.columns import text_column as _text_column
from audit.domain.entry import Entry
from audit.domain.journal import JournalCorrupt

cdef const char *_HEX = b"0123456789abcdef"
cdef object _new = object.__new__
cdef object _new_tuple = tuple.__new__
cdef object _Leaf = None, _Prepared = None, _Said = None
cdef enum:
    RECORD = 20  # audit.domain.journal.RECORD: a length and a link
    LINK = 16
    MAX_COLUMN = 64  # of an identifier
    DIGEST = 32
cdef int64_t _EPOCH_US = 946684800000000
cdef bytes _NULL = b"\xff\xff\xff\xff"


cdef int _know() except -1:
    """The types of what is made here; their modules ask this one for its functions."""
    global _Leaf, _Prepared, _Said
    from audit.domain.chain import Leaf, Prepared
    from audit.domain.statement_rows import Said
    _Leaf, _Prepared, _Said = Leaf, Prepared, Said
    return 0


cdef inline object _item(object row, Py_ssize_t size, Py_ssize_t number):
    """One member of a named tuple of so many."""
    if not PyTuple_Check(row) or PyTuple_GET_SIZE(row) != size:
        raise TypeError("not a row of this kind")
    return <object>PyTuple_GET_ITEM(row, number)


cdef inline bytes _bytes(object value):
    if not PyBytes_Check(value):
        raise TypeError("expected bytes")
    return <bytes>value


cdef inline void _put_uint32(unsigned char *at, uint32_t value) noexcept nogil:
    at[0] = value >> 24
    at[1] = (value >> 16) & 0xFF
    at[2] = (value >> 8) & 0xFF
    at[3] = value & 0xFF


cdef inline uint32_t _uint32(const unsigned char *at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline unsigned char *_put(unsigned char *at, bytes piece) noexcept:
    memcpy(at, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
    return at + PyBytes_GET_SIZE(piece)


cdef inline unsigned char *_put_sized(unsigned char *at, bytes piece) noexcept:
    _put_uint32(at, <uint32_t>PyBytes_GET_SIZE(piece))
    return _put(at + 4, piece)


cdef inline unsigned char *_put_hex(unsigned char *at, const unsigned char *raw, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t number
    for number in range(size):
        at[2 * number] = _HEX[raw[number] >> 4]
        at[2 * number + 1] = _HEX[raw[number] & 15]
    return at + 2 * size


cdef inline unsigned char *_put_int8(unsigned char *at, int64_t value) noexcept:
    _put_uint32(at, 8)
    _put_uint32(at + 4, <uint32_t>(<uint64_t>value >> 32))
    _put_uint32(at + 8, <uint32_t>(<uint64_t>value & 0xFFFFFFFF))
    return at + 12


# --- journal_follow.py ------------------------------------------------------------------------------------------------

def read_record(view, Py_ssize_t at, Links links not None, bytes chain not None, place):
    cdef Py_buffer buffer
    cdef const unsigned char *raw
    cdef Py_ssize_t length
    cdef bytes payload, linked = PyBytes_FromStringAndSize(NULL, LINK)
    if PyBytes_GET_SIZE(chain) != LINK:
        raise ValueError("a link has 16 bytes")
    PyObject_GetBuffer(view, &buffer, PyBUF_SIMPLE)
    try:
        raw = <const unsigned char *>buffer.buf
        if at < 0 or at + RECORD > buffer.len:
            return None
        length = <Py_ssize_t>_uint32(raw + at)
        if length == 0:
            return None
        if length > buffer.len - at - RECORD:
            raise JournalCorrupt(f"no record at {place}")
        payload = PyBytes_FromStringAndSize(<const char *>raw + at + RECORD, length)
        # Of the copy: the file may be written to meanwhile.
        links.put(
            <const unsigned char *>PyBytes_AS_STRING(chain),
            <const unsigned char *>PyBytes_AS_STRING(payload),
            length,
            <unsigned char *>PyBytes_AS_STRING(linked),
        )
        if memcmp(PyBytes_AS_STRING(linked), raw + at + 4, LINK) != 0:
            raise JournalCorrupt(f"the record at {place} was altered")
    finally:
        PyBuffer_Release(&buffer)
    return payload, linked


# --- journaled.py -----------------------------------------------------------------------------------------------------

cdef bytes _MOMENT = b'{"at_us":', _BODY = b',"body":', _COMMITMENT = b',"commitment":"'
cdef bytes _STATEMENT = b',"statement":', _ENDS = b',"v":'


cdef struct Places:
    # Of a payload: where its head and tail are, and within them what they say.
    Py_ssize_t head, tail, box
    Py_ssize_t body, body_end, around, session_end, statement, statement_end


cdef Py_ssize_t _first(const char *raw, Py_ssize_t low, Py_ssize_t high, bytes piece) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(piece)
    cdef const char *found = NULL
    if low <= high:
        found = <const char *>memmem(raw + low, high - low, PyBytes_AS_STRING(piece), size)
    if found == NULL:
        raise ValueError("a member was not found")
    return found - raw


cdef Py_ssize_t _last(const char *raw, Py_ssize_t low, Py_ssize_t high, bytes piece) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(piece), at = high - size
    cdef const char *wanted = PyBytes_AS_STRING(piece)
    while at >= low:
        if raw[at] == wanted[0] and memcmp(raw + at, wanted, size) == 0:
            return at
        at -= 1
    raise ValueError("a member was not found")


cdef int _take_apart(bytes payload, Places *places) except -1:
    cdef const char *raw = PyBytes_AS_STRING(payload)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload), stop, quote, named
    if size < 8:
        raise ValueError("no packed entry")
    places.head = 8
    places.tail = 8 + <Py_ssize_t>_uint32(<const unsigned char *>raw)
    places.box = places.tail + <Py_ssize_t>_uint32(<const unsigned char *>raw + 4)
    if places.box > size:
        raise ValueError("no packed entry")
    places.body = _first(raw, places.head, places.tail, _BODY)
    stop = _last(raw, places.head, places.tail, _COMMITMENT)
    quote = _first(raw, stop + PyBytes_GET_SIZE(_COMMITMENT), places.tail, b'"')
    named = _last(raw, places.tail, places.box, _STATEMENT)
    places.body_end = stop
    places.around = quote + 2
    places.session_end = named + 1
    places.statement = named + PyBytes_GET_SIZE(_STATEMENT)
    places.statement_end = _last(raw, places.tail, places.box, _ENDS)
    return 0


cdef inline bytes _between(bytes payload, Py_ssize_t low, Py_ssize_t high):
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(payload) + low, high - low) if low < high else b""


cdef object _moment(bytes payload, Places *places):
    cdef Py_ssize_t low = places.head + PyBytes_GET_SIZE(_MOMENT), at
    cdef const char *raw = PyBytes_AS_STRING(payload)
    cdef int64_t value = 0
    if low < places.body <= low + 18:
        for at in range(low, places.body):
            if not 0x30 <= raw[at] <= 0x39:
                break
            value = 10 * value + raw[at] - 0x30
        else:
            return value
    return int(_between(payload, low, places.body))


def split_entry(bytes payload not None):
    cdef Places places
    _take_apart(payload, &places)
    return (
        _between(payload, places.head, places.tail),
        _between(payload, places.tail, places.box),
        _between(payload, places.box, PyBytes_GET_SIZE(payload)),
        _moment(payload, &places),
        _between(payload, places.body + PyBytes_GET_SIZE(_BODY), places.body_end),
        _between(payload, places.around, places.tail),
        _between(payload, places.tail, places.session_end),
        _between(payload, places.statement, places.statement_end),
    )


cdef inline object _known(dict kept, bytes text):
    cdef PyObject *found = PyDict_GetItem(kept, text)
    return None if found == NULL else <object>found


def unpack_with(reading, bytes payload not None):
    cdef Places places
    cdef dict kept = reading.kept
    cdef bytes statement
    _take_apart(payload, &places)
    at_us = _moment(payload, &places)
    text = _between(payload, places.around, places.tail)
    about = _known(kept, text)
    if about is None:
        about = reading.about(text)
    text = _between(payload, places.body + PyBytes_GET_SIZE(_BODY), places.body_end)
    body = _known(kept, text)
    if body is None:
        body = reading.body(text)
    text = _between(payload, places.tail, places.session_end)
    session = _known(kept, text)
    if session is None:
        session = reading.session(text)
    entry = _new(Entry)
    # As a frozen class sets what it is made of.
    PyObject_GenericSetAttr(entry, "kind", _item(about, 2, 0))
    PyObject_GenericSetAttr(entry, "body", body)
    PyObject_GenericSetAttr(entry, "session_id", session)
    statement = _between(payload, places.statement, places.statement_end)
    if memchr(PyBytes_AS_STRING(statement), 0x5C, PyBytes_GET_SIZE(statement)) != NULL:
        PyObject_GenericSetAttr(entry, "statement_id", reading.string(statement))
    else:
        PyObject_GenericSetAttr(
            entry, "statement_id", _between(statement, 1, PyBytes_GET_SIZE(statement) - 1).decode()
        )
    PyObject_GenericSetAttr(entry, "sensitive", None)
    PyObject_GenericSetAttr(entry, "at_us", at_us)
    PyObject_GenericSetAttr(entry, "durability", "database")
    if _Prepared is None:
        _know()
    draft = _new_tuple(
        Draft, (_between(payload, places.head, places.tail), _between(payload, places.tail, places.box))
    )
    box = _between(payload, places.box, PyBytes_GET_SIZE(payload))
    return _new_tuple(_Prepared, (entry, _item(about, 2, 1), draft, box))


# --- chain.py ---------------------------------------------------------------------------------------------------------

def link_entries(bytes prev not None, Py_ssize_t size, nodes, prepared):
    cdef list leaves = [], tree = list(nodes)
    cdef Py_ssize_t carry, before
    cdef char *at
    cdef bytes head, tail, seq, text, node
    if _Leaf is None:
        _know()
    for item in prepared:
        draft = _item(item, 4, 2)
        head, tail = _bytes(_item(draft, 2, 0)), _bytes(_item(draft, 2, 1))
        seq = b"%d" % (size + 1)
        before = PyBytes_GET_SIZE(prev)
        text = PyBytes_FromStringAndSize(
            NULL,
            PyBytes_GET_SIZE(head) + 2 * before + 9 + PyBytes_GET_SIZE(seq) + PyBytes_GET_SIZE(tail) + 1,
        )
        at = <char *>_put(<unsigned char *>PyBytes_AS_STRING(text), head)
        at[0] = 0x22
        at += 1
        at = <char *>_put_hex(<unsigned char *>at, <const unsigned char *>PyBytes_AS_STRING(prev), before)
        memcpy(at, b'","seq":', 8)
        at = <char *>_put(<unsigned char *>at + 8, seq)
        at[0] = 0x2C
        _put(<unsigned char *>at + 1, tail)
        node = _digest(0, text, b"")
        leaves.append(_new_tuple(_Leaf, (size + 1, prev, text, node)))
        prev = node
        carry = size
        while carry & 1:
            node = _digest(1, _bytes(tree.pop()), node)
            carry >>= 1
        tree.append(node)
        size += 1
    return leaves, tuple(tree)


cdef bytes _digest(unsigned char mark, bytes first, bytes second):
    """`merkle.leaf_hash` and `node_hash`."""
    cdef bytes digest = PyBytes_FromStringAndSize(NULL, DIGEST)
    marked_sha256(
        mark,
        <const unsigned char *>PyBytes_AS_STRING(first),
        PyBytes_GET_SIZE(first),
        <const unsigned char *>PyBytes_AS_STRING(second),
        PyBytes_GET_SIZE(second),
        <unsigned char *>PyBytes_AS_STRING(digest),
    )
    return digest


# --- append.py --------------------------------------------------------------------------------------------------------

cdef bytes _column(text, Py_ssize_t length):
    """`columns.text_column`, encoded."""
    cdef Py_ssize_t size
    if type(text) is str and PyUnicode_IS_COMPACT_ASCII(text):
        size = PyUnicode_GET_LENGTH(text)
        if size <= length and memchr(PyUnicode_DATA(text), 0, size) == NULL:
            return PyBytes_FromStringAndSize(<const char *>PyUnicode_DATA(text), size)
    return (<str?>_text_column(text, length)).encode()


cdef bytes _leaf_row(
    bytes head, int64_t seq, int64_t at_us, bytes digest, bytes prev, bytes canonical, session_id, statement_id,
    bytes shared,
):
    cdef bytes session = _column(session_id, MAX_COLUMN), statement = _column(statement_id, MAX_COLUMN)
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
    return _leaf_row(head, seq, at_us, digest, prev, canonical, session_id, statement_id, shared)


def leaf_rows(bytes head not None, leaves, prepared, cells):
    cdef list rows = []
    for leaf, item in zip(leaves, prepared, strict=True):
        entry = _item(item, 4, 0)
        rows.append(
            _leaf_row(
                head,
                _item(leaf, 4, 0),
                entry.at_us,
                _bytes(_item(leaf, 4, 3)),
                _bytes(_item(leaf, 4, 1)),
                _bytes(_item(leaf, 4, 2)),
                entry.session_id,
                entry.statement_id,
                _shared(entry, cells),
            )
        )
    return rows


def box_rows(bytes head not None, leaves, prepared):
    cdef list rows = []
    cdef bytes box, row
    cdef unsigned char *out
    cdef Py_ssize_t named
    for leaf, item in zip(leaves, prepared, strict=True):
        box = _bytes(_item(item, 4, 3))
        if not box:
            continue
        named = max(0, min(PyBytes_GET_SIZE(box), 9) - 1)  # `box.box_key_id`
        row = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(head) + 12 + 4 + 2 * named + 4 + PyBytes_GET_SIZE(box))
        out = _put_int8(_put(<unsigned char *>PyBytes_AS_STRING(row), head), _item(leaf, 4, 0))
        _put_uint32(out, <uint32_t>(2 * named))
        out = _put_hex(out + 4, <const unsigned char *>PyBytes_AS_STRING(box) + 1, named)
        _put_sized(out, box)
        rows.append(row)
    return rows


cdef bytes _shared(entry, cells):
    """What `append.joined_cells` remembers of a body, or makes."""
    body = entry.body
    if type(body) is CanonicalBody:
        found = body.memo.get(("leaf", entry.kind))
        if found is not None:
            return _bytes(found)
    return _bytes(cells(entry))


# --- projection.py, statement_rows.py ---------------------------------------------------------------------------------

def fold(records, leaves, prepared, changes, say):
    cdef dict begun = records.begun, outcomes = records.outcomes, counts = records.counts, row
    cdef list rest = []
    cdef PyObject *found
    if _Said is None:
        _know()
    for leaf, item in zip(leaves, prepared, strict=True):
        entry = _item(item, 4, 0)
        kind, statement, session = entry.kind, entry.statement_id, entry.session_id
        about = None
        if statement and kind in changes:
            change = _change(kind, entry.body, say)
            about = _new_tuple(_Said, (change, leaf, item))
            key = statement if len(statement) <= MAX_COLUMN else statement[:MAX_COLUMN]
            found = PyDict_GetItem(begun, key)
            if found != NULL:
                (<list?><object>found).append(about)
            elif not change.completes:
                begun[key] = [about]
            else:
                found = PyDict_GetItem(outcomes, key)
                if found != NULL:
                    (<list?><object>found).append(about)
                else:
                    outcomes[key] = [about]
        else:
            rest.append((leaf, item))
        if session:
            key = session if len(session) <= MAX_COLUMN else session[:MAX_COLUMN]
            found = PyDict_GetItem(counts, key)
            if found == NULL:
                row = counts[key] = {"statements": 0, "denied": 0, "rows": 0, "last_seq": 0}
            else:
                row = <dict?><object>found
            row["last_seq"] = _item(leaf, 4, 0)
            if kind == "statement.completed":
                many = entry.body.get("rows")
                if isinstance(many, int):
                    row["rows"] += many
            elif kind == "statement.authorised":
                row["statements"] += 1
            elif kind == "statement.denied":
                row["statements"] += 1
                row["denied"] += 1
    return rest


cdef object _change(kind, body, say):
    """What `statement_rows.change_of` remembers of a body, or works out."""
    if type(body) is CanonicalBody:
        found = body.memo.get(kind)
        if found is not None:
            return found
    return say(kind, body)


def rows_to_copy(bytes head not None, statements, known, other):
    cdef list rows = [], entries
    cdef Py_ssize_t count
    for key, entries in statements.items():
        if known and key in known:
            continue
        count = len(entries)
        if count == 0:
            raise IndexError("a statement without entries")
        first, last = entries[0], entries[count - 1]
        begins, ends = _item(first, 3, 0), _item(last, 3, 0)
        if count == 1 or (count == 2 and begins.plain and ends.completes):
            rows.append(_statement_row(head, key, first, last, begins, ends))
        else:
            rows.append(_bytes(other(key, entries)))
    return rows


cdef bytes _statement_row(bytes head, key, first, last, begins, ends):
    first_item, last_item = _item(first, 3, 2), _item(last, 3, 2)
    cdef object begun = _item(first_item, 4, 0), ended = _item(last_item, 4, 0)
    cdef bytes name = _column(key, MAX_COLUMN), session = _column(begun.session_id, MAX_COLUMN)
    cdef bytes gateway = _column(_item(first_item, 4, 1), MAX_COLUMN)
    cdef bytes front = _bytes(_item(begins.spelled(), 2, 0)), outcome = _bytes(_item(ends.spelled(), 2, 1))
    cdef int64_t at_us = begun.at_us, last_us = ended.at_us
    cdef int64_t first_seq = _item(_item(first, 3, 1), 4, 0), last_seq = _item(_item(last, 3, 1), 4, 0)
    cdef bint is_over = ends.ends
    cdef bytes row = PyBytes_FromStringAndSize(
        NULL,
        PyBytes_GET_SIZE(head) + 12 + PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(session) + PyBytes_GET_SIZE(gateway)
        + 36 + (12 if is_over else 4) + PyBytes_GET_SIZE(front) + PyBytes_GET_SIZE(outcome),
    )
    cdef unsigned char *out = _put(<unsigned char *>PyBytes_AS_STRING(row), head)
    out = _put_sized(_put_sized(_put_sized(out, name), session), gateway)
    out = _put_int8(out, at_us - _EPOCH_US)
    out = _put_int8(out, last_us - _EPOCH_US) if is_over else _put(out, _NULL)
    out = _put_int8(_put_int8(out, first_seq), last_seq)
    _put(_put(out, front), outcome)
    return row
