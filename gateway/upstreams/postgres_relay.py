"""What comes back from a PostgreSQL server, matched with what was asked of it.

The server answers in order. So whoever sends a message upstream also pushes an *expectation*, and the relay hands every
frame to the oldest one: it knows whether the answer is the client's, ours alone (hidden), or must be masked. Errors
follow the protocol's own rule: the server skips everything up to the next Sync, so do the expectations.

    push order   Parse  Bind  Describe  Execute  Sync
    answers      1      2     T         D D D C  Z        or, at any point,  E … (skipped) … Z

Frames are handled synchronously as they arrive, and leave in one write. ParameterStatus, NoticeResponse and
NotificationResponse may come at any time and belong to nobody.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import dropwhile, islice
from struct import Struct

from gateway.protocols.postgres import server
from gateway.protocols.postgres.datarow import DATA_ROW
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.protocols.postgres.scrub import scrub_error, scrub_notice
from gateway.protocols.postgres.state import RelayState
from gateway.upstreams.postgres_execution import Execution, PlanRefused
from gateway.upstreams.postgres_expectations import (
    Exchange,
    Expectation,
    Hushed,
    Local,
    Ready,
    Result,
    Step,
    command_tag,
    unexpected,
)

logger = logging.getLogger(__name__)

_LENGTH = Struct("!I").unpack_from
_ROWS = frozenset((DATA_ROW, server.COPY_DATA))
_ASYNCHRONOUS = frozenset((server.PARAMETER_STATUS, server.NOTICE, server.NOTIFICATION))

# Values of settings that may be reported again, as after a ROLLBACK: the newest, none of them as long as a statement.
# What is forgotten is withheld; the session asks for its settings anyhow.
MOST_TOLD, MOST_TOLD_LENGTH = 100, 1000


def _nothing_of(_channel: str, _payload: str) -> str:
    return ""


class Relay(RelayState):
    """The response side of one session. `write` takes what the client gets; `woken` tells the session of progress."""

    def __init__(self, *, write: Callable[[bytes], None], phi: bool, woken: Callable[[], None]) -> None:
        self.woken = woken
        self.status = "I"
        self.skipping = False
        self.broken = ""
        self.fatal_sent = False
        self.parameter_changed: Callable[[str, str], None] | None = None
        self.became_ready: Callable[[str], None] | None = None
        self.payload_for: Callable[[str, str], str] = _nothing_of
        self._write = write
        self._phi = phi
        self._queue = deque()
        self._exchange: Exchange | None = None
        self._steps = 0
        self.take_steps = None
        self._withheld: tuple[Execution, bytes] | None = None  # a statement's end, until its commit
        self._out = []
        self._feeding = False
        self._last_text = ""
        self._swallowed: list[str] = []
        self._reported: Mapping[str, str] = {}  # when the session opened
        self._repeatable: dict[tuple[str, str], None] | None = None  # and the newest it was told since

    @property
    def idle(self) -> bool:
        return not self._queue and self._exchange is None

    @property
    def exchanging(self) -> bool:
        """Whether a whole request is under way which nothing was sent behind."""
        return self._exchange is not None

    @property
    def expected(self) -> int:
        """How many messages were not answered yet, an exchange counted as one."""
        return len(self._queue) + (self._exchange is not None)

    @property
    def stepping(self) -> bool:
        """Whether steps of a pipeline are expected."""
        return self._steps > 0

    @property
    def last_answer(self) -> bool:
        """Whether the answer being handled is the last one expected."""
        return self.expected == 1

    @property
    def running(self) -> Execution | None:
        """The execution the server is working on now."""
        first = self._exchange or self._first_result
        if first is not None:
            return first.execution
        return self._withheld[0] if self._withheld is not None else None

    @property
    def receiving(self) -> Execution | None:
        """The execution whose result comes now, where that was begun the ordinary way."""
        first = self._first_result
        return first.execution if isinstance(first, Result) else None

    @property
    def turn_bytes(self) -> int:
        """How many bytes of what comes may be taken in one turn of the event loop; 0 when they cost nothing."""
        first = self._first_result if self._exchange is None else None
        if first is not None and not isinstance(first, Result):
            return first.turn_bytes
        running = self.running
        return 0 if running is None else running.turn_bytes

    @property
    def _first_result(self) -> Result | Step | None:
        return next((asked for asked in self._queue if asked.is_step or isinstance(asked, Result)), None)

    @property
    def executions(self) -> Iterator[Execution]:
        """What was asked for and is not over, in its order. Not while anything is left to `unfold`."""
        for expectation in self._queue:
            if isinstance(expectation, Result):
                yield expectation.execution

    @property
    def nothing_behind(self) -> bool:
        """Whether what is `running` was asked last: at most a Sync was sent behind it."""
        if self._exchange is not None:
            return not self._queue
        asked = dropwhile(lambda expected: not (expected.is_step or isinstance(expected, Result)), self._queue)
        return all(isinstance(expectation, Ready) for expectation in islice(asked, 1, None))

    def reported(self, parameters: Mapping[str, str]) -> None:
        """Remember the settings the client was told when the session opened."""
        self._reported = dict(parameters)

    def push(self, expectation: Expectation) -> None:
        """Announce what the next message upstream will be answered with. Skipped when the server skips to Sync."""
        if self.broken or (self.skipping and not isinstance(expectation, Ready)):
            expectation.dropped()
            return
        self._unfold_exchange()
        self.skipping = False
        self._queue.append(expectation)
        self._serve_local()
        self._flush()

    def swallow(self, sqlstate: str) -> None:
        """Keep the next notice of this kind from the client: a block of ours is why the server says it."""
        self._swallowed.append(sqlstate)

    def expect(self, exchange: Exchange) -> None:
        """Announce a whole request at once. Only while nothing is expected, skipped or broken."""
        self._exchange = exchange

    def unfold(self) -> None:
        """Turn the exchange under way and the steps of a pipeline, if there are any, into ordinary expectations."""
        self._unfold_exchange()
        if not self._steps:
            return
        expected = list(self._queue)
        self._queue.clear()
        self._steps = 0
        for expectation in expected:
            if expectation.is_step:
                self._queue.extend(expectation.unfold())
            else:
                self._queue.append(expectation)

    def _unfold_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._queue.extend(exchange.unfold())

    def emit(self, data: bytes) -> None:
        """Queue bytes for the client; they leave together at the end of the run of frames."""
        self._out.append(data)

    def withhold(self, execution: Execution, complete: bytes) -> None:
        """Keep a statement's CommandComplete until ReadyForQuery says that it was committed."""
        self._withheld = execution, complete

    def release(self) -> None:
        """It was committed: let its CommandComplete go, and record its end."""
        withheld, self._withheld = self._withheld, None
        if withheld is not None:
            execution, complete = withheld
            self.emit(complete)
            execution.finish("completed", command_tag=command_tag(complete))

    def feed(self, data: bytes) -> None:
        """Handle a run of whole frames. Sets `broken` instead of raising: a broken upstream ends this session only."""
        if self.broken:
            return
        self._feeding = True
        express = False
        try:
            express = self._take_exchange(data)
            if not express:
                self._feed(data)
        except PlanRefused as refused:
            self._break("masking-refused", str(refused))
        except ProtocolViolation as violation:
            logger.warning("upstream answer out of place: %s", violation)
            self._break("upstream-protocol", str(violation))
        except Exception as error:  # fail closed: a mask or a recording that fails ends the result, unseen and unnamed
            logger.error("result withheld: error=%s", type(error).__name__)
            self._break("masking-refused", "it could not be masked or recorded")
        finally:
            self._feeding = False
        self._flush()
        if not express or self.broken:  # nobody waits for the end of an exchange
            self.woken()

    def lost(self) -> None:
        """The upstream is gone: everything expected fails."""
        if not self.broken:
            self.broken = "upstream-lost"
        self._drop_all("08006")
        self.woken()

    def abandon(self, status: str) -> None:
        """The client is gone: end what runs with `status`, expect nothing more."""
        self.broken = self.broken or "client-gone"
        self.unfold()
        for expectation in self._queue:
            if isinstance(expectation, Result):
                expectation.execution.finish(status)
        self._not_committed(status)
        self._drop_all("")

    def ready(self, status: str) -> None:
        self.status = status
        if self.became_ready is not None:
            self.became_ready(status)

    def _take_exchange(self, data: bytes) -> bool:
        """Take the usual answer to an exchange in one piece; False when `data` must be read frame by frame."""
        exchange = self._exchange
        if exchange is None:
            return False
        if not exchange.recognises(data):
            self.unfold()
            return False
        exchange.take(self, data)
        self._exchange = None
        return True

    def _feed(self, data: bytes) -> None:
        at, size = 0, len(data)
        while at < size:
            if self._steps and self._queue[0].is_step:
                at = self._steps_taken(data, at)
                continue
            kind = data[at]
            if kind in _ROWS and self._queue and isinstance(self._queue[0], Result):
                at, frames = self._queue[0].rows(kind, data, at, size)
                self._out.append(frames)
                continue
            end = at + 1 + _LENGTH(data, at + 1)[0]
            self._handle(kind, data[at:end])
            if self.broken:  # what was said ended the session, which expects nothing any more
                return
            at = end

    def _steps_taken(self, data: bytes, at: int) -> int:
        """Where the usual answers of steps end. One that is not as usual is expected, and read, frame by frame."""
        assert self.take_steps is not None
        end = self.take_steps(data, at)
        if end == at:
            self._steps -= 1
            self._queue.extendleft(reversed(self._queue.popleft().unfold()))
        self._serve_local()
        return end

    def answered(self, text: str) -> None:
        """What was answered last was this statement."""
        self._last_text = text

    def _handle(self, kind: int, whole: bytes) -> None:
        if kind in _ASYNCHRONOUS:
            self._asynchronous(kind, whole)
        elif kind == server.ERROR:
            self._error(whole)
        elif not self._queue:
            raise unexpected(kind)
        elif self._queue[0].reply(self, kind, whole):
            self._last_text = self._queue.popleft().text or self._last_text
            self._serve_local()

    def _asynchronous(self, kind: int, whole: bytes) -> None:
        if kind == server.PARAMETER_STATUS:
            name, value = server.decode_parameter_status(whole[5:])
            if self.parameter_changed is not None:
                self.parameter_changed(name, value)
            if self._phi and not self._may_report(name, value):
                return
        elif kind == server.NOTICE and self._queue and isinstance(self._queue[0], Hushed):
            return  # said about a question of ours: the client will hear it when its own statement runs
        elif kind == server.NOTICE and self._swallowed and self._is_swallowed(whole):
            return
        elif self._phi and kind == server.NOTICE:
            fields = scrub_notice(server.decode_error(whole[5:]), statement=self._current_text())
            whole = server.encode_error(fields, notice=True)
        elif self._phi:
            whole = server.notification_with(whole[5:], self.payload_for)
        self.emit(whole)

    def _is_swallowed(self, whole: bytes) -> bool:
        sqlstate = server.decode_error(whole[5:]).get("C", "")
        if sqlstate not in self._swallowed:
            return False
        self._swallowed.remove(sqlstate)
        return True

    def _may_report(self, name: str, value: str) -> bool:
        """Whether a setting's new value is one the client knows anyhow: its own words, or a value it had before.

        `set_config('application_name', ssn, false)` would otherwise report a row's value (search_path and TimeZone take
        free text as well).
        """
        if self._reported.get(name) == value or (self._repeatable and (name, value) in self._repeatable):
            return True
        if value.casefold() in self._current_text().casefold():
            self._remember_told(name, value)
            return True
        return False

    def _remember_told(self, name: str, value: str) -> None:
        if len(name) + len(value) > MOST_TOLD_LENGTH:
            return
        self._repeatable = self._repeatable or {}
        self._repeatable[name, value] = None
        if len(self._repeatable) > MOST_TOLD:
            del self._repeatable[next(iter(self._repeatable))]

    def _error(self, whole: bytes) -> None:
        fields = server.decode_error(whole[5:])
        head = self._queue[0] if self._queue else None
        ours = head.rewrite_error(whole[5:]) if head is not None else None
        self.emit(self._scrubbed(fields, whole, head) if ours is None else ours)
        if fields.get("V", fields.get("S")) in {"FATAL", "PANIC"}:
            self.fatal_sent = True
        if head is not None and head.commits:  # at Sync, or by a COMMIT of ours in its place
            self._not_committed("failed", fields.get("C", "XX000"))
        if isinstance(head, Ready):  # ReadyForQuery follows
            return
        if head is not None:
            self._queue.popleft().failed(fields.get("C", "XX000"))
        self._skip_to_sync()

    def _scrubbed(self, fields: dict[str, str], whole: bytes, head: Expectation | None) -> bytes:
        offset = head.offset if head is not None else 0
        if not self._phi and not offset:
            return whole
        if self._phi:
            parsing = head is not None and head.parsing
            fields = scrub_error(fields, statement=self._current_text(), parsing=parsing)
        if offset and fields.get("P", "").isdigit():
            fields["P"] = str(int(fields["P"]) + offset)
        return server.encode_error(fields)

    def _current_text(self) -> str:
        return (self._queue[0].text if self._queue else "") or self._last_text

    def _skip_to_sync(self) -> None:
        self.unfold()
        while self._queue and not isinstance(self._queue[0], Ready):
            self._queue.popleft().dropped()
        self.skipping = not self._queue

    def _serve_local(self) -> None:
        while self._queue and isinstance(self._queue[0], Local):
            local = self._queue.popleft()
            assert isinstance(local, Local)
            if local.data:
                self.emit(local.data)
            local.resolve()

    def _break(self, reason: str, message: str) -> None:
        """Never show what could not be understood or masked: the client gets an error and the session ends."""
        self.broken = reason
        code, text = (
            ("42501", f"the result is withheld: {message}")
            if reason == "masking-refused"
            else ("08P01", "the upstream answered with something this gateway does not understand")
        )
        self.emit(server.error(sqlstate=code, message=text, severity="FATAL"))
        self.fatal_sent = True
        self._drop_all(code)

    def _not_committed(self, status: str, sqlstate: str = "") -> None:
        """What was withheld never becomes true: the client does not hear of it, and the record says what happened."""
        withheld, self._withheld = self._withheld, None
        if withheld is not None:
            withheld[0].finish(status, error=sqlstate)

    def _drop_all(self, sqlstate: str) -> None:
        self.unfold()
        self._not_committed("failed" if sqlstate else "skipped", sqlstate)
        for expectation in self._queue:
            if sqlstate:
                expectation.failed(sqlstate)
            else:
                expectation.dropped()
        self._queue.clear()

    def _flush(self) -> None:
        if self._out and not self._feeding:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._write(data)
