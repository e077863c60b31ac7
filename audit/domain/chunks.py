"""A recording in pieces: compressed, sealed, named by what they hold. Pure.

Plaintext is cut into chunks; each is a zstandard frame, sealed with its recording, its index and whether it is the
last one as associated data, so that no chunk can be altered, moved, dropped from the end or taken from elsewhere.
The recording's digest is an HMAC-SHA-256 of the whole plaintext under a random salt that is sealed beside it: the log
names it for ever, and after the salt is erased it tells nothing about a result somebody might guess.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass

import zstandard

from audit.domain.box import Sealer

CHUNK_BYTES = 262_144
_LEAST = 256  # bytes: in shorter ones there is nothing to gain
_LEVEL = 1  # 2.5 times smaller on result rows; higher levels cost more time than they save


class _Zstd(threading.local):
    """Making one takes longer than compressing what most statements return. A thread has its own."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)


_ZSTD = _Zstd()


@dataclass(frozen=True, slots=True)
class Chunk:
    recording: str
    index: int
    address: str  # SHA-256 of `data`, hexadecimal
    data: bytes


def seal_chunk(plaintext: bytes, *, recording: str, index: int, last: bool, sealer: Sealer) -> Chunk:
    frame = _stored(plaintext) if len(plaintext) < _LEAST else _ZSTD.compressor.compress(plaintext)
    data = sealer.seal(frame, bound_to=_place(recording, index, last))
    return Chunk(recording, index, hashlib.sha256(data).hexdigest(), data)


def open_chunk(data: bytes, *, recording: str, index: int, last: bool, sealer: Sealer) -> bytes:
    """Raises SealProblem when altered or not the chunk of that place."""
    frame = sealer.open(data, bound_to=_place(recording, index, last))
    # Bounded: a chunk is ours, but a corrupted one must not ask for memory.
    return zstandard.ZstdDecompressor().decompress(frame, max_output_size=64 * CHUNK_BYTES)


def seal_salt(salt: bytes, *, recording: str, sealer: Sealer) -> bytes:
    return sealer.seal(salt, bound_to=b"hoopweb recording salt\x00" + recording.encode())


def open_salt(box: bytes, *, recording: str, sealer: Sealer) -> bytes:
    return sealer.open(box, bound_to=b"hoopweb recording salt\x00" + recording.encode())


def _stored(plaintext: bytes) -> bytes:
    """A frame of one raw block (RFC 8878, 3.1.1): magic, a single segment of so many bytes, the last block's header."""
    size = len(plaintext)
    return b"\x28\xb5\x2f\xfd\x20%c%b%b" % (size, (size << 3 | 1).to_bytes(3, "little"), plaintext)


def _place(recording: str, index: int, last: bool) -> bytes:
    return b"hoopweb recording chunk\x00%b\x00%d\x00%d" % (recording.encode(), index, last)
