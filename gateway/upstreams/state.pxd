from gateway.session.state cimport ContextState


cdef class SideState:
    cdef public object catalogue, _poller
    cdef public Py_ssize_t generation
    cdef public double _checked_at, _used_at
    cdef bint is_fresh_at(self, double now)


cdef class RecollectionState:
    cdef public ContextState _session
    cdef public set _changing
    cdef public str _role, _search_path
    cdef public SideState _side
    cdef public Py_ssize_t _generation
    cdef public bint _estimated
    cdef bint holds_at(self, double now)
