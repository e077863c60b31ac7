"""Where recordings of masked results go: beside the data path, which hands over bytes and never waits for the disk.

One worker thread hashes, compresses and seals, and stores everything that queued meanwhile in one transaction. Results
may come faster than that: then `has_room` is false, and whoever is about to have more waits for `room`, so that
statements go at the pace of the worker. When recordings cannot be stored, `open` refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from django.db import connection

from audit.answers import RecordUnavailable
from audit.domain.chunks import CHUNK_BYTES, Chunk
from audit.domain.commitment import SALT_BYTES, STREAM_DIGEST, commitment_to
from audit.domain.entry import now_us
from audit.domain.randomness import random_bytes, time_ordered_id
from audit.domain.recordings import RecordingRow, SealedSmall, SmallRecording, seal_small, store_recordings
from audit.domain.sealing import evidence_sealer
from audit.recording import Piece, Recording

if not TYPE_CHECKING:
    with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
        from audit.domain._fast import commitment_to

logger = logging.getLogger(__name__)

MAX_PENDING_BYTES = 128 * CHUNK_BYTES  # all recordings of the process: then `open` refuses
MAX_WAITING = 4_096  # small recordings of the process: then there is no room. A worker stores some thousands a second
MAX_BATCH, MAX_PIECES = 1_024, 64  # of both kinds, and of streamed ones: how much a transaction stores
# Small results come by the thousand a second, and each transaction has its price: so long one waits for more.
GATHER_S = 0.02
RETRY_S = 0.5


class RecordingSink:
    """One per process. The worker thread starts with the first recording and ends with `close`."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Piece | SmallRecording | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failing = False
        self._pending = self._waiting = 0
        self._handed_over = self._stored = 0  # pieces and small recordings, ever; they are stored in their order
        self._told: deque[tuple[int, Callable[[], None]]] = deque()  # and at which number
        self._lock = threading.Lock()
        self._room: asyncio.Event | None = None  # for whoever waits, in the loop they share
        self._loop: asyncio.AbstractEventLoop | None = None
        self.has_room = True  # what is kept now will be stored soon
        self.crowded = False  # there will be room again

    @property
    def healthy(self) -> bool:
        return not self._failing

    async def room(self) -> None:
        """Return when there is room again, or when recordings cannot be stored: `open` tells."""
        self._loop = asyncio.get_running_loop()
        self._room = self._room or asyncio.Event()
        while self.crowded:
            self._room.clear()
            await self._room.wait()

    def when_stored(self, told: Callable[[], None]) -> None:
        """Call `told` once all that was handed over so far is stored: now, or later in this event loop, or never."""
        with self._lock:
            waits = self._stored < self._handed_over
            if waits:
                self._loop = asyncio.get_running_loop()
                self._told.append((self._handed_over, told))
        if not waits:
            told()

    def open(self, *, session_id: str, statement_id: str, format: str) -> Recording:
        """Begin a recording. Raises RecordUnavailable when recordings cannot be stored now."""
        if self._failing or self._pending > MAX_PENDING_BYTES:
            raise RecordUnavailable("recordings cannot be stored now")
        return Recording(self, session_id=session_id, statement_id=statement_id, format=format)

    def keep(self, session_id: str, statement_id: str, format: str, plaintext: bytes) -> str:
        """Take a whole small result; returns its digest as the log names it. Whoever has asked `has_room` may."""
        at_us, salt = now_us(), random_bytes(SALT_BYTES)
        digest = f"{STREAM_DIGEST}:{commitment_to(plaintext, salt).hex()}"
        recording_id = time_ordered_id(at_us // 1000)
        small = SmallRecording(recording_id, session_id, statement_id, format, at_us, digest, salt, plaintext)
        with self._lock:
            self._waiting += 1
            self._handed_over += 1
            self._pending += len(plaintext)
            if self._waiting >= MAX_WAITING:
                self.crowded, self.has_room = not self._failing, False
        self._hand_over(small)
        return digest

    def put(self, piece: Piece) -> None:
        with self._lock:
            self._pending += len(piece.plaintext)
            self._handed_over += 1
        self._hand_over(piece)

    async def close(self) -> None:
        """Store what is queued and end the worker."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            await asyncio.get_running_loop().run_in_executor(None, thread.join, 15)
        self._tell_of_stored()

    def _hand_over(self, item: Piece | SmallRecording) -> None:
        self._queue.put(item)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="recordings", daemon=True)
            self._thread.start()

    # --- the worker ---

    def _work(self) -> None:
        closing = False
        while not closing:
            pieces, small, closing = self._take()
            if pieces or small:
                self._keep(pieces, small)
        connection.close()

    def _take(self) -> tuple[list[Piece], list[SmallRecording], bool]:
        pieces: list[Piece] = []
        small: list[SmallRecording] = []
        item = self._queue.get()
        if isinstance(item, SmallRecording) and self._queue.qsize() < MAX_BATCH:
            time.sleep(GATHER_S)
        while item is not None:
            if isinstance(item, SmallRecording):
                small.append(item)
            else:
                pieces.append(item)
            if len(pieces) + len(small) == MAX_BATCH or len(pieces) == MAX_PIECES or self._queue.empty():
                return pieces, small, False
            item = self._queue.get()
        return pieces, small, True

    def _keep(self, pieces: Sequence[Piece], small: Sequence[SmallRecording]) -> None:
        sealed: _Sealed | None = None
        tried = False
        for attempt in range(1, 1_000_000):
            try:
                sealed = sealed or _seal(pieces, small)
                again, tried = tried, True
                store_recordings(*sealed, again=again)
                break
            except Exception as error:
                self._fail()
                connection.close()
                count = len(pieces) + len(small)
                logger.error("recordings not stored: chunks=%s error=%s", count, type(error).__name__)
                _wake(pieces)
                if self._thread is None and attempt >= 5:  # closing
                    logger.error("recordings lost at close: chunks=%s", count)
                    return
                time.sleep(RETRY_S)
        stored = sum(len(piece.plaintext) for piece in pieces) + sum(len(each.plaintext) for each in small)
        self._make_room(len(pieces), len(small), stored)
        for piece in pieces:
            piece.recording.stored(len(piece.plaintext))

    def _fail(self) -> None:
        with self._lock:
            self._failing, self.crowded, self.has_room = True, False, False
        self._tell_of_room()

    def _make_room(self, pieces: int, small: int, stored_bytes: int) -> None:
        with self._lock:
            self._waiting -= small
            self._pending -= stored_bytes
            self._stored += pieces + small
            somebody = bool(self._told)
            self._failing = False
            self.crowded = not self.has_room and self._waiting > MAX_WAITING // 2
            self.has_room = not self.crowded
        if self.has_room:
            self._tell_of_room()
        if somebody and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._tell_of_stored)

    def _tell_of_stored(self) -> None:
        while self._told and self._told[0][0] <= self._stored:
            _, told = self._told.popleft()
            try:
                told()
            except Exception as error:  # one session's trouble is not its neighbours'
                logger.error("who waits for recordings failed: error=%s", type(error).__name__)

    def _tell_of_room(self) -> None:
        if self._loop is not None and self._room is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._room.set)


def _wake(pieces: Sequence[Piece]) -> None:
    for piece in pieces:
        piece.recording.wake()


_Sealed = tuple[list[RecordingRow], list[Chunk], list[SealedSmall]]


def _seal(pieces: Sequence[Piece], small: Sequence[SmallRecording]) -> _Sealed:
    """What is stored of them. May be tried again where it failed."""
    sealer = evidence_sealer()
    streamed = [(piece, piece.recording.seal(piece)) for piece in pieces]
    return _rows(streamed), [chunk for _, chunk in streamed], [seal_small(each, sealer) for each in small]


def _rows(sealed: Sequence[tuple[Piece, Chunk]]) -> list[RecordingRow]:
    """One row per recording in the batch: how many bytes it added, and its end when that is among them."""
    stored: dict[str, int] = {}
    ends: dict[str, Piece] = {}
    recordings: dict[str, Recording] = {}
    for piece, chunk in sealed:
        key = piece.recording.recording_id
        recordings[key] = piece.recording
        stored[key] = stored.get(key, 0) + len(chunk.data)
        if piece.last:
            ends[key] = piece
    return [recording.row(stored[key], ends.get(key)) for key, recording in recordings.items()]
