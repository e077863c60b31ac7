# cython: language_level=3, boundscheck=False, wraparound=False
"""`analysis.nodes`, compiled: the same nodes of the same text, the same refusals. The grammar is told there."""

from cpython.unicode cimport PyUnicode_Substring

import re

from analysis.turns import give_way

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    void *PyUnicode_DATA(object text)
    Py_UCS4 PyUnicode_READ(int kind, void *data, Py_ssize_t index)

cdef object _ESCAPE = re.compile(r"\\(.)", re.DOTALL)

cdef enum:
    OFTEN = 8192  # lexemes between two moments in which other threads may run


cdef class Node:
    cdef readonly str tag
    cdef readonly dict fields
    cdef readonly list below

    def __init__(self, str tag, dict fields):
        self.tag, self.fields, self.below = tag, fields, []

    cpdef Node node(self, str name):
        cdef object value = self.fields.get(name)
        return <Node>value if type(value) is Node else None

    cpdef list items(self, str name):
        cdef object value = self.fields.get(name)
        return <list>value if type(value) is list else []

    cpdef list nodes(self, str name):
        cdef object value = self.fields.get(name), item
        if type(value) is not list:
            return []
        return [item for item in <list>value if type(item) is Node]

    cpdef str text(self, str name):
        cdef object value = self.fields.get(name)
        return <str>value if type(value) is str else ""

    def number(self, str name):
        cdef object value = self.fields.get(name)
        return int(value) if type(value) is str and value else 0

    def flag(self, str name):
        cdef object value = self.fields.get(name)
        return type(value) is str and value == "true"


cdef class _Lexemes:
    """One after the other; `next` is False at the end, else `kind` is the bracket, or 0 for text from `start` to `at`."""

    cdef str text
    cdef Py_ssize_t at, start, end, passed
    cdef int width
    cdef void *data
    cdef Py_UCS4 kind
    cdef bint escaped

    def __cinit__(self, str text):
        self.text, self.at, self.end, self.passed = text, 0, len(text), 0
        self.width, self.data = PyUnicode_KIND(text), PyUnicode_DATA(text)

    cdef bint next(self):
        cdef Py_UCS4 c
        cdef Py_ssize_t at = self.at, end = self.end
        self.escaped = False
        self.passed += 1
        if self.passed % OFTEN == 0:
            give_way()
        while True:
            if at >= end:
                self.at = at
                return False
            c = PyUnicode_READ(self.width, self.data, at)
            if c == u"\\":
                if at + 1 < end:
                    break
            elif c != u" " and c != u"\n" and c != u"\t":
                break
            at += 1
        self.start = at
        if c == u"(" or c == u")" or c == u"{" or c == u"}":
            self.kind, self.at = c, at + 1
            return True
        self.kind = 0
        while at < end:
            c = PyUnicode_READ(self.width, self.data, at)
            if c == u"\\":
                if at + 1 >= end:
                    break
                self.escaped = True
                at += 2
            elif c == u" " or c == u"\n" or c == u"\t" or c == u"(" or c == u")" or c == u"{" or c == u"}":
                break
            else:
                at += 1
        self.at = at
        return True

    cdef bint says(self, str word):
        """Whether it is `word`, its first character aside."""
        cdef Py_ssize_t index, size = len(word)
        if self.at - self.start != size + 1:
            return False
        for index in range(size):
            if PyUnicode_READ(self.width, self.data, self.start + 1 + index) != word[index]:
                return False
        return True

    cdef bint spells(self):
        """Whether the field is one of those `without_names` leaves out."""
        cdef Py_ssize_t size = self.at - self.start - 1
        if size == 8:
            return self.says("location") or self.says("colnames") or self.says("stmt_len")
        if size == 7:
            return self.says("resname")
        if size == 9:
            return self.says("aliasname")
        return size == 13 and self.says("stmt_location")

    cdef Py_UCS4 first(self):
        return PyUnicode_READ(self.width, self.data, self.start)

    cdef bint is_one(self, Py_UCS4 c):
        return self.at == self.start + 1 and self.first() == c

    cdef bint is_true(self):
        return self.at - self.start == 4 and self.word() == "true"

    cdef str word(self):
        return PyUnicode_Substring(self.text, self.start, self.at)

    cdef object plain(self):
        """The lexeme's value, as `_plain` of `analysis.nodes` gives it."""
        cdef Py_ssize_t size = self.at - self.start
        cdef Py_UCS4 first = self.first(), last = PyUnicode_READ(self.width, self.data, self.at - 1)
        cdef str found
        if size == 2 and first == u"<" and last == u">":
            return None
        if size > 1 and first == u'"' and last == u'"':
            found = PyUnicode_Substring(self.text, self.start + 1, self.at - 1)
        else:
            found = self.word()
        return _ESCAPE.sub(r"\1", found) if self.escaped else found


def read_value(str text):
    """Raises ValueError or IndexError on what is no tree."""
    cdef list root = [], stack = [], datum
    cdef Node top_node = None, opened
    cdef list top_list = root
    cdef list nodes = []  # the open nodes, innermost last
    cdef list fields = []  # the field each of them is about to fill
    cdef str field = ""  # that of the innermost
    cdef object value, stack_top
    cdef _Lexemes lexemes = _Lexemes(text)
    cdef bint again = False  # the next lexeme was looked at already
    while again or lexemes.next():
        again = False
        if top_node is not None and field == "":
            if lexemes.kind == u"}":
                value = top_node
                nodes.pop()
                field = <str>fields.pop()
            elif lexemes.kind == 0 and lexemes.first() == u":":
                field = PyUnicode_Substring(text, lexemes.start + 1, lexemes.at)
                continue
            else:
                raise ValueError("a field name was expected")
            stack_top = stack.pop()
            if type(stack_top) is Node:
                top_node, top_list = <Node>stack_top, None
            else:
                top_node, top_list = None, <list>stack_top
        elif lexemes.kind == u"{":
            if not lexemes.next():
                raise IndexError("an unfinished node")
            opened = Node.__new__(Node)
            opened.tag, opened.fields, opened.below = lexemes.word(), {}, []
            if nodes:
                (<Node>nodes[len(nodes) - 1]).below.append(opened)
            nodes.append(opened)
            fields.append(field)
            field = ""
            stack.append(top_list if top_node is None else top_node)
            top_node, top_list = opened, None
            continue
        elif lexemes.kind == u"(":
            stack.append(top_list if top_node is None else top_node)
            top_node, top_list = None, []
            continue
        elif lexemes.kind == u")":
            if top_list is None or not stack:
                raise ValueError("an unexpected closing parenthesis")
            value = top_list
            stack_top = stack.pop()
            if type(stack_top) is Node:
                top_node, top_list = <Node>stack_top, None
            else:
                top_node, top_list = None, <list>stack_top
        elif lexemes.kind == u"}":
            raise ValueError("a value was expected")
        else:
            value = lexemes.plain()
            again = lexemes.next()
            if again and lexemes.kind == 0 and lexemes.is_one(u"["):  # it was the length of a datum
                datum, again = [], False
                while True:
                    if not lexemes.next():
                        raise ValueError("an unfinished datum")
                    if lexemes.kind == 0 and lexemes.is_one(u"]"):
                        break
                    datum.append(lexemes.word())
                value = datum
        if top_node is not None:
            top_node.fields[field] = value
            field = ""
        else:
            top_list.append(value)
    if stack or len(root) != 1:
        raise ValueError("an unfinished tree")
    return root[0]


def without_names(str text not None):
    """As `analysis.nodes` tells."""
    cdef list pieces = [], names = []
    cdef bytearray inside = bytearray(1)  # of what is open: whether it is a node
    cdef Py_ssize_t kept = 0, start, depth = 0, open_count = 1
    cdef bint in_node = False, names_next = False, listed = False, spelled = False, is_name = False, is_junk = False
    cdef _Lexemes lexemes = _Lexemes(text)
    while lexemes.next():
        if names_next:
            if lexemes.kind == u"}":
                inside.pop()
                open_count -= 1
                depth -= 1
                in_node = names_next = inside[open_count - 1]
            elif lexemes.kind == 0 and lexemes.first() == u":":
                names_next = False
                spelled = lexemes.spells()
                is_name = depth == 2 and listed and lexemes.says("resname")
                is_junk = depth == 2 and listed and lexemes.says("resjunk")
                if depth == 1:
                    listed = lexemes.says("targetList")
            elif lexemes.kind == 0 and lexemes.is_one(u"["):
                while True:
                    if not lexemes.next():
                        raise IndexError("an unfinished datum")
                    if lexemes.kind == 0 and lexemes.is_one(u"]"):
                        break
            else:
                raise ValueError("a field name was expected")
        elif lexemes.kind == u"{":
            if not lexemes.next():
                raise IndexError("an unfinished node")
            inside.append(1)
            open_count += 1
            depth += 1
            in_node = names_next = True
        elif lexemes.kind == u"(":
            if not (in_node and spelled):
                inside.append(0)
                open_count += 1
                in_node = False
                continue
            pieces.append(PyUnicode_Substring(text, kept, lexemes.start))
            while True:
                if not lexemes.next():
                    raise IndexError("an unfinished list")
                if lexemes.kind == u")":
                    break
                if lexemes.kind != 0:
                    raise ValueError("a list of names was expected")
            kept, names_next = lexemes.at, True
        elif lexemes.kind == u")":
            if in_node or open_count == 1:
                raise ValueError("an unexpected closing parenthesis")
            inside.pop()
            open_count -= 1
            in_node = names_next = inside[open_count - 1]
        elif lexemes.kind == u"}":
            raise ValueError("a value was expected")
        elif in_node:
            names_next = True
            if spelled:
                pieces.append(PyUnicode_Substring(text, kept, lexemes.start))
                kept = lexemes.at
            if is_name:
                names.append(lexemes.plain() or "")
            elif is_junk and lexemes.is_true():
                names.pop()
    if open_count != 1:
        raise ValueError("an unfinished tree")
    pieces.append(text[kept:])
    return "".join(pieces), names


def walk(value):
    """Every node below and including `value`."""
    cdef list found = [], pending = []
    cdef Node node
    _collect(value, pending)
    while pending:
        node = <Node>pending.pop()
        found.append(node)
        pending.extend(node.below)
    return iter(found)


cdef _collect(object value, list found):
    if type(value) is Node:
        found.append(value)
    elif type(value) is list:
        for item in <list>value:
            _collect(item, found)
