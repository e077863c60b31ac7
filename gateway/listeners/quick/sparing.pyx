# cython: language_level=3, boundscheck=False, cdivision=True
"""Parsing spared: what the server has just parsed, or parsed with another number in it, is not parsed again.

Extended requests that begin with the Parse that was sent last go without it. Simple queries of one shape are sent as
executions of a template, their integers its parameters; the template is made of the first that is answered with rows.
The client is answered as if everything had gone as it came (`as_asked`), and where the server refuses what was sent
instead, nothing has run and it is sent as it came (`refusal`). `docs/decisions/0064-parsing-is-spared.md` says why this
makes no difference.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from gateway.listeners.quick.passage cimport Passage
from gateway.protocols.postgres._fast cimport blanked, bound_integers, cut, frame_length, query_text
from gateway.protocols.postgres.state cimport NamesState, PreparedState, RelayState, UpstreamState
from gateway.session.state cimport RecurringState

from gateway.protocols.postgres.server import PARSE_COMPLETE_FRAME, decode_error
from gateway.protocols.postgres.templates import template_of
from gateway.session.recurring import MOST_REUSED_RUN_S, MOST_REUSED_S

cdef bytes _PARSED = PARSE_COMPLETE_FRAME, _IDLE = b"Z\0\0\0\5I"
# Classes of what a server says before it runs anything: the text is wrong by now, or it has another result or is not there
# any more; and of what may be wrong with values, which is an answer to whoever sent them as parameters.
cdef frozenset _OF_TEXTS = frozenset((b"0A", b"26", b"42"))
cdef bytes _OF_VALUES = b"22"
cdef object _template_of = template_of


cdef bytes _behind_parse(bytes data):
    """A request without the Parse it begins with."""
    return cut(data, 1 + <Py_ssize_t>frame_length(data, 0), PyBytes_GET_SIZE(data))


cdef class Sparing:
    """One session's."""

    def __init__(self, NamesState statements not None, RelayState relay not None, UpstreamState upstream not None):
        self.statements, self.relay, self.upstream = statements, relay, upstream
        self.most_reused_s, self.most_reused_run_s = MOST_REUSED_S, MOST_REUSED_RUN_S

    # --- sending ---

    cdef bytes outgoing(self, Passage passage, double now):
        """What of it the server has to be sent."""
        cdef RecurringState recurring = passage.recurring
        cdef bytes asked
        if passage.simple:
            if recurring.template is None or self.relay.status != "I":
                return passage.data
            passage.templated, passage.reused = True, self.template is recurring and self.stands(now)
            asked = bound_integers(query_text(passage.data))
            return asked if passage.reused else recurring.template + asked
        passage.reused = (
            passage.parsed
            and recurring.reusable
            and self.made is not None
            and self.made is passage.statement
            and self.statements._confirmed.get("") is passage.statement
            and self.relay.status == "I"
            and self.stands(now)
        )
        asked = passage.whole()
        return _behind_parse(asked) if passage.reused else asked

    cdef bint stands(self, double now) except -1:
        """Whether what the server was asked to parse last is certain to be what it would make of it now.

        Only where that makes no difference: nothing was said to the server since that could change what it makes of it, and
        what others do is seen within `most_reused_s`. Between transactions, because there `sent_as_it_came` can do as if it
        never happened, and for texts without anything that is evaluated while it is parsed.
        """
        return self.upstream.undisturbed and now < self.made_at + self.most_reused_s

    cdef int sent(self, Passage passage, double now) except -1:
        """What `outgoing` said was written."""
        if (passage.parsed or passage.templated) and not passage.reused:
            self.made, self.template, self.made_at = None, None, now
            self.upstream.undisturbed = True
        elif passage.recurring.known.control or (passage.simple and not passage.templated):
            # What was parsed in another transaction, or before a Query, which leaves the server no unnamed statement.
            self.upstream.undisturbed = False
        return 0

    # --- what is answered otherwise ---

    cdef int doubt(self) except -1:
        """Nothing is certain until `answered`: what is not answered as usual goes the ordinary way."""
        self._doubted_made, self._doubted_template = self.made, self.template
        self.made = self.template = None
        return 0

    cdef Py_ssize_t refusal(self, Passage passage, bytes data) except -1:
        """Where the error ends with which the server refuses what was sent instead; 0: it says something else."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, end
        cdef bytes sqlstate
        if passage.templated and not passage.reused and PyBytes_AS_STRING(data)[0] == 0x31:
            at = 5
        if size < at + 5 or PyBytes_AS_STRING(data)[at] != 0x45:
            return 0
        end = at + 1 + <Py_ssize_t>frame_length(data, at)
        if end != size and data[end:] != _IDLE:
            return 0
        sqlstate = decode_error(data[at + 5 : end]).get("C", "").encode()[:2]
        if sqlstate not in _OF_TEXTS and not (passage.templated and sqlstate == _OF_VALUES):
            return 0
        return end

    cdef int sent_as_it_came(self, Passage passage, double now) except -1:
        """It is written once more, after what was sent instead was refused."""
        if passage.templated and not passage.reused:
            passage.recurring.template = None  # it is not what the text means
        self.made_at, self.upstream.undisturbed = now, passage.parsed
        passage.reused = passage.templated = False
        return 0

    # --- the usual answer ---

    cdef int answered(self, Passage passage, double seconds) except -1:
        """As usual, after so many seconds. Where it ran long the server may know by now of what others have done."""
        if seconds < self.most_reused_run_s or not passage.reused:
            self.made, self.template = self._doubted_made, self._doubted_template
        if passage.simple:
            if passage.templated:
                if not passage.reused:
                    self.template = passage.recurring
            elif not passage.recurring.tried and passage.view.width:
                self.make_template(passage)
        elif passage.parsed and not passage.reused:
            self.confirm(passage.statement)
        return 0

    cdef int make_template(self, Passage passage) except -1:
        """For the next query of this shape, as this one was answered with rows."""
        cdef RecurringState recurring = passage.recurring
        recurring.tried = True
        if recurring.shape:
            recurring.template = _template_of(blanked(query_text(passage.data)))
        return 0

    cdef int confirm(self, PreparedState statement) except -1:
        """The unnamed statement is this one now."""
        if self.statements._proposed or self.statements._confirmed.get("") is not statement:
            self.statements.commit("", statement)
        self.made = statement
        return 0

    cdef bytes as_asked(self, Passage passage, bytes answer, Py_ssize_t description, Py_ssize_t rows):
        """The answer to what was sent as the answer to what came; its rows are described at `description`."""
        if passage.templated:
            return cut(answer, description if passage.view.width else rows, PyBytes_GET_SIZE(answer))
        if passage.undescribed:
            answer = cut(answer, 0, description) + cut(answer, rows, PyBytes_GET_SIZE(answer))
        return _PARSED + answer if passage.reused else answer
