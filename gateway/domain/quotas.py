"""How much an agent may ask for: the rules, as the data path sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from approvals.domain.request import Principal

LIMITS: Mapping[str, str] = {
    "statements_per_minute": "statements a minute",
    "statements_per_day": "statements a day",
    "rows_per_day": "rows a day",
    "bytes_per_day": "bytes a day",
    "concurrent_statements": "statements at a time",
}


@dataclass(frozen=True, slots=True)
class QuotaRule:
    """Limits of each principal whose name matches, on the connections that match, together. None: no limit."""

    name: str
    agents: tuple[str, ...]  # globs over names
    connections: tuple[str, ...]
    statements_per_minute: int | None = None
    statements_per_day: int | None = None
    rows_per_day: int | None = None
    bytes_per_day: int | None = None
    concurrent_statements: int | None = None

    def covers(self, principal: Principal, connection: str) -> bool:
        """An agent that acts for a person is held to what is set for the agent."""
        name = principal.actor or principal.subject
        return _matches(self.agents, name) and _matches(self.connections, connection)


def _matches(globs: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
