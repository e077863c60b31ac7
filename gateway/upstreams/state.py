# cython: language_level=3, annotation_typing=False
"""What is looked at of an upstream whenever a remembered statement comes: see `gateway.protocols.postgres.state`."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from analysis.catalogue import Catalogue
    from gateway.session.context import SessionContext

# Nothing is believed that was last checked longer ago, in seconds.
TRUST_S = 2.0


class SideState:
    """Of `postgres_side.PostgresSide`."""

    catalogue: Catalogue | None
    generation: int  # how often everything was forgotten
    _poller: asyncio.Task[None] | None
    _checked_at: float  # when the last successful check began
    _used_at: float

    def is_fresh(self) -> bool:
        """Whether `keep_fresh` would return at once; counts as a use, like asking it."""
        return self.is_fresh_at(monotonic())

    def is_fresh_at(self, now: float) -> bool:
        self._used_at = now
        return self.catalogue is not None and self._poller is not None and now - self._checked_at < TRUST_S


class RecollectionState:
    """Of `postgres_recollected.Recollected`."""

    _session: SessionContext
    _side: Any
    _generation: int
    _changing: set[str]
    _role: str
    _search_path: str
    _estimated: bool  # then it holds for as long as the estimate does

    def holds_here(self) -> bool:
        """Whether nothing was forgotten since, and the session is still one that reads names like this."""
        return self.holds_at(monotonic())

    def holds_at(self, now: float) -> bool:
        session = self._session
        return (
            self._side.generation == self._generation
            and self._side.is_fresh_at(now)
            and not session.uncommitted_definitions
            and not session.temp_relations
            and session.session_id not in self._changing
            and session.role == self._role
            and session.search_path == self._search_path
        )
