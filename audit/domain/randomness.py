"""Random bytes of the operating system, drawn ahead: one call for many salts, nonces and identifiers. Pure.

Every byte is given out once: a pool belongs to one thread, and a forked process begins with an empty one.
"""

from __future__ import annotations

import contextlib
import os
import threading

_DRAWN = 4096


class _Pool(threading.local):
    def __init__(self) -> None:
        self.drawn = b""
        self.at = 0


_POOL = _Pool()


def random_bytes(count: int) -> bytes:
    """As good as `os.urandom(count)`; for up to some hundreds of bytes."""
    pool = _POOL
    end = pool.at + count
    if end > len(pool.drawn):
        pool.drawn, pool.at, end = os.urandom(max(_DRAWN, count)), 0, count
    found = pool.drawn[end - count : end]
    pool.at = end
    return found


_NOISE = (1 << 80) - 1 & ~(0xF << 76) & ~(0b11 << 62)
_VERSION = 7 << 76 | 0b10 << 62


def time_ordered_id(millis: int) -> str:
    """A UUIDv7 (RFC 9562 §5.7) of a moment in Unix milliseconds, as 36 characters.

    >>> time_ordered_id(0x017F22E279B0)[:15]
    '017f22e2-79b0-7'
    """
    bits = millis << 80 | int.from_bytes(random_bytes(10), "big") & _NOISE | _VERSION
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _forget() -> None:
    global _POOL  # noqa: PLW0603  what a parent drew must not be given out twice
    _POOL = _Pool()


os.register_at_fork(after_in_child=_forget)

random_bytes_python, time_ordered_id_python = random_bytes, time_ordered_id
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._fast import forget_drawn, random_bytes, time_ordered_id

    os.register_at_fork(after_in_child=forget_drawn)
