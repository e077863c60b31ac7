"""How far the log is behind the gateways' journals, as their files and the control database say."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg

from audit.domain.journal import HEADER, LENGTH, RECORD
from benchmarks.world import World

_SETTLED_WITHIN_S = 600.0


class Backlog:
    """Of one stack whose journals lie in its home."""

    def __init__(self, world: World) -> None:
        self._dsn = world.superuser_dsn("hoopweb")
        self._root = world.home / "journal"

    def size(self) -> int:
        """How many entries the log has."""
        with psycopg.connect(self._dsn) as connection:
            row = connection.execute("SELECT coalesce(max(size), 0) FROM audit_loghead").fetchone()
        assert row is not None
        return int(row[0])

    def behind(self) -> int:
        """How many entries are in the journals and not in the log."""
        with psycopg.connect(self._dsn) as connection:
            known: dict[str, int] = dict(
                connection.execute(
                    "SELECT journal, max(integrated) FROM audit_journalposition GROUP BY journal"
                ).fetchall()
            )
        return sum(
            _entries_after(segment, known.get(segment.parent.name, 0)) for segment in self._root.glob("*/*.journal")
        )

    def settle(self) -> None:
        """Return when the log has all that was journaled before."""
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        while left := self.behind():
            if time.monotonic() > deadline:
                raise SystemExit(f"the log is {left} entries behind after {_SETTLED_WITHIN_S:.0f} s without load")
            time.sleep(0.2)


def _entries_after(segment: Path, place: int) -> int:
    try:
        data = segment.read_bytes()
    except FileNotFoundError:  # taken in meanwhile
        return 0
    if len(data) < HEADER.size:
        return 0
    at, end, count = HEADER.size, int(HEADER.unpack_from(data)[3]), 0
    while at + RECORD <= len(data) and (length := LENGTH.unpack_from(data, at)[0]):
        at += RECORD + length
        end += RECORD + length
        count += end > place
    return count
