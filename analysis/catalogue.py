"""What the analysis knows of a database's schema: a frozen value, read whole, replaced when its version changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from analysis.statement import ColumnRef, Origin, TableRef

if TYPE_CHECKING:
    from analysis.bodies import Body
    from analysis.scope import Value

FIRST_USER_OID = 16384  # FirstNormalObjectId (src/include/access/transam.h): below it initdb made the object

TABLEOID = -6
SYSTEM_COLUMNS = {-1: "ctid", -2: "xmin", -3: "cmin", -4: "xmax", -5: "cmax", TABLEOID: "tableoid"}


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type_oid: int
    not_null: bool = False
    generated: bool = False
    made_of: tuple[int, ...] = ()  # the attributes a generated column is computed from


@dataclass(frozen=True, slots=True)
class Reference:
    """One column of a foreign key: `column` here, `attribute` of `oid` there, and what becomes of the row here when the
    one there goes or its key changes (pg_constraint.confdeltype, confupdtype)."""

    column: int
    oid: int
    attribute: int
    on_delete: str = "a"
    on_update: str = "a"


@dataclass(frozen=True, slots=True)
class Relation:
    """`kind` is pg_class.relkind. `definition` is the stored tree of a view's or materialised view's rule."""

    oid: int
    schema: str
    name: str
    kind: str
    columns: Mapping[int, Column]  # by attribute number, dropped ones left out
    unique_keys: tuple[frozenset[int], ...] = ()
    unique_columns: frozenset[int] = frozenset()  # of any unique or exclusion index: a write is compared
    referencing_columns: frozenset[int] = frozenset()  # of foreign and partition keys: looked for elsewhere
    dividing_columns: frozenset[int] = frozenset()  # of the partition key: they decide where a row lies
    checked_columns: frozenset[int] = frozenset()  # what the database computes from them can refuse a write
    checked_together: tuple[frozenset[int], ...] = ()  # by one constraint, generated column, policy or partition key
    references: tuple[Reference, ...] = ()
    parents: tuple[int, ...] = ()  # inheritance and partitioning, nearest first
    children: tuple[int, ...] = ()
    definition: str | None = None
    triggers: frozenset[str] = frozenset()  # user triggers that fire on writes
    rules: frozenset[str] = frozenset()  # rewrite rules other than a view's own
    write_functions: frozenset[int] = frozenset()  # user functions in defaults, constraints and index expressions
    read_functions: frozenset[int] = frozenset()  # user functions in row security policies

    @property
    def ref(self) -> TableRef:
        return TableRef(self.schema, self.name)

    @property
    def is_system(self) -> bool:
        return self.oid < FIRST_USER_OID

    def column_ref(self, attribute: int) -> ColumnRef | None:
        if attribute < 0:
            name = SYSTEM_COLUMNS.get(attribute)
            return ColumnRef(self.schema, self.name, name) if name else None
        column = self.columns.get(attribute)
        return ColumnRef(self.schema, self.name, column.name) if column else None

    def attribute_of(self, name: str) -> int | None:
        return next((number for number, column in self.columns.items() if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Function:
    """`kind` is pg_proc.prokind, `volatility` provolatile."""

    oid: int
    schema: str
    name: str
    kind: str = "f"
    volatility: str = "i"
    body: str | None = None  # the stored tree of a user's SQL function that the database has read itself

    @property
    def is_builtin(self) -> bool:
        return self.oid < FIRST_USER_OID

    def __str__(self) -> str:
        return self.name if self.schema == "pg_catalog" else f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Catalogue:
    version: str
    relations: Mapping[int, Relation]
    functions: Mapping[int, Function]
    operators: Mapping[int, tuple[str, int]]  # operator OID → (name, function OID)
    # Types whose input, output or constraints run user functions, by OID, those of their parts included; and what is
    # run where one of them becomes JSON or text by a function that looks for a cast itself.
    type_functions: Mapping[int, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    cast_functions: Mapping[int, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    # Checks and defaults of domains: they run where a column of such a type is left out, and no tree names them.
    domain_functions: Mapping[int, frozenset[int]] = field(default_factory=lambda: MappingProxyType({}))
    json_types: frozenset[int] = frozenset()  # users' types with json somewhere in them
    server_version: int = 0
    # What a person says user functions read, by OID, of the code they have now; those among them whose names mean
    # what the session's search_path makes of them, that path as sessions begin with it; and those with other code.
    classified: Mapping[int, frozenset[ColumnRef]] = field(default_factory=lambda: MappingProxyType({}))
    by_path: frozenset[int] = frozenset()
    usual_path: str = ""
    outdated: frozenset[int] = frozenset()

    # Of one session's own relations, where it has any: all of them, those with contents nobody followed, and per
    # (OID, attribute) what was carried into them.
    temporary: frozenset[int] = frozenset()
    unfollowed: frozenset[int] = frozenset()
    inherited: Mapping[tuple[int, int], frozenset[Origin]] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def bodies(self) -> dict[int, Body | None]:
        """What is known of user functions' bodies, filled by `analysis.bodies`."""
        return {}

    @cached_property
    def stored(self) -> dict[tuple[int, int], Value]:
        """The columns of tables by OID and attribute as they are stored, filled by `analysis.relations`."""
        return {}

    @cached_property
    def elsewhere(self) -> Catalogue:
        """The same for sessions whose names may mean something else than in most: what depends on them is not known."""
        kept = {oid: columns for oid, columns in self.classified.items() if oid not in self.by_path}
        return self if len(kept) == len(self.classified) else replace(self, classified=kept)

    @cached_property
    def family(self) -> dict[int, frozenset[int]]:
        """Per relation OID its ancestors and descendants, and what else these descend from: they hold the same rows."""
        return {oid: self._closure(oid) for oid, r in self.relations.items() if r.parents or r.children}

    @cached_property
    def referred(self) -> dict[int, list[tuple[int, Reference]]]:
        """Per relation OID what refers to it: the OID of that relation, and how."""
        found: dict[int, list[tuple[int, Reference]]] = {}
        for relation in self.relations.values():
            for reference in relation.references:
                found.setdefault(reference.oid, []).append((relation.oid, reference))
        return found

    @cached_property
    def by_name(self) -> dict[TableRef, Relation]:
        return {relation.ref: relation for relation in self.relations.values()}

    def ancestors(self, oid: int) -> frozenset[int]:
        return self._reached(oid, "parents") if oid in self.family else frozenset()

    def _closure(self, oid: int) -> frozenset[int]:
        # A descendant may have parents that are no relatives of its other ones: to read one is to read it as well.
        below = self._reached(oid, "children")
        return below.union(*(self._reached(each, "parents") for each in (oid, *below))) - {oid}

    def _reached(self, oid: int, direction: str) -> frozenset[int]:
        found: set[int] = set()
        pending = list(getattr(self.relations[oid], direction))
        while pending:
            relative = pending.pop()
            if relative not in found and relative in self.relations:
                found.add(relative)
                pending.extend(getattr(self.relations[relative], direction))
        return frozenset(found)
