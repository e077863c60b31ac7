"""The combined log: every program's lines, prefixed with its name, on one stdout that can never stall the stack."""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading

_MAX_LINES = 10_000  # what waits for a terminal that does not read; about 2 MB
_MAX_LINE_BYTES = 8_192
# A file on a full disk: unlike a reader that is gone, it may take lines again.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Output:
    """Writes in a thread of its own.

    A reader that stops reading, or a disk without room, loses lines (they are counted), nothing else.
    """

    def __init__(self, *, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MAX_LINES)
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="output", daemon=True)
        self._thread.start()

    def line(self, name: str, text: str) -> None:
        if not text.strip():
            return
        shortened = text.encode("utf-8", "replace")[:_MAX_LINE_BYTES]
        try:
            self._lines.put_nowait(f"{name:<9} | ".encode() + shortened + b"\n")
        except queue.Full:
            self._lost += 1

    def text(self, block: str) -> None:
        """Several lines without a prefix: what the person at the terminal is meant to read."""
        try:
            self._lines.put_nowait(block.encode("utf-8", "replace"))
        except queue.Full:
            self._lost += 1

    def close(self, *, timeout_s: float = 2.0) -> None:
        """Write what is left, as far as the reader takes it in time."""
        try:
            self._lines.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _write(self) -> None:
        torn = b""
        while (line := self._lines.get()) is not None:
            lost, self._lost = self._lost, 0
            notice = f"hoopweb   | {lost} lines lost: nobody was reading, or there was no room\n" if lost else ""
            try:
                self._put(torn + line + notice.encode())
                torn = b""
            except OSError as error:
                if error.errno not in _NO_ROOM:  # the reader is gone; the stack goes on without a log
                    return
                self._lost += lost + 1
                torn = b"\n"  # what was written of it stays a line of its own

    def _put(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]
