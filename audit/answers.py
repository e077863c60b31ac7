"""How whoever waits for an entry hears of it: once, in time, and with an exception where nothing may run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from audit.domain.entry import Answer, Receipt

# A frozen database answers nobody and breaks no connection: a client hears of it after this long.
WITHIN_S = 10.0


class RecordUnavailable(RuntimeError):
    """The entry is not durable and its cause must not happen."""


# The entry may still be written when the database answers; what it would have allowed does not run.
_LATE = RecordUnavailable("the audit log did not answer in time")


class Within:
    """Passes one answer on: the first, or that there was none in time. `late` is called before the latter."""

    def __init__(self, answer: Answer) -> None:
        self._answer: Answer | None = answer
        self.late: Callable[[], None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WITHIN_S, self._too_late)

    def _too_late(self) -> None:
        if self.late is not None:
            self.late()
        self.tell(_LATE)

    def forget(self) -> None:
        """Pass nothing on, ever: whoever asked was told another way."""
        self._answer = None
        self._timer.cancel()

    def tell(self, answer: Receipt | Exception) -> None:
        told, self._answer = self._answer, None
        self._timer.cancel()
        if told is not None:
            told(answer)


def resolve(receipt: asyncio.Future[Receipt], answer: Receipt | Exception) -> None:
    """Answer a task that waits for a receipt, unless it was cancelled."""
    if receipt.done():
        return
    if isinstance(answer, Receipt):
        receipt.set_result(answer)
    else:
        receipt.set_exception(answer)
