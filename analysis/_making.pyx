# cython: language_level=3, boundscheck=False, wraparound=False
"""`analysis.making`, compiled: a call of the class stores what it was given into the new value's slots, and that is all.

CPython asks a type that is called for its `tp_vectorcall` first. A class statement leaves that empty, and no subclass
inherits it. What is not plainly a value for each field goes the ordinary way, through `__init__`, which also words
every TypeError.
"""

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE

import sys
from dataclasses import MISSING, fields, replace
from types import MemberDescriptorType

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset

cdef extern from "Python.h":
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    ctypedef object (*vectorcallfunc)(PyObject *called, PyObject **given, size_t count, PyObject *names)
    ctypedef struct _Callable "PyTypeObject":
        vectorcallfunc tp_vectorcall
    Py_ssize_t PyVectorcall_NARGS(size_t count)
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items)

cdef enum:
    MOST = 64  # fields

cdef dict _forms = {}  # by class


cdef class _Form:
    """What a class is made of: its fields, those that may be given by place first, then those by name alone, then others."""

    cdef Py_ssize_t placed, given, whole  # how many of each, with those before
    cdef tuple names, defaults, factories
    cdef Py_ssize_t offsets[MOST]


cdef inline PyObject **_slot(object made, Py_ssize_t offset):
    return <PyObject **>(<char *><PyObject *>made + offset)


cdef inline void _store(object made, Py_ssize_t offset, object value):
    Py_INCREF(value)
    _slot(made, offset)[0] = <PyObject *>value


cdef Py_ssize_t _place_of(_Form form, PyObject *name, Py_ssize_t hint):
    """-1 for a name that is no field's, or not spelled by the very object: names in calls are interned."""
    cdef Py_ssize_t index
    for index in range(hint, form.given):
        if PyTuple_GET_ITEM(form.names, index) == name:
            return index
    for index in range(hint):
        if PyTuple_GET_ITEM(form.names, index) == name:
            return index
    return -1


cdef object _make(PyObject *called, PyObject **given, size_t count, PyObject *names):
    cdef _Form form = <_Form>PyDict_GetItem(_forms, <object>called)
    cdef Py_ssize_t placed = PyVectorcall_NARGS(count), index, at = 0
    cdef object made, factory
    if placed > form.placed:
        return _ordinarily(<object>called, given, placed, names)
    made = PyType_GenericAlloc(<PyTypeObject *>called, 0)  # its slots are empty
    for index in range(placed):
        _store(made, form.offsets[index], <object>given[index])
    if names != NULL:
        for index in range(PyTuple_GET_SIZE(<tuple>names)):
            at = _place_of(form, <PyObject *>PyTuple_GET_ITEM(<tuple>names, index), at)
            if at < 0 or _slot(made, form.offsets[at])[0] != NULL:
                return _ordinarily(<object>called, given, placed, names)
            _store(made, form.offsets[at], <object>given[placed + index])
            at += 1
    for index in range(placed, form.whole):
        if _slot(made, form.offsets[index])[0] != NULL:
            continue
        factory = <object>PyTuple_GET_ITEM(form.factories, index)
        if factory is not MISSING:
            _store(made, form.offsets[index], factory())
        elif <object>PyTuple_GET_ITEM(form.defaults, index) is not MISSING:
            _store(made, form.offsets[index], <object>PyTuple_GET_ITEM(form.defaults, index))
        elif index < form.given:
            return _ordinarily(<object>called, given, placed, names)
    return made


cdef object _ordinarily(object called, PyObject **given, Py_ssize_t placed, PyObject *names):
    cdef Py_ssize_t index
    cdef list positional = [<object>given[index] for index in range(placed)]
    cdef dict named = {}
    if names != NULL:
        for index in range(PyTuple_GET_SIZE(<tuple>names)):
            named[<object>PyTuple_GET_ITEM(<tuple>names, index)] = <object>given[placed + index]
    return type.__call__(called, *positional, **named)


def remade(value, /, **changes):
    """As `analysis.making` says."""
    cdef type cls = type(value)
    cdef PyObject *known = PyDict_GetItem(_forms, cls)
    cdef _Form form
    cdef Py_ssize_t index, at = 0
    cdef PyObject **slot
    cdef PyObject *before
    if known == NULL:
        return replace(value, **changes)
    form = <_Form>known
    if form.given != form.whole:
        return replace(value, **changes)
    cdef object made = PyType_GenericAlloc(<PyTypeObject *>cls, 0)
    for index in range(form.whole):
        before = _slot(value, form.offsets[index])[0]
        if before == NULL:
            return replace(value, **changes)
        _store(made, form.offsets[index], <object>before)
    for name, changed in changes.items():
        at = _place_of(form, <PyObject *>name, at)
        if at < 0:
            return replace(value, **changes)
        slot = _slot(made, form.offsets[at])
        before = slot[0]
        _store(made, form.offsets[at], changed)
        Py_DECREF(<object>before)
        at += 1
    return made


def quickly_made(cls):
    """As `analysis.making` says. Raises TypeError for a class that does more than keep its fields in slots."""
    cdef _Form form = _Form()
    cdef Py_ssize_t index
    listed = fields(cls)
    by_place = [each for each in listed if each.init and not each.kw_only]
    by_name = [each for each in listed if each.init and each.kw_only]
    every = [*by_place, *by_name, *(each for each in listed if not each.init)]
    slots = [getattr(cls, each.name, None) for each in every]
    does_more = hasattr(cls, "__post_init__") or cls.__new__ is not object.__new__ or type(cls) is not type
    if does_more or len(every) > MOST or not all(type(slot) is MemberDescriptorType for slot in slots):
        raise TypeError(f"{cls.__name__} is not a dataclass of at most {MOST} slots and nothing else")
    form.placed, form.given, form.whole = len(by_place), len(by_place) + len(by_name), len(every)
    form.names = tuple(sys.intern(each.name) for each in every)
    form.defaults = tuple(each.default for each in every)
    form.factories = tuple(each.default_factory for each in every)
    for index in range(form.whole):
        form.offsets[index] = (<PyMemberDescrObject *><PyObject *>slots[index]).d_member.offset
    _forms[cls] = form
    (<_Callable *><PyObject *>cls).tp_vectorcall = _make
    return cls
