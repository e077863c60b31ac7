# cython: language_level=3, boundscheck=False, cdivision=True
"""The two entries of an execution: durable before it is sent, and how it ended. Both are filled into templates."""

from audit.domain._fast cimport Alike, Filling, new_filling, new_quoted_id
from gateway.listeners.quick.clock cimport monotonic, time_us
from gateway.listeners.quick.passage cimport Passage
from gateway.session.state cimport ContextState, MeterState, RecurringState, TallyState

from audit.domain.canonical import canonical_text
from gateway.session.meter import BUCKETS

cdef object _canonical_text = canonical_text
cdef tuple _NOTHING = ()
cdef bytes _NO_MASKS = b"[]", _NONE = b'""'
cdef enum:
    BOUNDS = 16
cdef double _bounds[BOUNDS]
if len(BUCKETS) != BOUNDS:
    raise ImportError("a histogram of other buckets")
for _place, _bound in enumerate(BUCKETS):
    _bounds[_place] = _bound
cdef tuple _COUNTED = tuple([b"%d" % number for number in range(1024)])  # small numbers as they are written
cdef dict _TAGGED = {}


cdef bytes _number(Py_ssize_t value):
    return <bytes>_COUNTED[value] if 0 <= value < 1024 else b"%d" % value


cdef bytes _tagged(bytes raw):
    """A command tag in canonical form."""
    cdef object found = _TAGGED.get(raw)
    if found is None:
        found = _canonical_text(raw.decode("utf-8", "replace"))
        if len(_TAGGED) < 256:
            _TAGGED[raw] = found
    return <bytes?>found


cdef class Entries:
    """One session's, in `services.record`."""

    def __init__(self, services, ContextState context not None):
        self.context, self.record, self.meter = context, services.record, services.meter
        self.tally = services.meter.tally(context)
        self.alike = getattr(services.record, "alike", None)

    # --- its beginning ---

    cdef Filling begun(self, Passage passage, bytes spelled):
        """It begins now, with an identifier of its own; `spelled` is what is sealed."""
        cdef long long at_us = time_us()
        passage.began = monotonic()
        passage.quoted_id = new_quoted_id(at_us // 1000)
        return new_filling(passage.quoted_id, _NOTHING, spelled, at_us)

    cdef bint authorise(self, Passage passage, Filling filling) except -1:
        """Make its authorised entry durable now. False, or raised: it is not, and it must not be sent."""
        cdef RecurringState recurring = passage.recurring
        if self.alike is not None and self.alike.put(recurring.authorised, filling, passage.authorised, True):
            return True
        filling.statement_id = passage.statement_id()
        if self.record.append_like(recurring.authorised, filling, passage.authorised) is not None:
            return True
        return self.record.append_now(passage.authorised()) is not None

    cdef bint authorise_soon(self, Passage passage, Filling filling) except -1:
        """Have `passage` called when the entry is on the disk. False: it will not be."""
        return self.alike is not None and self.alike.put_soon(passage.recurring.authorised, filling, passage)

    cdef int authorise_slowly(self, Passage passage, Filling filling) except -1:
        """Have `passage.answered` called when the entry is durable, however that is done. Raised: it will not be."""
        filling.statement_id = passage.statement_id()
        self.record.append_soon(passage.recurring.authorised, filling, passage.authorised, passage.answered)
        return 0

    # --- its end ---

    cdef double complete(self, Passage passage) except -1:
        """`Occurrence.complete`; returns how many seconds it took."""
        cdef RecurringState recurring = passage.recurring
        cdef Filling filling
        cdef bint kept
        cdef bytes masks = _NO_MASKS
        cdef tuple values
        cdef double seconds = self.count(passage)
        if passage.view.masks:
            self.meter.masked_values(self.context, passage.view.counts(passage.counts))
            masks = passage.view.spelled(passage.counts)
        if recurring.keeps:
            values = (_number(passage.size), _tagged(passage.tag), masks, passage.recorded or _NONE, _number(passage.rows))
        else:
            values = (_number(passage.size), _tagged(passage.tag), masks, _number(passage.rows))
        filling = new_filling(passage.quoted_id, values, None, time_us())
        try:
            kept = self.alike is not None and self.alike.put(recurring.completed, filling, passage.completed, False)
            if not kept:
                filling.statement_id = passage.statement_id()
                kept = self.record.append_like_later(recurring.completed, filling, passage.completed)
        except Exception:  # it happened: the ordinary way keeps it until it is written
            kept = False
        if not kept:
            self.record.append_later(passage.completed())
        return seconds

    cdef double count(self, Passage passage) except -1:
        """`Tally.ended`; returns how many seconds it took."""
        cdef TallyState tally = self.tally
        cdef double seconds = monotonic() - passage.began
        cdef Py_ssize_t place = 0
        while place < BOUNDS and _bounds[place] < seconds:
            place += 1
        tally.counts[place] += 1
        tally.statements += 1
        tally.rows += passage.rows
        tally.bytes += passage.size
        tally.seconds += seconds
        return seconds
