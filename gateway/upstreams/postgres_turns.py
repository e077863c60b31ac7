"""Fair turns: no result keeps the event loop longer than one bounded piece takes, whatever it costs to mask.

What a socket delivers at once (a quarter of a megabyte) is handed on whole while rows pass as they are. Rows that are
masked are handed on a piece a turn, and every other session has its turn in between; meanwhile the upstream is not
read, so that nothing piles up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.protocols.postgres.frames import MAX_UPSTREAM_MESSAGE, scan_frames
from gateway.protocols.postgres.state import TurnsState
from gateway.upstreams.postgres_execution import SCANNED_TURN_BYTES
from gateway.upstreams.postgres_relay import Relay


class Turns(TurnsState):
    """Between the upstream's socket and the relay. `handle` takes runs of whole frames, in order."""

    def __init__(
        self,
        relay: Relay,
        *,
        handle: Callable[[bytes], None],
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._relay = relay
        self._handle = handle
        self._pause, self._resume = pause, resume
        self._rest = []

    def take(self, data: bytes) -> None:
        """Handle a run of whole frames, now or in turns."""
        if self._rest:
            self._rest.append((data, 0))
        elif len(data) <= SCANNED_TURN_BYTES or not self._limit(len(data)):
            self._handle(data)
        else:
            self._rest.append((data, 0))
            self._pause()
            self._turn()

    def finish(self) -> None:
        """Handle what is left at once: nothing more will come."""
        while self._rest:
            data, at = self._rest.pop(0)
            self._handle(data[at:])

    def _turn(self) -> None:
        if not self._rest:  # finished meanwhile
            return
        data, at = self._rest.pop(0)
        end = self._piece_end(data, at)
        if end < len(data):
            self._rest.insert(0, (data, end))
        self._handle(data[at:end])
        if self._rest:
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._resume()

    def _piece_end(self, data: bytes, at: int) -> int:
        """Where the frames that fit into a turn end: at least one frame, all of them when they cost nothing."""
        limit = self._limit(len(data) - at)
        if not limit:
            return len(data)
        end, wanted = scan_frames(data, MAX_UPSTREAM_MESSAGE, at, at + limit)
        return end if end > at else min(at + wanted, len(data))

    def _limit(self, size: int) -> int:
        """How many of so many bytes the running execution may have in one turn, 0 for all."""
        limit = self._relay.turn_bytes
        return limit if size > limit else 0
