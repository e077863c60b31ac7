cdef class SideState:
    cdef public object catalogue, _poller
    cdef public Py_ssize_t generation
    cdef public double _checked_at, _used_at
    cpdef bint is_fresh(self)


cdef class RecollectionState:
    cdef public object _session, _changing, _role, _search_path
    cdef public SideState _side
    cdef public Py_ssize_t _generation
    cdef public bint _estimated
    cpdef bint holds_here(self)
