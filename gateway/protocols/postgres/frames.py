"""Frames of the PostgreSQL protocol, version 3 (postgresql.org/docs, "Message Formats"): one type byte, a 4-byte length
that counts itself, a body. Scanning looks at five bytes a frame and copies nothing.

`FrameBuffer` joins what the socket delivers into whole frames. It never allocates by a length the peer merely claims:
a length is checked against its bound before a byte of the body is kept, and memory grows only with bytes received.
"""

from __future__ import annotations

import contextlib
from struct import Struct

from gateway.protocols.postgres.state import FrameState
from gateway.protocols.postgres.violation import ProtocolViolation

__all__ = ["FrameBuffer", "ProtocolViolation", "frame", "frame_end", "scan_frames", "split_frames"]

_LENGTH = Struct("!I").unpack_from
_HEADER = Struct("!cI").pack

# One statement with its parameters. PostgreSQL itself takes 1 GiB; a gateway with thousands of sessions cannot.
MAX_CLIENT_MESSAGE = 64 * 1024 * 1024
# A frame of the upstream is one row at most. Rows beyond this would have to be held whole to be masked.
MAX_UPSTREAM_MESSAGE = 256 * 1024 * 1024


def frame_end(data: bytes | bytearray, at: int, limit: int) -> int:
    """Return where the frame starting at `at` ends, or 0 when its header is not there yet.

    >>> frame_end(b"Z\\x00\\x00\\x00\\x05I", 0, 100)
    6
    """
    if len(data) - at < 5:
        return 0
    length: int = _LENGTH(data, at + 1)[0]
    if length < 4:
        raise ProtocolViolation(f"message length {length}, expected at least 4")
    if length > limit:
        raise ProtocolViolation(f"message length {length}, expected no more than {limit}")
    return at + 1 + length


def frame(kind: bytes | int, body: bytes = b"") -> bytes:
    """Return one message: type byte, length, body."""
    return _HEADER(kind if isinstance(kind, bytes) else bytes((kind,)), len(body) + 4) + body


class FrameBuffer(FrameState):
    """Bytes in, runs of whole frames out: `feed` returns a buffer of complete frames, the rest stays inside.

    Frames in front of a broken one are still returned, wherever the stream was cut: look at `violation` behind them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.violation = None
        self.rest = bytearray()
        self._wanted = 5  # bytes that must be there before the first frame can be whole

    def __len__(self) -> int:
        return len(self.rest)

    def feed(self, data: bytes) -> bytes:
        """Return every frame that is now complete, back to back; empty when none is. Raises ProtocolViolation when the
        next one can never be, and again on every later call."""
        if self.violation is not None:
            raise self.violation
        if self.rest:
            if len(self.rest) + len(data) < self._wanted:
                self.rest += data
                return b""
            data = b"".join((self.rest, data))
        if type(data) is not bytes:
            data = bytes(data)
        try:
            end, self._wanted = scan_frames(data, self.limit)
        except ProtocolViolation as violation:
            self.violation = violation
            end = _sound_until(data, self.limit)
            if end == 0:
                raise
            return data[:end]
        if end == len(data):
            if self.rest:
                self.rest = bytearray()
            return data
        self.rest = bytearray(data[end:])
        return data[:end]


def scan_frames(data: bytes, limit: int, at: int = 0, stop: int | None = None) -> tuple[int, int]:
    """Return where the last complete frame of `data[at:stop]` ends, and how many bytes the next needs to be complete.

    The place is one in `data`.
    """
    if at < 0:
        raise ValueError("a place before the data")
    size = len(data) if stop is None else min(stop, len(data))
    while True:
        end = frame_end(data, at, limit) if size - at >= 5 else 0
        if end == 0:
            return at, 5
        if end > size:
            return at, end - at
        at = end


def _sound_until(data: bytes, limit: int) -> int:
    """Return where the first broken frame of `data` starts."""
    at = 0
    with contextlib.suppress(ProtocolViolation):
        while (end := frame_end(data, at, limit)) and end <= len(data):
            at = end
    return at


def split_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return (type byte, body) of each frame in a run of whole frames, as `FrameBuffer.feed` returns them."""
    frames, at, size = [], 0, len(data)
    while at < size:
        end = at + 1 + _LENGTH(data, at + 1)[0]
        frames.append((data[at], data[at + 5 : end]))
        at = end
    return frames


scan_frames_python = scan_frames
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from gateway.protocols.postgres._fast import scan_frames
