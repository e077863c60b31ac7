cdef class RecurringState:
    cdef public object known, authorised, completed, _snapshot, _recollection
    cdef public str text, shape, _head
    cdef public tuple types
    cdef public dict _tails
    cdef public bint plain, waits


cdef class ViewState:
    cdef public tuple masks
    cdef public Py_ssize_t width


cdef class SnapshotState:
    cdef public object _snapshot
    cdef public double _max_age_s
    cpdef object current(self)
