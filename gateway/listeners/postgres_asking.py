"""The half of a session that asks its upstream: what is sent, what is expected back, and how far either may run ahead.

A message is asked together with the expectation of its answer (`gateway.upstreams.postgres_expectations`), so that
what comes back is known for what it is. What was asked leaves with the next `flush`, in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.listeners.postgres_cancel import Cancellation
from gateway.listeners.postgres_client import ClientConnection
from gateway.protocols.postgres import client
from gateway.protocols.postgres.client import Target
from gateway.protocols.postgres.state import SessionState
from gateway.upstreams.postgres import UpstreamConnection
from gateway.upstreams.postgres_expectations import Expectation, Local, Ready, Refusal
from gateway.upstreams.postgres_relay import Relay

# Messages a client may have served before it is everybody else's turn: most take microseconds and wait for nothing.
MOST_A_TURN = 64


class Asking(SessionState):
    """Of `postgres_session.ClientSession`, which gives the fields their first values."""

    __slots__ = ("_cancellation", "_own_name", "_served", "_takes_more", "client", "relay", "upstream")

    client: ClientConnection
    upstream: UpstreamConnection
    relay: Relay
    _cancellation: Cancellation
    _own_name: str  # of this session's own objects at the server: nobody else can name one so
    _served: int  # messages since it was last everybody else's turn
    _takes_more: asyncio.Event | None  # set when the upstream does again, or the session ends

    def ask(self, expectation: Expectation, message: bytes) -> None:
        """Send `message` and expect its answer. Dropped, like the server would, while it skips to the next Sync."""
        if self.relay.broken or (self.relay.skipping and not isinstance(expectation, Ready)):
            expectation.dropped()
            return
        self.relay.push(expectation)
        self.at_boundary = isinstance(expectation, Ready)
        self._outgoing.append(message)

    def flush(self) -> None:
        """Everything asked so far leaves in one write."""
        if self._outgoing:
            data = self._outgoing[0] if len(self._outgoing) == 1 else b"".join(self._outgoing)
            self._outgoing.clear()
            self.upstream.write(data)
            self._cancellation.sent()

    def push_answers(self) -> None:
        """Make the server send what it has answered so far (Flush); not needed right after a Sync."""
        if not self.at_boundary:
            self._outgoing.append(client.FLUSH_FRAME)
        self.flush()

    def refuse(self, error: bytes) -> None:
        """Fail like the server would: its own error for a message that cannot succeed, in our words.

        The transaction at the server fails with it, and what the client pipelined behind is skipped.
        """
        impossible = client.encode_describe(Target("S", self._own_name + "_refused"))
        self.ask(Refusal(error), impossible)

    async def drained(self) -> None:
        """Return when the server has answered everything that was asked."""
        if self.relay.idle or self.relay.broken:
            return
        reached = asyncio.get_running_loop().create_future()
        self.relay.push(Local(reached=reached))
        self.push_answers()
        await reached

    async def drained_or(self, reached: Callable[[], bool]) -> None:
        """Return when everything is answered, or as soon as `reached` holds."""
        while not (self.relay.idle or self.relay.broken or self.reason or reached()):
            await self.client.wait()

    async def forward(self, data: bytes) -> None:
        """Send a frame that has no answer of its own (copy data), as fast as the upstream takes it."""
        self.upstream.write(data)
        await self.sendable()

    async def answered_to(self, few: int) -> None:
        """Return when only so many answers are expected, or the session ends."""
        self.push_answers()
        while self.relay.expected > few and not (self.relay.broken or self.reason):
            await self.client.wait()

    async def sendable(self) -> None:
        """Return when the upstream takes more and others had their turn, or the session ends."""
        self._served += 1
        if self._served >= MOST_A_TURN:
            self._served = 0
            await asyncio.sleep(0)
        if not (self.can_send or self.reason):
            self._takes_more = asyncio.Event()
            await self._takes_more.wait()

    def let_send(self) -> None:
        waiting, self._takes_more = self._takes_more, None
        if waiting is not None:
            waiting.set()

    def upstream_can_take(self, can_take: bool) -> None:
        self.can_send = can_take
        if can_take:
            self.let_send()
