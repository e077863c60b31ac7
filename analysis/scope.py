"""Values on their way from stored columns to results, and the levels of a query in which names are looked up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analysis.catalogue import Catalogue, Function
from analysis.making import quickly_made, remade
from analysis.nodes import Node
from analysis.statement import ColumnRef, Flow, Origin, Predicate, PredicateUse, TableRef, Transform

if TYPE_CHECKING:
    from analysis.bodies import Body

# Looked up once: a member of an enumeration is found by Python code each time (3.11).
_SAFE, _DERIVED = Transform.SAFE, Transform.DERIVED


@quickly_made
@dataclass(frozen=True, slots=True)
class Value:
    """What an expression's value is made of.

    `stored`: nothing but values as some relation stores them, no constant or computation mixed in.
    `fields`: the parts of a row value, so that `(d.sub).ssn` finds its column again; `names` those of a record's.
    `steady`: made of stored values alone by functions that no choice of theirs steers (`analysis.totality`).
    `present`: NULL only where something stored is, whatever else may have been made of it.
    `mixed`: some rows hold a stored value as it is, others what the statement itself says.
    """

    origins: frozenset[Origin] = frozenset()
    stored: bool = False
    fields: tuple[Value, ...] | None = None
    names: tuple[str, ...] = ()
    steady: bool = False
    present: bool = False
    mixed: bool = False

    @property
    def is_present(self) -> bool:
        """Whether nobody's choice decides that it is NULL: `nullif(ssn, guess)` is made for just that."""
        return self.present or self.stored or self.steady or not self.discloses

    @property
    def discloses(self) -> bool:
        """Whether anything beyond a safe property of a stored value is in it."""
        return any(origin.transform is not _SAFE for origin in self.origins)


NOTHING = Value()
# Uses that set stored values beside other stored values, and are harmless only where those are alike.
_PAIRING = frozenset({PredicateUse.JOIN_EQUALITY, PredicateUse.ORDER, PredicateUse.GROUP, PredicateUse.REFERENCE})
# The seed of a recursive CTE, and NULL: they add neither origins nor constants.
BOTTOM = Value(stored=True)


def stored(columns: Iterable[ColumnRef], *, joinable: bool) -> Value:
    return Value(frozenset(Origin(column, Transform.IDENTITY) for column in columns), stored=joinable)


def derived(values: Iterable[Value]) -> Value:
    """Any expression over `values`. A safe property stays one."""
    return Value(frozenset([_weaken(origin, _DERIVED) for value in values for origin in value.origins]))


def safe(value: Value) -> Value:
    """A safe property of `value`, which holds only where the value itself is stored (or a row of such)."""
    parts = value.fields if value.fields is not None else (value,)
    if not all(part.stored or not part.origins or part.fields is not None for part in parts):
        return derived([value])
    return Value(frozenset(Origin(origin.column, _SAFE) for origin in value.origins))


def merged(values: Iterable[Value]) -> Value:
    """Any of `values`: arms of a set operation, rows of VALUES."""
    items = list(values)
    origins = frozenset(origin for value in items for origin in value.origins)
    mixed = any(value.mixed or not (value.stored or _shows(value)) for value in items)
    return Value(origins, stored=bool(items) and all(value.stored for value in items), mixed=mixed)


def _shows(value: Value) -> bool:
    """Whether a stored value is in it as it is."""
    return any(origin.transform is Transform.IDENTITY for origin in value.origins)


def row(fields: Iterable[Value]) -> Value:
    parts = tuple(fields)
    return Value(derived(parts).origins, fields=parts)


def record(names: Iterable[str], fields: Iterable[Value]) -> Value:
    """A row whose parts are found by name (BigQuery STRUCT)."""
    return remade(row(fields), names=tuple(names))


def union(values: Iterable[Value]) -> Value:
    """All origins of `values` as they are: the parts of one answer."""
    return Value(frozenset(origin for item in values for origin in item.origins))


def predicates_of(
    value: Value, use: PredicateUse, against: Value = NOTHING, partners: Collection[ColumnRef] | None = None
) -> Iterator[Predicate]:
    """What it says about `value`'s columns that it steers rows; `partners` where not all of both values count."""
    if partners is None:
        partners = disclosed(value) | disclosed(against)
    others = frozenset(partners) if use in _PAIRING else frozenset()
    matched = disclosed(against)
    for column in disclosed(value):
        yield Predicate(column, use, tuple(sorted(others if column in matched else others - {column})))


def disclosed(value: Value) -> frozenset[ColumnRef]:
    return frozenset([origin.column for origin in value.origins if origin.transform is not _SAFE])


def _weaken(origin: Origin, transform: Transform) -> Origin:
    return origin if origin.transform is _SAFE else Origin(origin.column, transform)


@quickly_made
@dataclass(slots=True, eq=False)
class Level:
    """One Query node and the query around it; `varlevelsup` climbs these."""

    query: Node
    parent: Level | None = None

    def above(self, steps: int) -> Level:
        level = self
        for _ in range(steps):
            if level.parent is None:
                raise LookupError("a variable of a level above the statement")
            level = level.parent
        return level

    def entry(self, index: int) -> Node:
        table = self.query.nodes("rtable")
        if not 1 <= index <= len(table):
            raise LookupError("a variable of no range table entry")
        return table[index - 1]


@dataclass(slots=True, eq=False, kw_only=True)
class Questions:
    """What every reading of a statement has: the predicates met so far."""

    predicates: set[Predicate] = field(default_factory=set)

    @contextmanager
    def own_predicates(self) -> Iterator[set[Predicate]]:
        """Collect the predicates of a part apart, then add them to the whole's."""
        outer, self.predicates = self.predicates, set()
        try:
            yield self.predicates
        finally:
            outer |= self.predicates
            self.predicates = outer


@quickly_made
@dataclass(slots=True, eq=False)
class Reading(Questions):
    """Everything one walk over a statement's tree finds out. Mutable while the walk lasts, then read once."""

    catalogue: Catalogue
    outputs_of: Callable[[Level], tuple[Value, ...]] = field(init=False)
    column_of: Callable[[Level, Node, int], Value] = field(init=False)
    body_of: Callable[[int], Body | None] = field(init=False)
    reads: set[ColumnRef] = field(default_factory=set)
    visited: set[tuple[int, int]] = field(default_factory=set)  # (relation OID, attribute), named by the statement
    relations: set[int] = field(default_factory=set)  # OIDs the statement itself names
    beneath: set[int] = field(default_factory=set)  # OIDs reached through views and inheritance as well
    written: set[int] = field(default_factory=set)
    writes: set[ColumnRef] = field(default_factory=set)
    flows: set[Flow] = field(default_factory=set)
    carried: dict[tuple[int, int], set[Origin]] = field(default_factory=dict)  # the same, by (OID, attribute)
    functions: set[int] = field(default_factory=set)
    followed: set[int] = field(default_factory=set)  # user functions whose calls were understood, by their bodies
    hidden_calls: set[int] = field(default_factory=set)  # functions called by operators, types, aggregates, windows
    problems: set[str] = field(default_factory=set)
    side_doors: set[str] = field(default_factory=set)  # system relations that show other tables' values, or secrets
    sublink_rows: list[tuple[Value, ...]] = field(default_factory=list)
    computed: set[ColumnRef] = field(default_factory=set)  # columns that anything but themselves is made of
    trees: list[Node] = field(default_factory=list)  # the statement's own, and those of the views it met
    brought: dict[str, tuple[bool, int]] = field(default_factory=dict)  # of them, by `analysis.brought`
    sized: set[ColumnRef] = field(default_factory=set)  # columns that decide how large a relation is that is read
    inside_view: int = 0
    inside_authored: int = 0  # the same without temporary views, whose author is the client

    def note(self, value: Value, use: PredicateUse, against: Value = NOTHING) -> None:
        """Record that `value` steers rows. What a view's author wrote into it is not the client's question."""
        if self.inside_authored:
            return
        partners = self._partners(value, against) if use in _PAIRING else frozenset()
        self.predicates.update(predicates_of(value, use, against, partners))

    def weigh(self, values: Iterable[Value]) -> None:
        """Record what values are computed that rows are made of: their size is told by what keeps or sends them."""
        if not self.inside_authored:
            self.computed.update(column for value in values if not value.stored for column in disclosed(value))

    def filled(self, oid: int | None = None) -> frozenset[Origin]:
        """What was computed and put into the session's own relations, or that with `oid`: their size tells of it."""
        inherited = self.catalogue.inherited
        if not inherited:
            return frozenset()
        origins = (origin for place, found in inherited.items() if oid in (None, place[0]) for origin in found)
        return frozenset(origin for origin in origins if origin.transform is _DERIVED)

    def _partners(self, *values: Value) -> frozenset[ColumnRef]:
        """The stored columns behind `values`, each once: no views' own names, no partition beside its parent."""
        return self._apart(frozenset(column for value in values for column in disclosed(value)))

    def _apart(self, columns: frozenset[ColumnRef]) -> frozenset[ColumnRef]:
        return frozenset(column for column in columns if not self._repeats(column, columns))

    def _repeats(self, column: ColumnRef, among: frozenset[ColumnRef]) -> bool:
        relation = self.catalogue.by_name.get(column.table_ref)
        if relation is None:
            return False
        if relation.kind in ("v", "m") and not relation.is_system:
            return True
        ancestors = (self.catalogue.relations.get(oid) for oid in self.catalogue.ancestors(relation.oid))
        return any(a is not None and ColumnRef(a.schema, a.name, column.column) in among for a in ancestors)

    def is_one_column(self, values: Iterable[Value]) -> bool:
        """Whether the values are of one column at most: of two, somebody may have written one to steer the sum."""
        columns = frozenset(column for value in values for column in disclosed(value))
        return len(columns) <= 1 or len(self._apart(columns)) <= 1

    def function(self, oid: int) -> Function | None:
        return self.catalogue.functions.get(oid)

    def builtin_name(self, oid: int) -> str:
        """The name of a built-in function, '' for a user's: names alone prove nothing about those."""
        function = self.catalogue.functions.get(oid)
        return function.name if function is not None and function.is_builtin else ""

    def operator_name(self, oid: int) -> str:
        found = self.catalogue.operators.get(oid)
        return found[0] if found is not None and found[1] < 16384 else ""

    def tables(self, oids: Iterable[int]) -> frozenset[TableRef]:
        return frozenset(self.catalogue.relations[oid].ref for oid in oids if oid in self.catalogue.relations)
