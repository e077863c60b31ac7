"""Where long texts are read: beside the sessions, in a thread, one at a time.

Reading a text takes time by its length: a statement of 45,000 constants some tenths of a second, for which no session
of the process must stand still. A principal has one text in the queue, however many its sessions send: whoever sends
many waits for itself, and others for one of them at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

LONG_TEXT = 4_096  # characters: shorter ones take a few milliseconds at most, and are read where they are

T = TypeVar("T")


async def read_beside(asker: str, length: int, read: Callable[[], T]) -> T:
    """Return `read()`, done at once for what is short. `length`: of the text, in characters."""
    if length <= LONG_TEXT:
        return read()
    return await read_long(asker, read)


async def read_long(asker: str, read: Callable[[], T]) -> T:
    """Return `read()`, done in a thread as soon as it is the asker's turn.

    Whoever is cancelled meanwhile does not wait any longer, but its place is taken until the thread is done: a client
    that leaves and comes again gets no second thread.
    """
    loop = asyncio.get_running_loop()
    turns = _turns_of.setdefault(loop, _Turns())
    share = turns.shares.setdefault(asker, asyncio.Semaphore(1))
    await share.acquire()
    try:
        await turns.place.acquire()
    except BaseException:
        share.release()
        raise
    reading = loop.run_in_executor(None, read)

    def done(_: asyncio.Future[T]) -> None:
        turns.place.release()
        share.release()

    reading.add_done_callback(done)
    return await asyncio.shield(reading)


class _Turns:
    """Those of one event loop. A share lives as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self.place = asyncio.Semaphore(1)
        self.shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()


_turns_of: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()
