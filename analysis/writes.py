"""What a statement writes: which columns, what it carries into them, and what its success tells of stored values."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from analysis.catalogue import Reference, Relation
from analysis.expressions import condition, value
from analysis.nodes import Node, read_tree, walk
from analysis.query_nodes import single_query
from analysis.scope import NOTHING, Level, Reading, Value, stored
from analysis.statement import ColumnRef, Flow, Origin, Predicate, PredicateUse

Place = tuple[int, int]  # a relation's OID and an attribute of it
_UPDATE, _DELETE = 2, 4  # CmdType
_REFUSES, _CASCADES = ("a", "r"), "c"  # what becomes of rows that refer to one that goes, or whose key changes
_CONSTANTS = frozenset({"CONST", "PARAM", "SETTODEFAULT"})
# What a write may try against a unique index. One constant is one guess, spelled in the record, by somebody who may
# write there; rows are many; and with ON CONFLICT a guess costs nothing at all.
_ONE, _SOME, _ANY = range(3)


def asked_by_copying(reading: Reading) -> frozenset[Predicate]:
    """What COPY FROM asks about stored values: each of its rows is compared with them, and an error says which."""
    writes = Writes(reading, lambda _: ())
    with reading.own_predicates() as asked:
        for oid, number in reading.visited:
            writes.take_in(reading.catalogue.relations[oid], number)
    return frozenset(asked)


class Writes:
    """Of one walk. `view` gives the columns of a view as its definition makes them."""

    def __init__(self, reading: Reading, view: Callable[[Relation], tuple[Value, ...]]) -> None:
        self._reading = reading
        self._view = view

    def read(self, query: Node, command: str, relation: Relation, level: Level, targets: Collection[int]) -> None:
        """Note everything the write of `relation` does but what it returns. `targets`: OIDs it reaches by itself."""
        conflict = query.node("onConflict")
        jointree = query.node("jointree")
        rows = jointree is not None and bool(jointree.nodes("fromlist"))
        guesses = _ANY if conflict is not None else _SOME if rows else _ONE
        if command in ("INSERT", "UPDATE"):
            self._assign(relation, query.nodes("targetList"), level, guesses)
        if command == "UPDATE":
            self._leave(relation, query.nodes("targetList"))
        if command == "DELETE":
            self._remove(targets)
        condition(self._reading, level, query.node("mergeJoinCondition"))
        for action in query.nodes("mergeActionList"):
            condition(self._reading, level, action.node("qual"))
            self._assign(relation, action.nodes("targetList"), level, _SOME)
            if action.number("commandType") == _UPDATE:
                self._leave(relation, action.nodes("targetList"))
            if action.number("commandType") == _DELETE:
                self._remove(targets)
        if conflict is not None:
            self._on_conflict(relation, conflict, level)

    def take_in(self, relation: Relation, number: int) -> None:
        """Note what any rows whose values for one column nobody has seen are compared with."""
        for place in self._places(relation, number):
            self._compare(place, NOTHING, one=False)
            self._look_up(place, one=False)

    def _on_conflict(self, relation: Relation, conflict: Node, level: Level) -> None:
        # EXCLUDED is a row of the target, and the tree lists all of it.
        self._reading.visited |= {(relation.oid, number) for number in relation.columns}
        self._assign(relation, conflict.nodes("onConflictSet"), level, _ANY)
        self._leave(relation, conflict.nodes("onConflictSet"))
        for element in conflict.nodes("arbiterElems"):
            value(self._reading, level, element.node("expr"))
        condition(self._reading, level, conflict.node("arbiterWhere"))
        condition(self._reading, level, conflict.node("onConflictWhere"))

    def _assign(self, relation: Relation, entries: list[Node], level: Level, guesses: int) -> None:
        for entry in entries:
            number, assigned = entry.number("resno"), entry.node("expr")
            found = value(self._reading, level, assigned)
            if entry.flag("resjunk"):
                continue
            self._reading.visited.add((relation.oid, number))
            if relation.kind in ("v", "m"):
                columns = self._view(relation)
                if 1 <= number <= len(columns):
                    self._reading.writes.update(origin.column for origin in columns[number - 1].origins)
            ref = relation.column_ref(number)
            if ref is not None:
                self._reading.writes.add(ref)
            constant = assigned is None or assigned.tag in _CONSTANTS
            for place in self._places(relation, number):
                one = guesses == _ONE or (guesses == _SOME and constant)
                self._compare(place, found, one=one)
                if assigned is not None and not assigned.flag("constisnull"):
                    self._look_up(place, one=one)
                self._carry(place, found)

    def _leave(self, relation: Relation, entries: list[Node]) -> None:
        """A constraint over several columns holds what is written into one against what stays in the others."""
        numbers = {entry.number("resno") for entry in entries if not entry.flag("resjunk")}
        written = {place for number in numbers for place in self._places(relation, number)}
        self._change(written)
        for oid in {oid for oid, _ in written}:
            target = self._reading.catalogue.relations[oid]
            here = {number for place, number in written if place == oid}
            for group in target.checked_together:
                kept = filter(None, map(target.column_ref, group - here)) if group & here else ()
                self._reading.note(stored(kept, joinable=True), PredicateUse.COMPARISON)
        if relation.kind == "v" and relation.checked_columns & numbers:  # WITH CHECK OPTION
            self._reading.note(stored(self._asked_by(relation), joinable=True), PredicateUse.COMPARISON)

    def _asked_by(self, view: Relation) -> set[ColumnRef]:
        """The columns that the conditions of an automatically updatable view, and of those beneath it, are about."""
        if view.definition is None:
            return set()
        query = single_query(read_tree(view.definition))
        numbers = (entry.number("relid") for entry in query.nodes("rtable"))
        relations = [self._reading.catalogue.relations.get(number) for number in numbers]
        found: set[ColumnRef] = set()
        for node in walk(query.fields.get("jointree")):
            below = relations[node.number("varno") - 1] if node.tag == "VAR" else None
            for oid, number in self._places(below, node.number("varattno")) if below is not None else ():
                found |= {
                    ref for ref in (self._reading.catalogue.relations[oid].column_ref(number),) if ref is not None
                }
        views = (below for below in relations if below is not None and below.kind == "v" and below.oid != view.oid)
        return found.union(*map(self._asked_by, views))

    def _look_up(self, place: Place, *, one: bool) -> None:
        """A foreign key says whether what is written is there. With the same class on both ends that is no news."""
        relation, number = self._reading.catalogue.relations[place[0]], place[1]
        here = relation.column_ref(number)
        for reference in relation.references:
            target = self._reading.catalogue.relations.get(reference.oid)
            there = target.column_ref(reference.attribute) if target is not None else None
            if reference.column != number:
                continue
            if here is None or there is None:
                self._reading.problems.add("a foreign key to a table that is not known")
                continue
            found = stored({there}, joinable=True)
            if one:
                self._reading.note(found, PredicateUse.REFERENCE, against=stored({here}, joinable=True))
            else:
                self._reading.note(found, PredicateUse.COMPARISON)

    def _remove(self, oids: Collection[int]) -> None:
        """Rows go, and what refers to them goes along, changes, or says that it is there by refusing that they go."""
        catalogue = self._reading.catalogue
        pending, gone = set(oids), set[int]()
        while pending:
            oid = pending.pop()
            relation = catalogue.relations.get(oid)
            if relation is None or oid in gone:
                continue
            gone.add(oid)
            pending |= catalogue.family.get(oid, frozenset())
            self._reading.writes.update(filter(None, map(relation.column_ref, relation.columns)))
            for by, reference in catalogue.referred.get(oid, ()):
                if reference.on_delete == _CASCADES:
                    self._reading.written.add(by)
                    pending.add(by)
                elif self._refers(by, reference, reference.on_delete, frozenset()):
                    self._change({(by, reference.column)})

    def _change(self, places: Collection[Place]) -> None:
        """Keys change, and what refers to them changes as well, or says that it is there by refusing that they do."""
        pending, seen = set(places), set[Place]()
        while pending:
            place = pending.pop()
            seen.add(place)
            carried = frozenset(self._reading.carried.get(place, ()))
            for by, reference in self._reading.catalogue.referred.get(place[0], ()):
                changes = reference.attribute == place[1] and self._refers(by, reference, reference.on_update, carried)
                pending |= {(by, reference.column)} - seen if changes else set()

    def _refers(self, by: int, reference: Reference, action: str, carried: frozenset[Origin]) -> bool:
        """Note what the row that refers does then, and return whether it is written."""
        reading, relations = self._reading, self._reading.catalogue.relations
        there, target = relations[by].column_ref(reference.column), relations.get(reference.oid)
        here = target.column_ref(reference.attribute) if target is not None else None
        if there is None or here is None:
            reading.problems.add("a foreign key of a table that is not known")
            return False
        if action != _CASCADES:
            reading.note(stored({there}, joinable=True), PredicateUse.REFERENCE, stored({here}, joinable=True))
        if action in _REFUSES:
            return False
        reading.written.add(by)
        reading.writes.add(there)
        self._carry((by, reference.column), Value(carried if action == _CASCADES else frozenset()))
        return True

    def _carry(self, place: Place, found: Value) -> None:
        ref = self._reading.catalogue.relations[place[0]].column_ref(place[1])
        if ref is not None and found.origins:
            self._reading.carried.setdefault(place, set()).update(found.origins)
            self._reading.flows |= {Flow(*place, ref, origin) for origin in found.origins}

    def _compare(self, place: Place, found: Value, *, one: bool) -> None:
        """A unique index, a foreign key or the bounds of partitions compare what is written, and say so by failing.

        So do constraints, generated columns and policies, which hold what is made for them against what they want.
        """
        relation, number = self._reading.catalogue.relations[place[0]], place[1]
        if number in relation.unique_columns | relation.referencing_columns:
            self._reading.note(found, PredicateUse.COMPARISON if found.stored else PredicateUse.COMPUTED)
        refuses_null = number in relation.columns and relation.columns[number].not_null
        if (number in relation.checked_columns and not found.stored) or (refuses_null and not found.is_present):
            self._reading.note(found, PredicateUse.COMPUTED)
        if number not in relation.unique_columns:
            return
        inherited = self._reading.catalogue.inherited.get(place, frozenset())
        ref = relation.column_ref(number)
        there = stored({ref}, joinable=True) if ref is not None and not one else NOTHING
        self._reading.note(replace(there, origins=there.origins | inherited), PredicateUse.COMPARISON)

    def _places(self, relation: Relation, attribute: int) -> set[Place]:
        """Where a value written to a column may be read again: views' tables, partitions and parents included."""
        catalogue = self._reading.catalogue
        refs: set[ColumnRef | None] = {relation.column_ref(attribute)}
        if relation.kind in ("v", "m"):
            columns = self._view(relation)
            refs |= {origin.column for found in columns[attribute - 1 : attribute] for origin in found.origins}
        places = set()
        for ref in filter(None, refs):
            target = catalogue.by_name.get(ref.table_ref)
            for oid in {target.oid, *catalogue.family.get(target.oid, ())} if target is not None else ():
                number = catalogue.relations[oid].attribute_of(ref.column)
                places |= {(oid, number)} if number is not None else set()
        return places
