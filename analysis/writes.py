"""What a statement writes: which columns, what it carries into them, and what its success tells of stored values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from analysis.catalogue import Relation
from analysis.expressions import condition, value
from analysis.nodes import Node, read_tree, walk
from analysis.query_nodes import single_query
from analysis.scope import NOTHING, Level, Reading, Value, stored
from analysis.statement import ColumnRef, Flow, PredicateUse

Place = tuple[int, int]  # a relation's OID and an attribute of it
_UPDATE = 2  # CmdType
_CONSTANTS = frozenset({"CONST", "PARAM", "SETTODEFAULT"})
# What a write may try against a unique index. One constant is one guess, spelled in the record, by somebody who may
# write there; rows are many; and with ON CONFLICT a guess costs nothing at all.
_ONE, _SOME, _ANY = range(3)


class Writes:
    """Of one walk. `view` gives the columns of a view as its definition makes them."""

    def __init__(self, reading: Reading, view: Callable[[Relation], tuple[Value, ...]]) -> None:
        self._reading = reading
        self._view = view

    def read(self, query: Node, command: str, relation: Relation, level: Level) -> None:
        """Note everything the write of `relation` does but what it returns."""
        conflict = query.node("onConflict")
        jointree = query.node("jointree")
        rows = jointree is not None and bool(jointree.nodes("fromlist"))
        guesses = _ANY if conflict is not None else _SOME if rows else _ONE
        if command in ("INSERT", "UPDATE"):
            self._assign(relation, query.nodes("targetList"), level, guesses)
        if command == "UPDATE":
            self._leave(relation, query.nodes("targetList"))
        if command == "DELETE":
            self._reading.writes.update(
                ref for number in relation.columns if (ref := relation.column_ref(number)) is not None
            )
        condition(self._reading, level, query.node("mergeJoinCondition"))
        for action in query.nodes("mergeActionList"):
            condition(self._reading, level, action.node("qual"))
            self._assign(relation, action.nodes("targetList"), level, _SOME)
            if action.number("commandType") == _UPDATE:
                self._leave(relation, action.nodes("targetList"))
        if conflict is not None:
            self._on_conflict(relation, conflict, level)

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
        for column, oid, attribute in relation.references:
            target = self._reading.catalogue.relations.get(oid)
            there = target.column_ref(attribute) if target is not None else None
            if column != number:
                continue
            if here is None or there is None:
                self._reading.problems.add("a foreign key to a table that is not known")
                continue
            found = stored({there}, joinable=True)
            if one:
                self._reading.note(found, PredicateUse.REFERENCE, against=stored({here}, joinable=True))
            else:
                self._reading.note(found, PredicateUse.COMPARISON)

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
