"""Where a masked result is recorded while it streams: the wire's side of the door to `audit`."""

from __future__ import annotations

from typing import Protocol


class Recording(Protocol):
    """One result being recorded. `write` never blocks; a recording that lags says so and the wire waits for it."""

    @property
    def behind(self) -> bool:
        """More is buffered than the recording likes: stop reading from the upstream until `drain` returns."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> str:
        """Seal what was written and return its digest, empty when nothing was."""

    def close_at_once(self) -> str | None:
        """`close`, where that needs not be waited for. None: it is as it was."""

    async def abort(self) -> None: ...


class RecordingSink(Protocol):
    has_room: bool  # what is kept now will be stored soon
    crowded: bool  # there will be room again

    async def room(self) -> None:
        """Return when there is room again, or when recordings cannot be stored: `open` tells."""

    def open(self, *, session_id: str, statement_id: str, format: str) -> Recording: ...

    def keep(self, session_id: str, statement_id: str, format: str, plaintext: bytes) -> str:
        """Take a whole small result, where there is room; returns its digest."""
