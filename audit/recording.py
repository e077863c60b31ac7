"""One masked result as it is recorded, piece by piece, and handed over (`recording_sink`): nobody waits for the disk.

What a recording keeps in memory is bounded: `behind` says when the wire should pause its upstream and `await drain()`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from audit.answers import RecordUnavailable
from audit.domain.chunks import CHUNK_BYTES, Chunk, seal_chunk, seal_salt
from audit.domain.commitment import StreamDigest
from audit.domain.recordings import RecordingRow
from audit.domain.sealing import evidence_sealer

if TYPE_CHECKING:
    from audit.recording_sink import RecordingSink

logger = logging.getLogger(__name__)

FORMATS = ("pgwire", "jsonl")
BEHIND_BYTES = 4 * CHUNK_BYTES  # per recording: then the wire should drain
HASH_POLL_S = 1.0
SMALL_BYTES = CHUNK_BYTES // 4  # hashed in the event loop: 64 KiB takes some 50 µs


@dataclass(slots=True)
class Piece:
    """A chunk of plaintext on its way to the worker; the last one carries what closes the recording."""

    recording: Recording
    plaintext: bytes
    index: int
    last: bool
    is_hashed: bool = False


class Recording:
    """One result, fed in order by one task. Close it exactly once, or abort it."""

    def __init__(self, sink: RecordingSink, *, session_id: str, statement_id: str, format: str) -> None:
        if format not in FORMATS:
            raise ValueError(f"recording format is {format!r}, expected one of {', '.join(FORMATS)}")
        self.recording_id = str(uuid.uuid4())
        self.session_id = session_id
        self.statement_id = statement_id
        self.format = format
        self.created_at = datetime.now(UTC)
        self.digest = StreamDigest()
        self.plain_bytes = 0
        self._sink = sink
        self._buffer = bytearray()
        self._pending = 0  # bytes handed over and not stored yet
        self._index = 0
        self._room: asyncio.Event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._hashed: asyncio.Future[None] | None = None
        self._ended = False

    @property
    def behind(self) -> bool:
        """Whether more is buffered than storing keeps up with: pause the upstream until `drain` returns."""
        return self._pending >= BEHIND_BYTES

    def write(self, data: bytes) -> None:
        """Take `data`; never blocks. Raises RecordUnavailable when recordings cannot be stored."""
        if self._ended or not self._sink.healthy:
            raise RecordUnavailable("the recording cannot be stored")
        self._buffer += data
        self.plain_bytes += len(data)
        while len(self._buffer) >= CHUNK_BYTES:
            piece = bytes(self._buffer[:CHUNK_BYTES])
            del self._buffer[:CHUNK_BYTES]
            self._hand_over(piece, last=False)

    async def drain(self) -> None:
        """Return when the recording is no longer behind. Raises RecordUnavailable when it cannot be stored."""
        while self.behind:
            if not self._sink.healthy:
                raise RecordUnavailable("the recording cannot be stored")
            self._room.clear()
            await self._room.wait()

    async def close(self) -> str:
        """End the recording. Returns its digest as the log names it, empty when nothing was written.

        The digest is known before the bytes are stored: the sink keeps and retries them, and refuses new recordings
        as long as it cannot.
        """
        digest = self.close_at_once()
        if digest is not None:
            return digest
        self._ended = True
        self._hashed = self._loop.create_future()
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._hand_over(rest, last=True)
        while not self._hashed.done():
            await asyncio.wait({self._hashed}, timeout=HASH_POLL_S)
            if not self._sink.healthy:
                raise RecordUnavailable("the recording cannot be stored")
        return self.digest.name

    def close_at_once(self) -> str | None:
        """`close` of what needs not be waited for: none, or a small one. None: it is as it was."""
        if self._ended:
            raise ValueError("a recording is closed once")
        if self._index or self.plain_bytes > SMALL_BYTES:
            return None
        self._ended = True
        if not self.plain_bytes:
            return ""
        return self._sink.keep(self.session_id, self.statement_id, self.format, bytes(self._buffer))

    async def abort(self) -> None:
        """End a recording whose result broke off: what was written stays evidence, closed as it is."""
        if not self._ended:
            await self.close()

    def _hand_over(self, plaintext: bytes, *, last: bool) -> None:
        self._pending += len(plaintext)
        self._sink.put(Piece(self, plaintext, self._index, last))
        self._index += 1

    # --- called by the worker ---

    def seal(self, piece: Piece) -> Chunk:
        if not piece.is_hashed:  # sealing may have failed, and is tried again
            self.digest.update(piece.plaintext)
            piece.is_hashed = True
        if piece.last and self._hashed is not None:
            self._tell(_resolve, self._hashed)
        return seal_chunk(
            piece.plaintext, recording=self.recording_id, index=piece.index, last=piece.last, sealer=evidence_sealer()
        )

    def stored(self, count: int) -> None:
        self._tell(self._make_room, count)

    def row(self, stored_bytes: int, last: Piece | None) -> RecordingRow:
        return RecordingRow(
            recording_id=self.recording_id,
            session_id=self.session_id,
            statement_id=self.statement_id,
            format=self.format,
            created_at=self.created_at,
            stored_bytes=stored_bytes,
            digest=self.digest.name if last else "",
            salt_box=seal_salt(self.digest.salt, recording=self.recording_id, sealer=evidence_sealer())
            if last
            else b"",
            plain_bytes=self.plain_bytes if last else 0,
            chunks=last.index + 1 if last else 0,
            closed_at=datetime.now(UTC) if last else None,
        )

    def wake(self) -> None:
        """Have whoever waits in `drain` look again."""
        self._tell(self._room.set)

    def _make_room(self, count: int) -> None:
        self._pending -= count
        if not self.behind:
            self._room.set()

    def _tell(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop ended before its recordings were stored
            logger.debug("recording stored after its event loop ended: recording=%s", self.recording_id)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
