"""Back-pressure with several reasons at once."""

from __future__ import annotations

from collections.abc import Callable


class Valve:
    """Stops a socket while there is any reason to; reasons come and go independently."""

    def __init__(self, stop: Callable[[], None], go: Callable[[], None]) -> None:
        self._stop, self._go = stop, go
        self._reasons: tuple[str, ...] = ()

    def hold(self, reason: str) -> None:
        if not self._reasons:
            self._stop()
        if reason not in self._reasons:
            self._reasons = (*self._reasons, reason)

    def release(self, reason: str) -> None:
        if reason in self._reasons:
            self._reasons = tuple(other for other in self._reasons if other != reason)
            if not self._reasons:
                self._go()
