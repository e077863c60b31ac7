"""Masking rules as frozen values, and which of them applies to a column for a principal."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase, translate

from analysis.statement import ColumnRef
from masking.detectors.column_names import FREE_TEXT


class Technique(StrEnum):
    REDACT = "redact"  # a constant valid for the type
    NULL = "null"
    PARTIAL = "partial"  # keep the last four characters (`keep`)
    HASH = "hash"  # keyed token (HMAC-SHA-256, truncated); pseudonymised PHI, says the documentation
    YEAR = "year"  # dates to 1 January; ages over 89 to 90
    ZIP3 = "zip3"  # first three digits, 000 for restricted prefixes
    SCAN = "scan"  # free text: the value detectors over the stored text, anything derived from it whole


class Inference(StrEnum):
    """What predicates on a protected column may do (see docs/architecture.md, "What may be seen")."""

    OPEN = "open"
    GUARDED = "guarded"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class MaskingRule:
    """`columns` and `connections` are globs; the first matching rule in `priority` order wins (lower first)."""

    name: str
    connections: tuple[str, ...]
    columns: tuple[str, ...]
    technique: Technique
    inference: Inference = Inference.GUARDED
    exempt_groups: frozenset[str] = frozenset()
    data_class: str = ""  # e.g. "ssn"; empty: the rule's name is the class
    keep: int = 4
    priority: int = 100
    covers_free_text: bool = False  # the implicit rule of `free_text`: columns by what their names say, no globs
    inherited: bool = False  # nobody wrote it: its columns took in protected values (see `inherit`)

    @property
    def protected_class(self) -> str:
        return self.data_class or self.name

    def exempts(self, groups: frozenset[str]) -> bool:
        return not self.exempt_groups.isdisjoint(groups)


@dataclass(slots=True)
class ConnectionRules:
    """The rules of one connection in order of priority, with every column looked up at most once."""

    ordered: tuple[tuple[re.Pattern[str], MaskingRule], ...]
    _found: dict[ColumnRef, MaskingRule | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.ordered)

    @property
    def rules(self) -> tuple[MaskingRule, ...]:
        return tuple(rule for _pattern, rule in self.ordered)

    def rule_for(self, column: ColumnRef) -> MaskingRule | None:
        """Return the first rule that covers the column, or covers the record a nested field lies in."""
        try:
            return self._found[column]
        except KeyError:
            found = self._search(column)
        if len(self._found) >= _MAX_REMEMBERED_COLUMNS:
            self._found.clear()
        self._found[column] = found
        return found

    def _search(self, column: ColumnRef) -> MaskingRule | None:
        candidates = _self_and_enclosing(column)
        for pattern, rule in self.ordered:
            if any(pattern.match(candidate) for candidate in candidates):
                return rule
        return None


# Column names come from statements, so the memory they may take is bounded.
_MAX_REMEMBERED_COLUMNS = 20_000
# Snapshots replace one another; a few generations are alive while statements finish under the older ones.
_MAX_GENERATIONS = 4

_generations: dict[int, tuple[tuple[MaskingRule, ...], dict[str, ConnectionRules]]] = {}


def rules_for(rules: tuple[MaskingRule, ...], connection: str) -> ConnectionRules:
    """Return the compiled rules of a connection; compiled once per snapshot.

    The cache is keyed by the identity of the snapshot's tuple: hashing the rules themselves for every statement would
    cost more than the look-up. The entry holds the tuple, so its identity cannot be given to another.
    """
    generation = _generations.get(id(rules))
    if generation is None:
        while len(_generations) >= _MAX_GENERATIONS:
            _generations.pop(next(iter(_generations)))
        generation = _generations[id(rules)] = (rules, {})
    by_connection = generation[1]
    if connection not in by_connection:
        by_connection[connection] = _compile(rules, connection)
    return by_connection[connection]


def _compile(rules: tuple[MaskingRule, ...], connection: str) -> ConnectionRules:
    applying = [rule for rule in rules if any(fnmatchcase(connection, glob) for glob in rule.connections)]
    applying.sort(key=lambda rule: rule.priority)  # stable: equal priorities keep the snapshot's order
    return ConnectionRules(tuple((_pattern_of(rule), rule) for rule in applying))


def _pattern_of(rule: MaskingRule) -> re.Pattern[str]:
    return FREE_TEXT if rule.covers_free_text else glob_union(rule.columns)


def glob_union(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Compile globs into one pattern over lower-case text; `*` crosses dots, so `*.ssn` covers every table.

    Case is ignored on purpose: a column created as "SSN" is no less an SSN than `ssn`.
    """
    return re.compile("|".join(translate(glob.lower()) for glob in globs) or r"(?!)")


def exactly(name: str) -> str:
    """The glob that matches this name alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _self_and_enclosing(column: ColumnRef) -> tuple[str, ...]:
    """`s.t.a.b.c` → itself, `s.t.a.b`, `s.t.a`: a rule on a record covers its fields."""
    path = column.column.lower().split(".")
    stem = f"{column.schema}.{column.table}".lower()
    return tuple(f"{stem}.{'.'.join(path[:depth])}" for depth in range(len(path), 0, -1))
