cimport cython

from gateway.session.state cimport MeterState, RecurringState, ViewState


cdef class Lane:
    cdef MeterState meter
    cdef object ordinary  # makes an exchange: (occurrence, asked, statement, reused, templated)
    cdef int resume(self, Passage passage, bint reached) except -1
    cdef int send(self, Passage passage, double now) except -1


@cython.final
cdef class Passage:
    cdef Lane lane
    cdef readonly RecurringState recurring
    cdef ViewState view
    cdef object statement, exchange, counts, deferred
    cdef bytes data, quoted_id, tag
    cdef bytes recorded  # what its recording is called, in canonical form; None: it has none
    cdef double began
    cdef bint parsed, simple
    cdef bint undescribed  # its portal is described all the same, and the client is not told
    cdef bint templated  # sent with its integers as parameters of a template
    cdef bint reused  # without having the server parse what it has
    cdef bytes refusal  # the server's, until it is ready: then it may be sent as it came
    cdef Py_ssize_t rows, size
    cdef readonly bint is_step  # one of a pipeline (`steps.pyx`), in the relay's queue
    cdef object names  # what names meant when it was sent; None: what they mean now
    cdef public bint withdrawn
    cdef str statement_id(self)
    cdef str text(self)
    cdef bytes whole(self)
    cdef object ordinary(self)
    cdef object occurrence(self)


cdef Passage new_passage(Lane lane, RecurringState recurring, bytes data, object statement)
