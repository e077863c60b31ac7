"""Noting whose records a result holds, while its rows are masked.

The masking loop calls one function per masked value with the value as it was stored. For a column that carries a
subject's number that function also remembers the value, each once; nothing else of the loop changes, and a connection
that declares no subjects has none of this. Values become tokens a portion at a time, so that an export of everybody
needs no more memory than one of a few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from audit.domain.subjects import SubjectKey, SubjectsSeen, SubjectTokens, token_maker
from masking.domain.field import MaskValue, SubjectPlan, WatchedColumn

# Distinct values remembered before they become an entry of their own. Its sealed text is some 90 KB.
PORTION = 4_000

# As the wires take them: (column, mask, whether only changed values are counted).
Mask = tuple[int, MaskValue, bool]


class SubjectCollector:
    """Of one execution. `flush` is handed every full portion; `finish` returns what is left."""

    def __init__(self, plan: SubjectPlan, *, key: SubjectKey | None, flush: Callable[[SubjectsSeen], None]) -> None:
        self._plan = plan
        self._key = key
        self._flush = flush
        self._values: list[set[bytes]] = [set() for _ in plan.watched]
        self._without = [0] * len(plan.watched)
        self._flushed = False

    def watching(self, masks: Sequence[Mask]) -> tuple[Mask, ...]:
        """`masks`, with the subjects' columns noted on their way; a column without a mask gets one that changes
        nothing."""
        by_column = {mask[0]: mask for mask in masks}
        for at, column in enumerate(self._plan.watched if self._key is not None else ()):
            _, mask, only_changed = by_column.get(column.index, (0, None, True))
            by_column[column.index] = (column.index, self._noting(at, mask), only_changed)
        return tuple(by_column[index] for index in sorted(by_column))

    def notes(self) -> tuple[tuple[WatchedColumn, MaskValue], ...]:
        """What notes each watched value, for a wire that finds the values itself (BigQuery's records and arrays)."""
        watched = self._plan.watched if self._key is not None else ()
        return tuple((column, self._noting(at, None)) for at, column in enumerate(watched))

    def _noting(self, at: int, mask: MaskValue | None) -> MaskValue:
        note, without = self._values[at].add, self._without

        def noted(value: bytes | None) -> bytes | None:
            if value is None:
                without[at] += 1
            else:
                note(value)
            return value if mask is None else mask(value)

        return noted

    def rows_taken(self) -> None:
        """Called after every run of rows: hands over a portion when one is full."""
        if sum(map(len, self._values)) >= PORTION:
            self._flush(SubjectsSeen(self._key_id, known=self._tokens(without=False)))
            self._flushed = True

    def finish(self, *, rows: int) -> SubjectsSeen:
        """What the entry of the end says. A result without rows showed nobody."""
        unknown = self._plan.unknown
        if self._key is None:
            unknown = tuple((name, "no-subject-key") for name in self._plan.about)
        shown = tuple((column.column, column.of, column.state) for column in self._plan.shown)
        if not rows and not self._flushed and all(why != "write" for _, why in unknown):
            nobody = tuple(SubjectTokens(name, ()) for name in self._plan.about)
            return SubjectsSeen(self._key_id, known=nobody, shown=shown)
        return SubjectsSeen(self._key_id, known=self._tokens(without=True), unknown=unknown, shown=shown)

    @property
    def _key_id(self) -> int:
        return self._key.key_id if self._key is not None else 0

    def _tokens(self, *, without: bool) -> tuple[SubjectTokens, ...]:
        """Turn what was remembered into tokens and forget it."""
        if self._key is None:
            return ()
        tokens: dict[str, set[bytes]] = {}
        missing: dict[str, int] = {}
        for at, column in enumerate(self._plan.watched):
            self._without[at] += self._read(column, self._values[at], tokens.setdefault(column.name, set()))
            self._values[at].clear()
            # A row that lacks the number in one column may have it in another: an outer join does.
            missing[column.name] = min(missing.get(column.name, self._without[at]), self._without[at])
        return tuple(
            SubjectTokens(name, tuple(found), missing[name] if without else 0) for name, found in tokens.items()
        )

    def _read(self, column: WatchedColumn, values: set[bytes], found: set[bytes]) -> int:
        """Add the tokens of `values` to `found`; returns how many could not be read."""
        assert self._key is not None
        token, read, note = token_maker(self._key, name=column.name), column.read, found.add
        unread = 0
        for value in values:
            number = read(value)
            if number is None:
                unread += 1
            else:
                note(token(number))
        return unread
