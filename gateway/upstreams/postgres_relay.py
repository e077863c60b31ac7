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

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from struct import Struct

from gateway.protocols.postgres import server
from gateway.protocols.postgres.datarow import DATA_ROW, row_values
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.protocols.postgres.scrub import scrub_error, scrub_notice
from gateway.upstreams.postgres_execution import Execution, PlanRefused, Shape

logger = logging.getLogger(__name__)

_LENGTH = Struct("!I").unpack_from
_DESCRIBED = frozenset((server.ROW_DESCRIPTION, server.NO_DATA))
_ASYNCHRONOUS = frozenset((server.PARAMETER_STATUS, server.NOTICE, server.NOTIFICATION))


class Expectation:
    """One answer to come. `text` is the statement it is about and `offset` where that starts in the client's query."""

    text = ""
    offset = 0
    parsing = False

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        """Take one frame; True when the answer is complete. Raises ProtocolViolation on a frame out of place."""
        raise NotImplementedError

    def failed(self, sqlstate: str) -> None:
        """The server answered with an error."""
        self.dropped()

    def dropped(self) -> None:
        """The server will never answer: it skips to the next Sync, or is gone."""

    def rewrite_error(self, body: bytes) -> bytes | None:
        """Return an error of ours to send instead, None to send the server's."""
        return None


class Complete(Expectation):
    """ParseComplete, BindComplete or CloseComplete."""

    def __init__(
        self,
        kind: int,
        *,
        hidden: bool = False,
        done: Callable[[], None] | None = None,
        undone: Callable[[], None] | None = None,
        execution: Execution | None = None,
        text: str = "",
        offset: int = 0,
    ) -> None:
        self._kind = kind
        self._hidden = hidden
        self._done = done
        self._undone = undone
        self._execution = execution
        self.text = text
        self.offset = offset
        self.parsing = kind == server.PARSE_COMPLETE

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        if kind != self._kind:
            raise _unexpected(kind)
        if self._done is not None:
            self._done()
        if not self._hidden:
            relay.emit(whole)
        return True

    def failed(self, sqlstate: str) -> None:
        if self._execution is not None:  # the simple protocol's one statement failed here already
            self._execution.finish("failed", error=sqlstate)
        self.dropped()

    def dropped(self) -> None:
        if self._undone is not None:
            self._undone()


class Description(Expectation):
    """[ParameterDescription] then RowDescription or NoData; remembered in `shape`. `rows_only` drops NoData."""

    def __init__(
        self, shape: Shape, *, hidden: bool = False, rows_only: bool = False, execution: Execution | None = None
    ) -> None:
        shape.requested = True
        self._shape = shape
        self._hidden = hidden
        self._rows_only = rows_only
        self._execution = execution

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        if kind == server.PARAMETER_DESCRIPTION:
            if not self._hidden:
                relay.emit(whole)
            return False
        if kind not in _DESCRIBED:
            raise _unexpected(kind)
        rows = kind == server.ROW_DESCRIPTION
        self._shape.fields = server.decode_row_description(whole[5:]) if rows else ()
        if self._execution is not None and rows:
            self._execution.prepare(self._shape.fields)
        if not self._hidden and (rows or not self._rows_only):
            relay.emit(whole)
        return True

    def dropped(self) -> None:
        if self._shape.fields is None:
            self._shape.requested = False


class Result(Expectation):
    """Everything an Execute answers, masked by its Execution."""

    def __init__(self, execution: Execution, *, offset: int = 0, hidden: bool = False) -> None:
        self.execution = execution
        self.offset = offset
        self._hidden = hidden
        self._copying_out = False

    @property
    def text(self) -> str:  # type: ignore[override]
        return self.execution.text

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        execution = self.execution
        match kind:
            case server.COMMAND_COMPLETE:
                relay.emit(whole)
                execution.finish("completed", command_tag=whole[5:-1].decode("utf-8", "replace"))
            case server.EMPTY_QUERY:
                relay.emit(whole)
                execution.finish("completed")
            case server.PORTAL_SUSPENDED:
                relay.emit(whole)
                execution.finish("completed", command_tag="SUSPENDED")
            case server.COPY_IN:
                execution.copying_in = True
                relay.emit(whole)
                relay.woken()
                return False
            case server.COPY_OUT:
                execution.begin_copy_out(server.decode_copy_response(whole[5:]))
                self._copying_out = True
                relay.emit(whole)
                return False
            case server.COPY_DATA if self._copying_out:
                relay.emit(execution.take_copy_data(whole[5:]))
                return False
            case server.COPY_DONE if self._copying_out:
                self._copying_out = False
                relay.emit(whole)
                return False
            case _:
                raise _unexpected(kind)
        return True

    def failed(self, sqlstate: str) -> None:
        self.execution.finish("cancelled" if sqlstate == "57014" else "failed", error=sqlstate)

    def dropped(self) -> None:
        self.execution.finish("skipped")


class Ready(Expectation):
    """ReadyForQuery after a Sync."""

    def __init__(self, *, hidden: bool = False) -> None:
        self._hidden = hidden

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        if kind != server.READY:
            raise _unexpected(kind)
        relay.ready(whole[5:6].decode("ascii", "replace"))
        if not self._hidden:
            relay.emit(whole)
        return True


class Refusal(Expectation):
    """The error of a message that cannot succeed, sent so that the server's transaction fails like ours says."""

    def __init__(self, error: bytes) -> None:
        self._error = error

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        raise _unexpected(kind)

    def rewrite_error(self, body: bytes) -> bytes | None:
        return self._error


class Rows(Expectation):
    """Rows of a question of our own: resolves `answer` with them (None when skipped), shows nothing to the client."""

    def __init__(self, answer: asyncio.Future[list[list[bytes | None]] | None]) -> None:
        self._answer = answer
        self._rows: list[list[bytes | None]] = []

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        if kind == DATA_ROW:
            self._rows.append(row_values(whole[5:]))
            return False
        if kind != server.COMMAND_COMPLETE:
            raise _unexpected(kind)
        if not self._answer.done():
            self._answer.set_result(self._rows)
        return True

    def dropped(self) -> None:
        if not self._answer.done():
            self._answer.set_result(None)


class Local(Expectation):
    """Something of ours that must come in order: bytes for the client, or a future that says "everything before me"."""

    def __init__(self, data: bytes = b"", *, reached: asyncio.Future[None] | None = None) -> None:
        self.data = data
        self._reached = reached

    def resolve(self) -> None:
        if self._reached is not None and not self._reached.done():
            self._reached.set_result(None)

    def dropped(self) -> None:
        self.resolve()


class Relay:
    """The response side of one session. `write` takes what the client gets; `woken` tells the session of progress."""

    def __init__(self, *, write: Callable[[bytes], None], phi: bool, woken: Callable[[], None]) -> None:
        self.woken = woken
        self.status = "I"
        self.skipping = False
        self.broken = ""  # why the session must end, once it must
        self.fatal_sent = False
        self.parameter_changed: Callable[[str, str], None] | None = None
        self.became_ready: Callable[[str], None] | None = None
        self._write = write
        self._phi = phi
        self._queue: deque[Expectation] = deque()
        self._out: list[bytes] = []
        self._feeding = False
        self._last_text = ""

    @property
    def idle(self) -> bool:
        return not self._queue

    @property
    def running(self) -> Execution | None:
        """The execution the server is working on now."""
        for expectation in self._queue:
            if isinstance(expectation, Result):
                return expectation.execution
        return None

    def push(self, expectation: Expectation) -> None:
        """Announce what the next message upstream will be answered with. Skipped when the server skips to Sync."""
        if self.broken or (self.skipping and not isinstance(expectation, Ready)):
            expectation.dropped()
            return
        self.skipping = False
        self._queue.append(expectation)
        self._serve_local()
        self._flush()

    def emit(self, data: bytes) -> None:
        """Queue bytes for the client; they leave together at the end of the run of frames."""
        self._out.append(data)

    def feed(self, data: bytes) -> None:
        """Handle a run of whole frames. Sets `broken` instead of raising: a broken upstream ends this session only."""
        if self.broken:
            return
        self._feeding = True
        try:
            self._feed(data)
        except PlanRefused as refused:
            self._break("masking-refused", str(refused))
        except ProtocolViolation as violation:
            logger.warning("upstream answer out of place: %s", violation)
            self._break("upstream-protocol", str(violation))
        finally:
            self._feeding = False
        self._flush()
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
        for expectation in self._queue:
            if isinstance(expectation, Result):
                expectation.execution.finish(status)
        self._drop_all("")

    def ready(self, status: str) -> None:
        self.status = status
        if self.became_ready is not None:
            self.became_ready(status)

    def _feed(self, data: bytes) -> None:
        at, size = 0, len(data)
        while at < size:
            kind = data[at]
            if kind == DATA_ROW and self._queue and isinstance(self._queue[0], Result):
                at, frames = self._queue[0].execution.take_rows(data, at, size)
                self._out.append(frames)
                continue
            end = at + 1 + _LENGTH(data, at + 1)[0]
            self._handle(kind, data[at:end])
            at = end

    def _handle(self, kind: int, whole: bytes) -> None:
        if kind in _ASYNCHRONOUS:
            self._asynchronous(kind, whole)
        elif kind == server.ERROR:
            self._error(whole)
        elif not self._queue:
            raise _unexpected(kind)
        elif self._queue[0].reply(self, kind, whole):
            self._last_text = self._queue.popleft().text or self._last_text
            self._serve_local()

    def _asynchronous(self, kind: int, whole: bytes) -> None:
        if kind == server.PARAMETER_STATUS:
            name, value = server.decode_parameter_status(whole[5:])
            if self.parameter_changed is not None:
                self.parameter_changed(name, value)
        elif self._phi and kind == server.NOTICE:
            fields = scrub_notice(server.decode_error(whole[5:]), statement=self._current_text())
            whole = server.encode_error(fields, notice=True)
        elif self._phi:
            whole = server.blank_notification(whole[5:])
        self.emit(whole)

    def _error(self, whole: bytes) -> None:
        fields = server.decode_error(whole[5:])
        head = self._queue[0] if self._queue else None
        ours = head.rewrite_error(whole[5:]) if head is not None else None
        self.emit(ours or self._scrubbed(fields, whole, head))
        if fields.get("V", fields.get("S")) in {"FATAL", "PANIC"}:
            self.fatal_sent = True
        if isinstance(head, Ready):
            return  # the commit at Sync failed; ReadyForQuery follows
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

    def _drop_all(self, sqlstate: str) -> None:
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


def _unexpected(kind: int) -> ProtocolViolation:
    return ProtocolViolation(f"a message of type {chr(kind)!r} where none was expected")
