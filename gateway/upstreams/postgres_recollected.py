"""A remembered analysis that tells with one look whether it still holds."""

from __future__ import annotations

from analysis.statement import Analysis
from gateway.session.context import SessionContext
from gateway.upstreams.postgres_side import Key, PostgresSide
from gateway.upstreams.state import RecollectionState


class Recollected(RecollectionState):
    """Fulfils `Recollection`: everything `recall` looks at, with the keys made once."""

    def __init__(
        self,
        session: SessionContext,
        side: PostgresSide,
        changing: set[str],
        found: Analysis,
        key: Key,
        *,
        estimated: bool = False,
    ) -> None:
        self._session, self._side, self._changing = session, side, changing
        self._generation = side.generation
        self._found, self._key, self._estimated = found, key, estimated
        self._role, self._search_path = session.role, session.search_path
        self.shape = key[0][1:] if key[0].startswith("~") else ""

    def holds(self) -> bool:
        return self.holds_here() and (not self._estimated or self._still_expected())

    def _still_expected(self) -> bool:
        estimate = self._side.estimates.find(self._key)
        return estimate is not None and estimate.analysis is self._found and estimate.is_fresh
