"""What relations tell of themselves: their columns, and what lies beneath views, in families and behind flows.

A view's columns are what its own stored tree makes them; everything else is a stored column, together with the same
column of the relation's ancestors and descendants.
"""

from __future__ import annotations

from collections.abc import Iterable

from analysis.calls import collect_functions
from analysis.catalogue import TABLEOID, Relation
from analysis.functions import READABLE_KINDS, RELATION_SIZES, SIDE_DOORS
from analysis.making import remade
from analysis.nodes import Node, read_tree, walk
from analysis.query_nodes import RELATION, single_query
from analysis.scope import NOTHING, Level, Reading, Value, derived, disclosed, row, stored
from analysis.statement import ColumnRef, Origin, PredicateUse, Transform

MAX_VIEW_DEPTH = 30


class Relations:
    """Those of one reading, whose `outputs_of` reads the views' queries."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._views: dict[int, tuple[Value, ...]] = {}
        self._expanding: set[int] = set()
        self._pinned: list[Node] = []  # what is known of a tree is found by its nodes' identity, so they must live
        self._met: set[int] = set()  # relations of which all there is to note was noted

    def relation(self, oid: int) -> Relation | None:
        relation = self._reading.catalogue.relations.get(oid)
        if relation is None:
            self._reading.problems.add("a relation the catalogue does not know yet")
            return None
        if oid in self._met:
            return relation
        if not self._reading.inside_view:
            self._reading.relations.add(oid)
        self._reading.beneath |= {oid, *self._reading.catalogue.family.get(oid, ())}
        self._reading.sized |= {origin.column for origin in self._reading.filled(oid)}
        self._partition(relation)
        if relation.is_system and relation.name in SIDE_DOORS:
            self._reading.side_doors.add(relation.name)
        if oid in self._reading.catalogue.unfollowed:
            self._reading.problems.add("reads a temporary relation whose contents nobody has followed")
        if any(self._is_foreign(each) for each in (oid, *self._reading.catalogue.family.get(oid, ()))):
            self._reading.problems.add("reads a foreign table, for whose contents another server answers")
        if relation.kind not in READABLE_KINDS:
            self._reading.problems.add("reads a relation that is not a table or view")
        # Before version 16 a view's own tree names the view itself, as OLD and NEW of its rule.
        if relation.kind in ("v", "m") and not relation.is_system and oid not in self._expanding:
            self.view(relation)
        # Within a view less is noted; of a partition the condition it stands for, anew for each part of a statement.
        if not self._reading.inside_view and not relation.parents:
            self._met.add(oid)
        return relation

    def _partition(self, relation: Relation) -> None:
        """To read a partition by its own name is a condition on the key; a plan tells which of them a row was in."""
        key = self._key_of(relation)
        self._reading.sized |= disclosed(key)
        if relation.parents:
            self._reading.note(key, PredicateUse.COMPARISON)

    def _key_of(self, relation: Relation) -> Value:
        """The columns that decide in which partition a row lies."""
        catalogue = self._reading.catalogue
        family = (catalogue.relations.get(oid) for oid in (relation.oid, *catalogue.ancestors(relation.oid)))
        columns: set[ColumnRef] = set()
        for each in (each for each in family if each is not None):
            for ref in filter(None, map(each.column_ref, each.dividing_columns)):
                columns |= {ref, *self._relatives(each, ref.column)}
        return stored(columns, joinable=True)

    def _is_foreign(self, oid: int) -> bool:
        relation = self._reading.catalogue.relations.get(oid)
        return relation is not None and relation.kind == "f"

    def column(self, oid: int, attribute: int) -> Value:
        relation = self.relation(oid)
        if relation is None:
            return NOTHING
        if attribute == 0:
            # A field of a row is found by its attribute number: dropped columns keep their places.
            numbers = range(1, max(relation.columns, default=0) + 1)
            return row(self.column(oid, n) if n in relation.columns else NOTHING for n in numbers)
        if not self._reading.inside_view:
            self._reading.visited.add((oid, attribute))
        ref = relation.column_ref(attribute)
        if ref is None:
            self._reading.problems.add("a column the catalogue does not know yet")
            return NOTHING
        if attribute > 0 and relation.kind in ("v", "m") and not relation.is_system:
            return self._view_column(relation, attribute)
        found = self._stored(relation, attribute, ref)
        if not self._reading.inside_view:
            self._reading.reads |= disclosed(found)
        if attribute < 0 or _tells_sizes(relation, ref.column):
            # Where a row lies (ctid) is where those before it end.
            found = remade(found, origins=found.origins | self._reading.filled(oid if attribute < 0 else None))
        key = self._key_of(relation) if attribute == TABLEOID else NOTHING
        if key.origins:
            found = remade(found, origins=found.origins | derived([key]).origins, stored=False)
        made_of = relation.columns[attribute].made_of if attribute > 0 else ()
        if made_of:
            found = remade(found, origins=found.origins | self._computed_from(oid, made_of))
        return self._with_inherited(found, (oid, attribute))

    def _stored(self, relation: Relation, attribute: int, ref: ColumnRef) -> Value:
        """The column as it is stored, told once for all statements: nothing of it is of this one."""
        known = self._reading.catalogue.stored.get((relation.oid, attribute))
        if known is None:
            # A system catalogue shows settings and statements a client wrote: never a partner of a free join.
            columns = {ref, *self._relatives(relation, ref.column)}
            known = stored(columns, joinable=not relation.is_system)
            self._reading.catalogue.stored[relation.oid, attribute] = known
        return known

    def _computed_from(self, oid: int, attributes: Iterable[int]) -> frozenset[Origin]:
        """A generated column tells of the columns it is computed from."""
        return derived(self.column(oid, attribute) for attribute in attributes).origins

    def _with_inherited(self, found: Value, place: tuple[int, int]) -> Value:
        """What was carried into a column shows there like a view's column shows what it is made of.

        By statements before, or by this one: RETURNING and EXCLUDED show what it writes.
        """
        inherited = self._reading.catalogue.inherited.get(place, frozenset())
        inherited |= self._reading.carried.get(place, set())
        if not inherited:
            return found
        if not self._reading.inside_view:
            self._reading.reads |= {origin.column for origin in inherited}
        sources = (self._reading.catalogue.by_name.get(origin.column.table_ref) for origin in inherited)
        self._reading.beneath |= {source.oid for source in sources if source is not None}
        # Whether it is NULL is no secret of a value that was stored; nullif(ssn, guess) is made to be asked that.
        computed = any(origin.transform is Transform.DERIVED for origin in inherited)
        return remade(found, origins=found.origins | inherited, stored=found.stored and not computed)

    def _relatives(self, relation: Relation, column: str) -> set[ColumnRef]:
        """The same column of ancestors and descendants: a rule on any of them protects the row."""
        family = self._reading.catalogue.family.get(relation.oid, frozenset())
        relatives = (self._reading.catalogue.relations[oid] for oid in family)
        return {
            ColumnRef(relative.schema, relative.name, column)
            for relative in relatives
            if relative.attribute_of(column) is not None
        }

    def _view_column(self, relation: Relation, attribute: int) -> Value:
        columns = self.view(relation)
        if not 1 <= attribute <= len(columns):
            self._reading.problems.add("a view column its definition does not have")
            return NOTHING
        found = self._with_inherited(columns[attribute - 1], (relation.oid, attribute))
        ref = relation.column_ref(attribute)
        if not self._reading.inside_view:
            self._reading.reads |= {origin.column for origin in found.origins} | ({ref} if ref else set())
        if ref is None:
            return found
        # A rule may name the view's own column as well; to such a rule the view is a table like any other.
        return remade(found, origins=found.origins | {Origin(ref, Transform.IDENTITY)})

    def view(self, relation: Relation) -> tuple[Value, ...]:
        """The columns of a view as its own stored definition makes them."""
        known = self._views.get(relation.oid)
        if known is not None:
            return known
        if relation.definition is None or self._reading.inside_view >= MAX_VIEW_DEPTH:
            self._reading.problems.add("a view whose definition is not known")
            return (NOTHING,) * (max(relation.columns, default=0))
        authored = relation.oid not in self._reading.catalogue.temporary
        self._reading.inside_view += 1
        self._reading.inside_authored += authored
        self._expanding.add(relation.oid)
        try:
            query = single_query(read_tree(relation.definition))
            self._reading.trees.append(query)
            known = self._reading.outputs_of(Level(query))
            collect_functions(self._reading, query)
        finally:
            self._reading.inside_view -= 1
            self._reading.inside_authored -= authored
            self._expanding.discard(relation.oid)
        self._views[relation.oid] = known
        self._pinned.append(query)
        return known

    def underneath(self, relation: Relation) -> set[int]:
        """The tables an automatically updatable view writes to: all it reads from, to be safe."""
        if relation.kind not in ("v", "m") or relation.definition is None:
            return set()
        found: set[int] = set()
        for node in walk(read_tree(relation.definition)):
            if node.tag == "RANGETBLENTRY" and node.number("rtekind") == RELATION:
                below = self._reading.catalogue.relations.get(node.number("relid"))
                if below is not None and below.oid != relation.oid and below.oid not in found:
                    found |= {below.oid, *self.underneath(below)}
        return found


def _tells_sizes(relation: Relation, column: str) -> bool:
    """Whether a column of the catalogue says how many pages relations have, or how many were read."""
    return relation.is_system and (column in RELATION_SIZES or "_blks_" in column)
