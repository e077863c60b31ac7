"""Executions of a pipeline that wait for the session's task: served in runs, as those that arrive while it rests are.

What serves them is compiled (`quick/steps.pyx`); without it, and wherever anything is not as usual, they go the
ordinary way, frame by frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.protocols.postgres import client

if TYPE_CHECKING:
    from gateway.listeners.postgres_session import ClientSession
    from gateway.listeners.quick.steps import Steps

# Frames that are looked at together: one execution, and as many as anybody has in one turn.
FEWEST_FRAMES, MOST_FRAMES = 3, 192


class Pipelines:
    """Of one session."""

    __slots__ = ("_anew", "_frames", "_session", "_steps")

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._steps: Steps | None = None
        self._anew = 0  # executions that begin again, the ordinary way
        self._frames = FEWEST_FRAMES

    def carry(self, steps: Steps | None) -> None:
        """Have executions served by `steps` wherever everything about them is as usual."""
        if steps is None:
            return
        self._steps = steps
        self._session.client.serve_steps = steps.arrived
        self._session.relay.take_steps = steps.take

    def goes_on(self, kind: int, body: bytes) -> int:
        """Serve executions that wait with this frame in front; returns of how many frames at most, 0 when of none."""
        queue = self._session.client
        if kind != client.BIND or self._steps is None or not queue.has_frames:
            return 0
        if self._anew:
            self._anew -= 1
            return 0
        frames = self._frames
        data = queue.following(kind, body, frames)
        served = self._steps.serve(data)
        queue.put_back(data[served or len(body) + 5 :])
        # Where none can be served, the frames behind it were looked at for nothing.
        self._frames = min(frames * 4, MOST_FRAMES) if served == len(data) else FEWEST_FRAMES
        return frames if served else 0

    def ask_anew(self, data: bytes, executions: int) -> None:
        """So many executions that were not sent after all begin again, the ordinary way."""
        self._anew += executions
        self._session.client.take_back(data)
