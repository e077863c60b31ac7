"""What each message to a PostgreSQL server will be answered with, and what is done with the answer.

One class per kind of answer. The relay hands frames to the oldest expectation until its answer is complete.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gateway.protocols.postgres import server
from gateway.protocols.postgres.datarow import DATA_ROW, row_values
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.upstreams.postgres_execution import Execution, Shape

if TYPE_CHECKING:
    from gateway.upstreams.postgres_relay import Relay

_DESCRIBED = frozenset((server.ROW_DESCRIPTION, server.NO_DATA))


class Expectation(ABC):
    """One answer to come. `text` is the statement it is about and `offset` where that starts in the client's query."""

    text = ""
    offset = 0
    parsing = False
    commits = False  # its failure undoes what the statement before it did
    is_step = False  # of a pipeline whose answers are taken in one look (`Step`)

    @abstractmethod
    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        """Take one frame; True when the answer is complete. Raises ProtocolViolation on a frame out of place."""

    def failed(self, sqlstate: str) -> None:
        """The server answered with an error."""
        self.dropped()

    def dropped(self) -> None:  # noqa: B027 - most have nothing to undo
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
            raise unexpected(kind)
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
            raise unexpected(kind)
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
    """Everything an Execute answers, masked by its Execution.

    `last_of_query`: it ends a simple Query, where a server says complete only once it has committed. Asked by Execute,
    it commits at Sync and has said so before, so its word is withheld until then.
    """

    def __init__(
        self, execution: Execution, *, offset: int = 0, hidden: bool = False, last_of_query: bool = False
    ) -> None:
        self.execution = execution
        self.offset = offset
        self._hidden = hidden
        self._last_of_query = last_of_query
        self.copying_out = False

    @property
    def text(self) -> str:  # type: ignore[override]
        return self.execution.text

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        execution = self.execution
        match kind:
            case server.COMMAND_COMPLETE if self._last_of_query:
                relay.withhold(execution, whole)
            case server.COMMAND_COMPLETE:
                relay.emit(whole)
                execution.finish("completed", command_tag=command_tag(whole))
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
                self.copying_out = True
                relay.emit(whole)
                return False
            case server.COPY_DONE if self.copying_out:
                self.copying_out = False
                relay.emit(whole)
                return False
            case _:
                raise unexpected(kind)
        return True

    def rows(self, kind: int, data: bytes, at: int, end: int) -> tuple[int, bytes]:
        """Take the run of rows or copied rows at `at`; returns (where it ends, the frames for the client)."""
        if kind == DATA_ROW:
            return self.execution.take_rows(data, at, end)
        if not self.copying_out:
            raise unexpected(kind)
        return self.execution.take_copied(data, at, end)

    def failed(self, sqlstate: str) -> None:
        self.execution.finish("cancelled" if sqlstate == "57014" else "failed", error=sqlstate)

    def dropped(self) -> None:
        self.execution.finish("skipped")


class QueryResult(Result):
    """What a Query of one statement is answered with: its rows come with their description."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(execution, last_of_query=True)
        self._described = False

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        if kind != server.ROW_DESCRIPTION or self._described:
            return super().reply(relay, kind, whole)
        self._described = True
        self.execution.prepare(server.decode_row_description(whole[5:]))
        relay.emit(whole)
        return False


class Ready(Expectation):
    """ReadyForQuery after a Sync."""

    commits = True

    def __init__(self, *, hidden: bool = False) -> None:
        self._hidden = hidden

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        if kind != server.READY:
            raise unexpected(kind)
        relay.release()
        relay.ready(whole[5:6].decode("ascii", "replace"))
        if not self._hidden:
            relay.emit(whole)
        return True


class Refusal(Expectation):
    """The error of a message that cannot succeed, sent so that the server's transaction fails like ours says."""

    def __init__(self, error: bytes) -> None:
        self._error = error

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        raise unexpected(kind)

    def rewrite_error(self, body: bytes) -> bytes | None:
        return self._error


class Rows(Expectation):
    """Rows of a question of our own: resolves `answer` with them (None when skipped), shows nothing to the client."""

    def __init__(self, answer: asyncio.Future[Any]) -> None:
        self._answer = answer
        self._rows: list[list[bytes | None]] = []

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        if kind == DATA_ROW:
            self._rows.append(row_values(whole[5:]))
            return False
        if kind != server.COMMAND_COMPLETE:
            raise unexpected(kind)
        if not self._answer.done():
            self._answer.set_result(self._rows)
        return True

    def dropped(self) -> None:
        if not self._answer.done():
            self._answer.set_result(None)


class Passed(Expectation):
    """The CommandComplete of something of ours that returns nothing; `done` is called with it."""

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        if kind != server.COMMAND_COMPLETE:
            raise unexpected(kind)
        self._done()
        return True


class _Around(Expectation):
    """The answer to something of ours, whose error is kept in `failures`."""

    def __init__(self, inner: Expectation, failures: list[dict[str, str]]) -> None:
        self._inner = inner
        self._failures = failures

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        return self._inner.reply(relay, kind, whole)

    def dropped(self) -> None:
        self._inner.dropped()


class Hushed(_Around):
    """The answer to something of ours that may fail: its error is kept in `failures`, the client hears of nothing."""

    def rewrite_error(self, body: bytes) -> bytes | None:
        fields = server.decode_error(body)
        self._failures.append(fields)
        return None if fields.get("V", fields.get("S")) in {"FATAL", "PANIC"} else b""


class Commit(_Around):
    """The answer to a COMMIT of ours, sent where the client's Sync would have committed: its error is the client's."""

    commits = True


class Local(Expectation):
    """Something of ours that must come in order: bytes for the client, or a future that says "everything before me"."""

    def __init__(self, data: bytes = b"", *, reached: asyncio.Future[None] | None = None) -> None:
        self.data = data
        self._reached = reached

    def reply(self, relay: Relay, kind: int, whole: bytes) -> bool:
        raise unexpected(kind)

    def resolve(self) -> None:
        if self._reached is not None and not self._reached.done():
            self._reached.set_result(None)

    def dropped(self) -> None:
        self.resolve()


class Exchange(Protocol):
    """A whole request whose whole answer is expected in one run: what nearly every statement is.

    It stands for its ordinary expectations and becomes them (`unfold`) as soon as anything is not as usual.
    """

    @property
    def execution(self) -> Execution: ...

    def recognises(self, data: bytes) -> bool:
        """Whether `data` is the usual answer, nothing before or behind it. Changes nothing."""

    def take(self, relay: Relay, data: bytes) -> None:
        """Take the answer that was recognised just now. Raises what taking it frame by frame would raise."""

    def unfold(self) -> Sequence[Expectation]:
        """The ordinary expectations of the same messages, in order. Called at most once, and then nothing else."""


class Step(Exchange, Protocol):
    """One execution of a pipeline, in the relay's queue: an exchange which no Sync ends."""

    is_step: bool

    @property
    def turn_bytes(self) -> int:
        """How many bytes of such answers may be taken in one turn of the event loop; 0 when they cost nothing."""


def command_tag(whole: bytes) -> str:
    """The tag of a CommandComplete frame."""
    return whole[5:-1].decode("utf-8", "replace")


def unexpected(kind: int) -> ProtocolViolation:
    return ProtocolViolation(f"a message of type {chr(kind)!r} where none was expected")
