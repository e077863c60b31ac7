# cython: language_level=3, annotation_typing=False
"""What is looked at and changed with every statement: the fields of a session, its relay, its names and its sockets.

Whoever owns the fields inherits from these classes and gives them their first values. Compiled (with `state.pxd`
beside it, by `gateway.protocols.postgres.compile`) they are fields of a structure, which compiled code reads without
asking the interpreter; uncompiled they are ordinary attributes. There is no second version of anything here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from gateway.protocols.postgres.violation import ProtocolViolation


class FrameState:
    """Of `frames.FrameBuffer`."""

    limit: int
    violation: ProtocolViolation | None
    rest: bytearray  # the beginning of a frame


class SocketState:
    """Of both ends' connections."""

    closed: bool
    express: Callable[[bytes], bool] | None  # may take what arrives before it is split into frames
    _transport: Any  # asyncio.Transport or TlsTransport
    _buffer: Any  # FrameBuffer; None while the client's packets have no type yet

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(data)


class ClientState(SocketState):
    """Of `postgres_client.ClientConnection`."""

    violation: ProtocolViolation | None
    _frames: deque[tuple[int, bytes]]
    serve_steps: Callable[[bytes], int] | None  # may serve the executions that a run of frames begins with

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol's."""
        if (
            self.express is not None
            and not self._frames
            and self._buffer is not None
            and not self._buffer.rest
            and self.violation is None
            and self.express(data)
        ):
            return  # everything that arrived was served, and nothing is left of what came before
        self.arrived(data)

    def arrived(self, data: bytes) -> None:
        """What the express lane did not serve."""
        raise NotImplementedError


class UpstreamState(SocketState):
    """Of `gateway.upstreams.postgres.UpstreamConnection`."""

    undisturbed: bool  # since the express lane said so, nobody but it has sent anything

    def write(self, data: bytes) -> None:
        self.undisturbed = False
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol's."""
        if self.express is not None and not self._buffer.rest and self.express(data):
            return
        self.arrived(data)

    def arrived(self, data: bytes) -> None:
        """What the express lane did not take."""
        raise NotImplementedError


class PreparedState:
    """Of `postgres_names.Prepared`."""

    fixed: bool  # the server guarantees that its columns never change
    recurring: Any  # `recurring.Recurring`, once it ran in the express lane


class NamesState:
    """Of `postgres_names.Names`."""

    _confirmed: dict[str, Any]
    _proposed: dict[str, list[Any]]
    doubtful: set[str]  # names whose last proposal was made before a Sync, and is not answered yet


class RelayState:
    """Of `gateway.upstreams.postgres_relay.Relay`."""

    status: str
    skipping: bool
    broken: str  # why the session must end, once it must
    _queue: deque[Any]
    _exchange: Any  # then nothing else is expected
    _steps: int  # how many in the queue are executions of a pipeline that is served in the express lane
    take_steps: Callable[[bytes, int], int] | None  # takes the answers of those that are first
    _out: list[bytes]
    _feeding: bool


class TurnsState:
    """Of `gateway.upstreams.postgres_turns.Turns`."""

    # Runs of frames, and from where on they were not handled: one or two, as the upstream is not read meanwhile.
    _rest: list[tuple[bytes, int]]


class MeaningState:
    """Of `postgres_meaning.SessionMeaning`."""

    unsettled: bool
    volatile: bool


class SessionState:
    """Of `postgres_session.ClientSession`."""

    reason: str  # why the session ends, once it does
    holding: asyncio.Event | None  # set it to withdraw the statement that waits for a review
    deferred: Any  # a request of the express lane that waits for its entry
    uncertain: bool  # what runs may have to be sent once more: nothing may be sent behind it until it is answered
    at_boundary: bool  # nothing was sent since the last Sync
    can_send: bool  # the upstream takes what is written
    resting: bool  # its task waits for the client's next frame and for nothing else
    _retiring: bool
    _outgoing: list[bytes]
    cancelling: asyncio.Task[None] | None
    _last_activity: float
