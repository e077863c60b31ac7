cdef class ContextState:
    cdef public str session_id, role, search_path
    cdef public bint temp_relations, uncommitted_definitions
    cdef public dict approved_cursors


cdef class TallyState:
    cdef public Py_ssize_t statements, rows, bytes
    cdef public double seconds
    cdef public list counts


cdef class MeterState:
    cdef public Py_ssize_t remembered
    cdef public object trace


cdef class ViewState:
    cdef public tuple masks
    cdef public Py_ssize_t width
    cdef public bytes head


cdef class KnownState:
    cdef public double until
    cdef public object quiet
    cdef public bint control
    cdef public dict views
    cdef public bytes _described
    cdef public ViewState _view


cdef class RecurringState:
    cdef public KnownState known
    cdef public object authorised, completed, _snapshot, _recollection
    cdef public str text, shape
    cdef public bytes _head, _whole, template
    cdef public tuple types
    cdef public dict _tails
    cdef public bint plain, waits, keeps, reusable, tried


cdef class SnapshotState:
    cdef public object _snapshot
    cdef public double _max_age_s, _loaded_at
    cdef object current_at(self, double now)
