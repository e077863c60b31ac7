cdef class FrameState:
    cdef public object limit, violation
    cdef public bytearray rest


cdef class SocketState:
    cdef public bint closed
    cdef public object express, _transport
    cdef public FrameState _buffer
    cpdef object write(self, data)


cdef class ClientState(SocketState):
    cdef public object violation, _frames, serve_steps


cdef class UpstreamState(SocketState):
    cdef public bint undisturbed


cdef class PreparedState:
    cdef public bint fixed
    cdef public object recurring


cdef class NamesState:
    cdef public dict _confirmed, _proposed
    cdef public set doubtful


cdef class RelayState:
    cdef public str status, broken
    cdef public bint skipping, _feeding
    cdef public object _queue, _exchange, take_steps
    cdef public Py_ssize_t _steps
    cdef public list _out


cdef class TurnsState:
    cdef public list _rest


cdef class MeaningState:
    cdef public bint unsettled, volatile


cdef class SessionState:
    cdef public str reason
    cdef public object holding, deferred, cancelling
    cdef public bint at_boundary, can_send, resting, uncertain, _retiring
    cdef public list _outgoing
    cdef public double _last_activity
