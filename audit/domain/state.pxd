cdef class Run:
    cdef public Py_ssize_t end, after, entries


cdef class Segment:
    cdef public object path, view
    cdef public int file
    cdef public Py_ssize_t start, end
    cdef public bint named


cdef class JournalState:
    cdef public object _segments, _spare, _links
    cdef public Py_ssize_t _segment_bytes
    cdef public bytes _chain


cdef class SyncState:
    cdef public list _waiting
    cdef public bint _begun
    cdef public Py_ssize_t _enough


cdef class HeldState:
    cdef public object journal, _syncing, _making_spare


cdef class BacklogState:
    cdef public object runs
    cdef public Py_ssize_t behind, numbered


cdef class WriterState:
    cdef public Py_ssize_t most_behind, most_kept
    cdef public object _journal, _sealer, _backlog, _tasks
    cdef public bytes _gateway
    cdef public bint _closing


cdef class LiveState:
    cdef public list _waiting
    cdef public Py_ssize_t _dropped


cdef class ServingState:
    cdef public bint stopped


cdef class TemplateState:
    cdef public str durability
    cdef public tuple _body, _around
    cdef public bytes _session
