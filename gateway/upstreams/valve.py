"""Back-pressure with several reasons at once."""

from __future__ import annotations

from collections.abc import Callable


class Valve:
    """Stops a socket while there is any reason to; reasons come and go independently."""

    def __init__(self, stop: Callable[[], None], go: Callable[[], None]) -> None:
        self._stop, self._go = stop, go
        self._reasons: set[str] = set()

    def hold(self, reason: str) -> None:
        if not self._reasons:
            self._stop()
        self._reasons.add(reason)

    def release(self, reason: str) -> None:
        if reason in self._reasons:
            self._reasons.discard(reason)
            if not self._reasons:
                self._go()
