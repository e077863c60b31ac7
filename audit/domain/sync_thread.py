"""A thread that makes a file durable on order: one `fdatasync` at a time, beside an event loop.

    order(file) → fdatasync(file) → `answers` becomes readable → outcome()

Orders and answers go through eventfds, so that neither side holds anything the other waits for. The compiled twin is a
thread of C: between an order and its answer it never asks for the interpreter's lock, which the loop has nearly always.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING

_END = -1


class SyncThread:
    """Ordered, asked and closed by one thread. Raises OSError or RuntimeError where there can be no more threads."""

    def __init__(self) -> None:
        self._orders, self.answers = os.eventfd(0, os.EFD_CLOEXEC), os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._file, self._failed, self._busy = _END, 0, False
        self._thread = threading.Thread(target=self._work, name="audit-journal", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._let_go()
            raise

    def order(self, file: int) -> None:
        """Have `file`, which stays open until that is answered, synced. Not before the last order was answered."""
        if self._busy or file < 0 or self._orders < 0:
            raise RuntimeError("a sync is under way, or its thread has ended")
        self._file, self._busy = file, True
        os.eventfd_write(self._orders, 1)

    def outcome(self) -> int:
        """Return 0 when what was ordered is on the disk, else the error's number. Once, when `answers` is readable.

        Raises BlockingIOError before.
        """
        os.eventfd_read(self.answers)
        self._busy = False
        return self._failed

    def close(self) -> None:
        """End the thread, after the sync it is in."""
        if self._orders >= 0:
            self._file = _END
            os.eventfd_write(self._orders, 1)
            self._thread.join()
            self._let_go()

    def _let_go(self) -> None:
        os.close(self._orders)
        os.close(self.answers)
        self._orders = self.answers = -1

    def _work(self) -> None:
        while True:
            os.eventfd_read(self._orders)
            file = self._file
            if file == _END:
                return
            try:
                os.fdatasync(file)
                self._failed = 0
            except Exception as error:  # fail closed: what may not be on the disk is not acknowledged
                self._failed = getattr(error, "errno", None) or errno.EIO
            os.eventfd_write(self.answers, 1)


SyncThreadPython = SyncThread
if not TYPE_CHECKING:
    with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
        from audit.domain._sync_thread import SyncThread
