# cython: language_level=3, boundscheck=False, cdivision=True
"""One execution on the compiled way, and how it goes on the ordinary way as soon as anything is not as usual."""

import cython

from gateway.listeners.quick.clock cimport monotonic
from gateway.protocols.postgres._fast cimport describing, query_text, request as read_extended
from gateway.session.state cimport MeterState, RecurringState, ViewState

from gateway.session.quotas import FREE
from gateway.session.recurring import Occurrence
from gateway.upstreams.postgres_execution import MASKED_TURN_BYTES, SCANNED_TURN_BYTES

cdef tuple _NOTHING = ()


cdef class Lane:
    """What a passage asks of the lane it is in."""

    cdef int resume(self, Passage passage, bint reached) except -1:
        """It is told whether the entry that it waits for is on the disk."""
        raise NotImplementedError

    cdef int send(self, Passage passage, double now) except -1:
        """It is recorded and may run."""
        raise NotImplementedError


@cython.freelist(16)
cdef class Passage:
    """One execution between its request and its answer. Fulfils `postgres_expectations.Exchange`, and `Step` as one of a pipeline.

    What only the ordinary way asks for (its parameters, its names, its text) is read from its request then.
    """

    # --- while its entry is waited for ---

    def __call__(self, bint reached):
        """Whether its entry is on the disk, told in a later turn of the event loop."""
        self.lane.resume(self, reached)

    def answered(self, answer):
        """What became of its entry, told in a later turn of the event loop."""
        deferred, self.deferred = self.deferred, None
        if isinstance(answer, Exception):
            deferred.told(None)
            return
        self.lane.meter.remembered += 1
        deferred.told(self)

    def send(self):
        """It is recorded, and everything is still as it was when it was let in."""
        self.lane.send(self, monotonic())

    def permit(self):
        """It is recorded and will not run."""
        return self.occurrence().permit()

    # --- for whoever does not find the usual ---

    cdef str statement_id(self):
        return self.quoted_id[1:37].decode("ascii")

    cdef str text(self):
        """Where it is another one of the same shape."""
        cdef bytes raw
        if not self.simple:
            return ""
        if not self.recurring.shape:
            return self.recurring.text
        raw = query_text(self.data)
        return raw.removesuffix(b";").decode("utf-8")

    cdef bytes whole(self):
        """What the server is sent of it where nothing is spared."""
        return describing(self.data) if self.undescribed else self.data

    cdef object ordinary(self):
        """The lane's own exchange, from where everything goes as ever."""
        if self.exchange is None:
            self.exchange = self.lane.ordinary(
                self.occurrence(),
                None if self.simple else read_extended(self.data),
                self.statement,
                self.reused,
                self.templated,
            )
            if self.names is not None:
                self.exchange.names = self.names
        return self.exchange

    cdef object occurrence(self):
        cdef tuple asked = None if self.simple else read_extended(self.data)
        occurrence = Occurrence(
            self.recurring,
            _NOTHING if asked is None else asked[4],
            _NOTHING if asked is None else asked[3],
            self.text(),
            FREE,
        )
        occurrence.statement_id, occurrence.began = self.statement_id(), self.began
        return occurrence

    @property
    def execution(self):
        return self.ordinary().execution

    def recognises(self, data):
        return self.ordinary().recognises(data)

    def take(self, relay, data):
        self.ordinary().take(relay, data)

    def unfold(self):
        expected = self.ordinary().unfold()
        return expected[:-1] if self.is_step else expected  # which no Sync ends

    @property
    def turn_bytes(self):
        """`Execution.turn_bytes`, of whatever result it may have."""
        if any([scans for view in self.recurring.known.views.values() for _, _, scans in view.masks]):
            return SCANNED_TURN_BYTES
        return MASKED_TURN_BYTES

    # --- its entries spelled the ordinary way, for whoever is told of them or keeps them ---

    def authorised(self):
        return self.occurrence()._authorised()

    def completed(self):
        counts = [0] * self.view.width if self.counts is None else self.counts
        tag = self.tag.decode("utf-8", "replace")
        recording = "" if self.recorded is None else self.recorded[1:-1].decode("ascii")
        return self.occurrence().ended(
            self.view, rows=self.rows, size=self.size, tag=tag, counts=counts, recording=recording
        )


cdef Passage new_passage(Lane lane, RecurringState recurring, bytes data, object statement):
    """An execution of what is remembered as `recurring`, asked for with `data`; `statement` is None for a Query."""
    cdef Passage passage = Passage.__new__(Passage)
    passage.lane, passage.recurring, passage.data, passage.statement = lane, recurring, data, statement
    passage.simple = statement is None
    return passage
