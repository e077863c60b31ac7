# cython: language_level=3, boundscheck=False, cdivision=True
"""Requests as they arrive, looked up among what the session remembers; whether it still holds is for the lane to ask."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from gateway.listeners.quick.passage cimport Lane, Passage, new_passage
from gateway.listeners.quick.sparing cimport Sparing
from gateway.protocols.postgres._fast cimport (
    blanked, codes, cut, find_request, hexed_between, query_text, request_text, request_types, same_bytes
)
from gateway.protocols.postgres.state cimport NamesState, PreparedState
from gateway.session.state cimport RecurringState

from json.encoder import encode_basestring_ascii

from gateway.listeners.postgres_names import Prepared

cdef object _encoded = encode_basestring_ascii
cdef object _Prepared = Prepared
cdef bytes _EXACTLY = b"\0"  # as in `postgres_express`


cdef class Requests:
    """One session's."""

    def __init__(
        self,
        Lane lane not None,
        NamesState statements not None,
        Sparing sparing not None,
        dict queries not None,
        dict texts not None,
    ):
        """`queries` and `texts` are the lane's own (`ExpressLane`), which fills them."""
        self.lane, self.statements, self.sparing, self.queries, self.texts = lane, statements, sparing, queries, texts

    cdef Passage read(self, bytes data):
        """The execution that `data` asks for if it is one whole request for what is remembered; None otherwise."""
        cdef Passage passage
        if PyBytes_AS_STRING(data)[0] == 0x51:
            return self.query(data)
        if not find_request(data, &self._places):
            return None
        passage = self.made(data) if self._places.text_end else self.bound(data)
        if passage is not None:
            passage.undescribed = not self._places.described
        return passage

    cdef Passage query(self, bytes data):
        cdef bytes raw = query_text(data)
        cdef RecurringState recurring
        if raw is None:
            return None
        recurring = self.queries.get(blanked(raw))
        if recurring is None:
            recurring = self.queries.get(_EXACTLY + raw)
        self._text = raw
        return None if recurring is None else new_passage(self.lane, recurring, data, None)

    cdef Passage bound(self, bytes data):
        """Bind of a statement the server has, and its execution."""
        cdef PreparedState statement = self.confirmed(data, self._places.name, self._places.name_end)
        if statement is None or not statement.fixed or statement.recurring is None:
            return None
        return new_passage(self.lane, statement.recurring, data, statement)

    cdef Passage made(self, bytes data):
        """Parse, and execution of what was parsed."""
        cdef tuple types = request_types(data, &self._places)
        cdef RecurringState recurring
        cdef Passage passage
        if self.statements.full:
            return None
        recurring = self.texts.get((request_text(data, &self._places), types))
        if recurring is None:
            return None
        passage = new_passage(self.lane, recurring, data, self.unnamed(recurring, types))
        passage.parsed = True
        return passage

    cdef PreparedState confirmed(self, bytes data, Py_ssize_t start, Py_ssize_t stop):
        """The statement the server has confirmed under the name."""
        if not same_bytes(self._asked, data, start, stop):
            self._asked = cut(data, start, stop)
            try:
                self._name = self._asked.decode("utf-8")
            except UnicodeDecodeError:
                self._asked = None
                return None
        if self.statements._proposed:
            return self.statements.certain(self._name)
        return self.statements._confirmed.get(self._name)

    cdef PreparedState unnamed(self, RecurringState recurring, tuple types):
        """The statement it makes: the one that is there if the same was parsed before and nobody described it."""
        cdef PreparedState statement = self.statements._confirmed.get("")
        if statement is not None and statement is self.sparing.made and statement.recurring is recurring:
            shape = statement.shape
            if shape.fields is None and not shape.requested:
                statement.settings = (<object>recurring).session.settings
                return statement
        statement = _Prepared("", recurring.text, types, None, True)
        statement.recurring = recurring
        statement.analysis = recurring.known.analysis_of(recurring.text, types)
        statement.settings = (<object>recurring).session.settings
        return statement

    cdef bytes spelled(self, Passage passage):
        """What is sealed of the request read last (`encode_sensitive`, `Recurring.spelled`); None when it is no text."""
        cdef RecurringState recurring = passage.recurring
        cdef Request *found = &self._places
        cdef tuple formats
        cdef bytes tail
        if passage.simple:
            return _statement(self._text) if recurring.shape else recurring._whole
        if found.results == found.parameters + 2:  # it has none
            return recurring._whole
        formats = codes(passage.data, found.formats)
        tail = recurring._tails.get(formats)
        if tail is None:
            tail = recurring.tail(formats)
        return hexed_between(recurring._head, passage.data, found.parameters, tail)


cdef bytes _statement(bytes raw):
    """The sealed text of a Query without parameters, and without the semicolon it ends with."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(raw), at
    cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(raw)
    cdef bytes out
    cdef char *to
    if size and text[size - 1] == 0x3B:
        size -= 1
    if size == 0:
        return None
    for at in range(size):
        if text[at] < 0x20 or text[at] > 0x7E or text[at] == 0x22 or text[at] == 0x5C:
            try:
                return f'{{"statement":{_encoded(raw[:size].decode("utf-8"))}}}'.encode()
            except UnicodeDecodeError:
                return None
    out = PyBytes_FromStringAndSize(NULL, size + 16)
    to = PyBytes_AS_STRING(out)
    memcpy(to, b'{"statement":"', 14)
    memcpy(to + 14, text, size)
    memcpy(to + 14 + size, b'"}', 2)
    return out
