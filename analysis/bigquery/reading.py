"""What one walk over a statement finds out, and the levels of a query in which names are looked up.

BigQuery stores no trees that could be asked for, so names are resolved here, by the rules of "Query syntax: scope rules
and ambiguity": wherever two things could be meant, both are taken, and the reading says that it was not sure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlglot import exp

from analysis.bigquery.dryrun import TablePath
from analysis.bigquery.names import Defaults, Definitions
from analysis.scope import NOTHING, Questions, Value, derived, merged, predicates_of
from analysis.statement import Carried, ColumnRef, PredicateUse, TableRef

MAX_DEPTH = 60  # of queries within queries, views and functions included


class TooDeep(ValueError):
    """More levels than can be followed."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The result of a query. `element`: of a value table (SELECT AS STRUCT, AS VALUE), what one row is."""

    columns: tuple[tuple[str, Value], ...] = ()
    element: Value | None = None

    @property
    def values(self) -> tuple[Value, ...]:
        return tuple(value for _, value in self.columns)

    def scalar(self) -> Value:
        """What one row is, used as an expression: a value table's element, or the only column."""
        if self.element is not None:
            return self.element
        return self.columns[0][1] if len(self.columns) == 1 else derived(self.values)


@dataclass(frozen=True, slots=True)
class Range:
    """A range variable: what one item of FROM is called, and what it offers."""

    name: str  # lower case; empty where nothing was given
    columns: tuple[tuple[str, Value], ...]
    whole: Value
    pseudo: Mapping[str, Value] = field(default_factory=dict)

    def find(self, name: str) -> list[Value]:
        found = [value for column, value in self.columns if column.lower() == name]
        return found or ([self.pseudo[name]] if name in self.pseudo else [])


@dataclass(slots=True, eq=False)
class Scope:
    """One SELECT's range variables, and the query around it."""

    parent: Scope | None = None
    ctes: Mapping[str, Rows] = field(default_factory=dict)
    ranges: list[Range] = field(default_factory=list)
    joined: dict[str, Value] = field(default_factory=dict)  # the columns of JOIN … USING, by name
    windows: dict[str, Value] = field(default_factory=dict)
    aliases: dict[str, Value] = field(default_factory=dict)  # of the select list
    offers_aliases: bool = False  # in GROUP BY, HAVING, QUALIFY and ORDER BY

    def find(self, path: list[str]) -> list[tuple[Value, list[str]]]:
        """Everything a dotted name may mean on this level: a value, and the fields still to be followed in it."""
        first, rest = path[0], path[1:]
        found = [self.joined[first]] if first in self.joined else [v for r in self.ranges for v in r.find(first)]
        meant = [(value, rest) for value in found]
        for variable in (r for r in self.ranges if r.name == first):
            columns = variable.find(rest[0]) if rest else []
            meant += [(value, rest[1:]) for value in columns] or [(variable.whole, rest)]
        if self.offers_aliases and first in self.aliases:
            # The alias of the same column is no other meaning.
            alias = self.aliases[first]
            meant += [(alias, rest)] if all(alias != value for value, _ in meant) else []
        return meant

    def cte(self, name: str) -> Rows | None:
        level: Scope | None = self
        while level is not None:
            if name in level.ctes:
                return level.ctes[name]
            level = level.parent
        return None


@dataclass(slots=True, eq=False)
class Reading(Questions):
    """Mutable while the walk lasts, then read once."""

    definitions: Definitions
    defaults: Defaults
    # Queries are made of expressions and expressions of queries: the walkers find each other here.
    rows_of: Callable[[exp.Expr, Scope | None], Rows] = field(init=False)
    call: Callable[[list[str], list[Value]], Value] = field(init=False)
    reads: set[ColumnRef] = field(default_factory=set)
    writes: set[ColumnRef] = field(default_factory=set)
    carries: set[Carried] = field(default_factory=set)
    tables: set[TablePath] = field(default_factory=set)  # the statement itself names
    beneath: set[TablePath] = field(default_factory=set)  # reached through views as well
    written: set[TablePath] = field(default_factory=set)
    problems: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    dangerous: set[str] = field(default_factory=set)  # what reaches beyond the tables the statement names
    variables: dict[str, Value] = field(default_factory=dict)  # of a script, and the arguments of a function's body
    local_functions: dict[str, LocalFunction] = field(default_factory=dict)
    local_tables: dict[str, Rows] = field(default_factory=dict)  # temporary, or created by the script; by their path
    views: dict[TablePath, tuple[tuple[str, Value], ...]] = field(default_factory=dict)
    collects: bool = False
    borrows: bool = False  # something only the surrounding script or function knows
    inside_view: int = 0
    depth: int = 0

    def note(self, value: Value, use: PredicateUse, against: Value = NOTHING) -> None:
        """Record that `value` steers rows. What a view's author wrote into it is not the client's question."""
        if not self.inside_view:
            self.predicates.update(predicates_of(value, use, against))

    def note_use(self, value: Value, use: PredicateUse) -> None:
        """As `note`, where only a stored value is used in the harmless way."""
        self.note(value, use if value.stored else PredicateUse.COMPUTED)

    def read(self, value: Value) -> Value:
        self.reads.update(origin.column for origin in value.origins)
        return value

    def problem(self, text: str) -> None:
        self.problems.add(text)

    def refs(self, paths: Iterable[TablePath]) -> frozenset[TableRef]:
        return frozenset(ref for path in paths for ref in self.definitions.table_refs(path))

    @contextmanager
    def deeper(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooDeep(f"more than {MAX_DEPTH} levels")
        try:
            yield
        finally:
            self.depth -= 1

    @contextmanager
    def as_author(self, project: str) -> Iterator[None]:
        """Read a view's text: it knows nothing of the statement around it, and its conditions are its author's."""
        mine = (self.defaults, self.variables, self.local_functions, self.local_tables)
        self.defaults, self.variables, self.local_functions, self.local_tables = Defaults(project), {}, {}, {}
        self.inside_view += 1
        try:
            yield
        finally:
            self.defaults, self.variables, self.local_functions, self.local_tables = mine
            self.inside_view -= 1


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """A SQL function: its argument names and its body, as a tree or still as text; no body when it is opaque."""

    arguments: tuple[str, ...]
    body: exp.Expr | str | None


def look_up(reading: Reading, scope: Scope, path: list[str]) -> Value:
    """Return what a dotted name means: the innermost level that knows its first part, then field by field."""
    names = [part.lower() for part in path]
    level: Scope | None = scope
    while level is not None:
        found = level.find(names)
        if found:
            return reading.read(_followed(reading, found, aliased=level.offers_aliases))
        level = level.parent
    if names[0] in reading.variables:
        reading.borrows = True
        return walk_fields(reading, reading.variables[names[0]], names[1:])
    reading.problem("a name that could not be resolved")
    return NOTHING


def _followed(reading: Reading, found: list[tuple[Value, list[str]]], *, aliased: bool) -> Value:
    if len(found) == 1:
        return walk_fields(reading, found[0][0], found[0][1])
    # A column and a range variable of one name: `id.id`. Whatever the service takes, it is one of these.
    meant = [walk_fields(reading, value, rest, strict=False) for value, rest in found]
    if len({(value.origins, value.stored) for value in meant}) == 1:
        return meant[0]
    if not aliased:
        reading.problem("a name that may mean more than one thing")
    return derived([merged(meant)])


def walk_fields(reading: Reading, value: Value, path: Iterable[str], *, strict: bool = True) -> Value:
    """Follow field names into a record; into anything else (JSON) every step is a computation."""
    for name in path:
        value = field_of(reading, value, name.lower(), strict=strict)
    return value


def field_of(reading: Reading, value: Value, name: str, *, strict: bool = True) -> Value:
    if value.fields is None:
        return derived([value])
    places = [index for index, known in enumerate(value.names) if known == name]
    if len(places) == 1:
        return value.fields[places[0]]
    if strict:
        reading.problem("a field that could not be resolved")
    return derived([value])
