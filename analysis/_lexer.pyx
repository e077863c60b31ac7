# cython: language_level=3, boundscheck=False, wraparound=False
"""`analysis.lexer.read_tokens`, compiled: what begins and ends plainly is cut here, all else by `read_lexeme`, the same.

Plain is what the patterns there could cut in one way only: words and integers of ASCII, strings and quoted names that
end at their next quote, operators, single characters. Letters that may open a literal, digits that may go on as another
kind of number, a quote that may go on behind white space, comments and dollars are not.
"""

from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_Substring

from analysis.lexer import Token as _Token
from analysis.lexer import TokenKind as _TokenKind
from analysis.turns import give_way

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    void *PyUnicode_DATA(object text)
    Py_UCS4 PyUnicode_READ(int kind, void *data, Py_ssize_t index)
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t count)

cdef object _WORD = _TokenKind.WORD
cdef object _QUOTED = _TokenKind.QUOTED
cdef object _STRING = _TokenKind.STRING
cdef object _NUMBER = _TokenKind.NUMBER
cdef object _OPERATOR = _TokenKind.OPERATOR
cdef object _PUNCT = _TokenKind.PUNCT

cdef enum:
    OTHER = 0
    BLANK = 1
    LETTER = 2  # begins a word
    DIGIT = 3
    SIGN = 4  # part of an operator
    SINGLE = 5  # a token of its own, whatever follows
    OFTEN = 8192  # lexemes between two moments in which other threads may run

cdef unsigned char _CLASS[128]
cdef int _place
for _place in range(128):
    _CLASS[_place] = OTHER
for _place in b" \t\n\r\f\v":
    _CLASS[_place] = BLANK
for _place in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_":
    _CLASS[_place] = LETTER
for _place in b"0123456789":
    _CLASS[_place] = DIGIT
for _place in b"-+*/<>=~!@#%^&|`?":
    _CLASS[_place] = SIGN
for _place in b",()[];":
    _CLASS[_place] = SINGLE


cdef inline int _class_of(Py_UCS4 c) noexcept:
    return _CLASS[c] if c < 128 else OTHER


cdef object _token(object kind, str text, Py_ssize_t start, str word):
    """A Token, made as `tuple.__new__` makes it."""
    cdef object made = PyType_GenericAlloc(<PyTypeObject *>_Token, 4), place = start
    Py_INCREF(kind)
    PyTuple_SET_ITEM(made, 0, kind)
    Py_INCREF(text)
    PyTuple_SET_ITEM(made, 1, text)
    Py_INCREF(place)
    PyTuple_SET_ITEM(made, 2, place)
    Py_INCREF(word)
    PyTuple_SET_ITEM(made, 3, word)
    return made


def read_tokens(str text not None, bint standard, list tokens not None, Py_ssize_t most, read):
    cdef int width = PyUnicode_KIND(text)
    cdef void *data = PyUnicode_DATA(text)
    cdef Py_ssize_t at = 0, end = len(text), stop, passed = 0
    cdef Py_UCS4 c, after
    cdef int kind
    cdef str found
    while at < end and PyList_GET_SIZE(tokens) <= most:
        passed += 1
        if passed % OFTEN == 0:
            give_way()
        c = PyUnicode_READ(width, data, at)
        kind = _class_of(c)
        stop = at + 1
        if kind == BLANK:
            at = stop
            continue
        if kind == SINGLE:
            tokens.append(_token(_PUNCT, PyUnicode_Substring(text, at, stop), at, ""))
            at = stop
            continue
        if kind == LETTER:
            after = 0
            while stop < end:
                after = PyUnicode_READ(width, data, stop)
                kind = _class_of(after)
                if kind != LETTER and kind != DIGIT and after != u"$":
                    break
                stop += 1
            # An apostrophe or & behind one letter may make a literal of it, a character beyond ASCII goes on with it.
            if stop == end or not (after >= 128 or after == u"'" or after == u"&"):
                found = PyUnicode_Substring(text, at, stop)
                tokens.append(_token(_WORD, found, at, found.upper()))
                at = stop
                continue
        elif kind == DIGIT:
            after = 0
            while stop < end:
                after = PyUnicode_READ(width, data, stop)
                if _class_of(after) != DIGIT:
                    break
                stop += 1
            if stop == end or not (after == u"." or _class_of(after) == LETTER):
                tokens.append(_token(_NUMBER, PyUnicode_Substring(text, at, stop), at, ""))
                at = stop
                continue
        elif c == u"'" and standard:
            stop = _closing(width, data, stop, end, u"'")
            if stop and not _may_go_on(width, data, stop, end):
                tokens.append(_token(_STRING, PyUnicode_Substring(text, at, stop), at, ""))
                at = stop
                continue
        elif c == u'"':
            stop = _closing(width, data, stop, end, u'"')
            if stop > at + 2 and not (stop < end and PyUnicode_READ(width, data, stop) == u'"'):
                tokens.append(_token(_QUOTED, PyUnicode_Substring(text, at, stop), at, ""))
                at = stop
                continue
        elif c == u".":
            if stop < end and _class_of(PyUnicode_READ(width, data, stop)) != DIGIT:
                tokens.append(_token(_PUNCT, ".", at, ""))
                at = stop
                continue
        elif kind == SIGN and not _comments(width, data, at, end):
            while stop < end:
                if _class_of(PyUnicode_READ(width, data, stop)) != SIGN or _comments(width, data, stop, end):
                    break
                stop += 1
            tokens.append(_token(_OPERATOR, PyUnicode_Substring(text, at, stop), at, ""))
            at = stop
            continue
        at = read(text, at, standard, tokens)


cdef Py_ssize_t _closing(int width, void *data, Py_ssize_t at, Py_ssize_t end, Py_UCS4 quote) noexcept:
    """Behind the next quote, or 0."""
    while at < end:
        if PyUnicode_READ(width, data, at) == quote:
            return at + 1
        at += 1
    return 0


cdef bint _may_go_on(int width, void *data, Py_ssize_t at, Py_ssize_t end) noexcept:
    """Whether a string that might end at `at` may go on: with another quote, or behind a line's end."""
    cdef Py_UCS4 c
    if at < end and PyUnicode_READ(width, data, at) == u"'":
        return True
    while at < end:
        c = PyUnicode_READ(width, data, at)
        if c == u"\n" or c == u"\r" or c == u"-":
            return True
        if c != u" " and c != u"\t" and c != u"\f" and c != u"\v":
            return False
        at += 1
    return False


cdef bint _comments(int width, void *data, Py_ssize_t at, Py_ssize_t end) noexcept:
    """Whether a comment begins at `at`."""
    cdef Py_UCS4 c = PyUnicode_READ(width, data, at)
    if at + 1 >= end:
        return False
    if c == u"-":
        return PyUnicode_READ(width, data, at + 1) == u"-"
    return c == u"/" and PyUnicode_READ(width, data, at + 1) == u"*"
