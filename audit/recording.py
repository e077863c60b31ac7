"""Recordings of masked results, written beside the data path: it hands over bytes and never waits for the disk.

One worker thread hashes, compresses and seals, and stores everything that queued meanwhile in one transaction. What a
recording keeps in memory is bounded: `behind` says when the wire should pause its upstream and `await drain()`.

When recordings cannot be stored, `open` refuses, so that no statement runs whose result could not be kept.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection

from audit.answers import RecordUnavailable
from audit.domain.chunks import CHUNK_BYTES, Chunk, seal_chunk, seal_salt
from audit.domain.commitment import StreamDigest
from audit.domain.recordings import RecordingRow, store_recordings
from audit.domain.sealing import evidence_sealer

logger = logging.getLogger(__name__)

FORMATS = ("pgwire", "jsonl")
BEHIND_BYTES = 4 * CHUNK_BYTES  # per recording: then the wire should drain
MAX_PENDING_BYTES = 128 * CHUNK_BYTES  # all recordings of the process: then `open` refuses
MAX_BATCH = 64
RETRY_S = 0.5
HASH_POLL_S = 1.0
_SMALL_BYTES = CHUNK_BYTES // 4  # hashed in the event loop: 64 KiB takes some 50 µs


@dataclass(slots=True)
class _Piece:
    """A chunk of plaintext on its way to the worker; the last one carries what closes the recording."""

    recording: Recording
    plaintext: bytes
    index: int
    last: bool


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
        if self._ended:
            raise ValueError("a recording is closed once")
        self._ended = True
        if not self.plain_bytes:
            return ""
        rest = bytes(self._buffer)
        self._buffer.clear()
        small = self._index == 0 and len(rest) <= _SMALL_BYTES
        if small:
            self.digest.update(rest)
        else:
            self._hashed = self._loop.create_future()
        self._hand_over(rest, last=True)
        while self._hashed is not None and not self._hashed.done():
            await asyncio.wait({self._hashed}, timeout=HASH_POLL_S)
            if not self._sink.healthy:
                raise RecordUnavailable("the recording cannot be stored")
        return self.digest.name

    async def abort(self) -> None:
        """End a recording whose result broke off: what was written stays evidence, closed as it is."""
        if not self._ended:
            await self.close()

    def _hand_over(self, plaintext: bytes, *, last: bool) -> None:
        self._pending += len(plaintext)
        self._sink.put(_Piece(self, plaintext, self._index, last))
        self._index += 1

    # --- called by the worker ---

    def seal(self, piece: _Piece) -> Chunk:
        if not piece.last or self._hashed is not None:
            self.digest.update(piece.plaintext)
        if piece.last and self._hashed is not None:
            self._tell(_resolve, self._hashed)
        return seal_chunk(
            piece.plaintext, recording=self.recording_id, index=piece.index, last=piece.last, sealer=evidence_sealer()
        )

    def stored(self, count: int) -> None:
        self._tell(self._make_room, count)

    def row(self, stored_bytes: int, last: _Piece | None) -> RecordingRow:
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

    def _make_room(self, count: int) -> None:
        self._pending -= count
        if not self.behind:
            self._room.set()

    def _tell(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop ended before its recordings were stored
            logger.debug("recording stored after its event loop ended: recording=%s", self.recording_id)


class RecordingSink:
    """One per process. The worker thread starts with the first recording and ends with `close`."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failing = False
        self._pending = 0
        self._lock = threading.Lock()

    @property
    def healthy(self) -> bool:
        return not self._failing

    def open(self, *, session_id: str, statement_id: str, format: str) -> Recording:
        """Begin a recording. Raises RecordUnavailable when recordings cannot be stored now."""
        if self._failing or self._pending > MAX_PENDING_BYTES:
            raise RecordUnavailable("recordings cannot be stored now")
        return Recording(self, session_id=session_id, statement_id=statement_id, format=format)

    async def close(self) -> None:
        """Store what is queued and end the worker."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            await asyncio.get_running_loop().run_in_executor(None, thread.join, 15)

    def put(self, piece: _Piece) -> None:
        with self._lock:
            self._pending += len(piece.plaintext)
        self._queue.put(piece)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="recordings", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        closing = False
        while not closing:
            pieces, closing = self._take()
            if pieces:
                self._keep(pieces)
        connection.close()

    def _take(self) -> tuple[list[_Piece], bool]:
        pieces: list[_Piece] = []
        item = self._queue.get()
        while item is not None:
            pieces.append(item)
            if len(pieces) == MAX_BATCH or self._queue.empty():
                return pieces, False
            item = self._queue.get()
        return pieces, True

    def _keep(self, pieces: Sequence[_Piece]) -> None:
        sealed = [(piece, piece.recording.seal(piece)) for piece in pieces]
        rows = _rows(sealed)
        for attempt in range(1, 1_000_000):
            try:
                store_recordings(rows, [chunk for _, chunk in sealed])
                break
            except Exception as error:
                self._failing = True
                connection.close()
                logger.error("recordings not stored: chunks=%s error=%s", len(sealed), type(error).__name__)
                self._wake(pieces)
                if self._thread is None and attempt >= 5:  # closing
                    logger.error("recordings lost at close: chunks=%s", len(sealed))
                    return
                time.sleep(RETRY_S)
        self._failing = False
        with self._lock:
            self._pending -= sum(len(piece.plaintext) for piece in pieces)
        for piece in pieces:
            piece.recording.stored(len(piece.plaintext))

    def _wake(self, pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            piece.recording._tell(piece.recording._room.set)


def _rows(sealed: Sequence[tuple[_Piece, Chunk]]) -> list[RecordingRow]:
    """One row per recording in the batch: how many bytes it added, and its end when that is among them."""
    stored: dict[str, int] = {}
    ends: dict[str, _Piece] = {}
    recordings: dict[str, Recording] = {}
    for piece, chunk in sealed:
        key = piece.recording.recording_id
        recordings[key] = piece.recording
        stored[key] = stored.get(key, 0) + len(chunk.data)
        if piece.last:
            ends[key] = piece
    return [recording.row(stored[key], ends.get(key)) for key, recording in recordings.items()]


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
