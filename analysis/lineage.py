"""Walk a statement's stored tree once: where every output comes from, what is read, what is written.

The tree is the database's own resolution, so no name is ever looked up here: a `Var` is a range table entry and an
attribute number. What remains is to follow entries to stored columns: subqueries, CTEs (recursive ones to a fixed
point), joins, set operations by position, views through their own stored trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from analysis.bodies import read_body
from analysis.calls import collect_functions
from analysis.catalogue import Catalogue, Relation
from analysis.expressions import condition, value
from analysis.functions import READABLE_KINDS, RELATION_SIZES, SIDE_DOORS
from analysis.nodes import Node, TreeError, children, read_tree, walk
from analysis.scope import BOTTOM, NOTHING, Level, Reading, Value, derived, merged, row, stored
from analysis.statement import ColumnRef, Origin, Output, PredicateUse, Transform
from analysis.writes import Writes

_RELATION, _SUBQUERY, _JOIN, _FUNCTION, _TABLEFUNC, _VALUES, _CTE = range(7)  # RTEKind (parsenodes.h)
_RESULT, _GROUP = 8, 9
_UNION = "1"  # SetOperation
COMMANDS = {1: "SELECT", 2: "UPDATE", 3: "INSERT", 4: "DELETE", 5: "MERGE"}  # CmdType
MAX_ROUNDS = 20
MAX_VIEW_DEPTH = 30


@dataclass(frozen=True, slots=True)
class Lineage:
    """The reading of one statement. `query` is its root node."""

    query: Node
    reading: Reading
    outputs: tuple[Output, ...] | None


def read_lineage(tree: str, catalogue: Catalogue, depth: int = 0) -> Lineage:
    """Walk `tree` (prosqlbody of a probe, or of a user's function `depth` calls below one).

    Raises TreeError when it is not exactly one query.
    """
    query = _single_query(read_tree(tree))
    reading = Reading(catalogue)
    _Walker(reading)
    reading.body_of = partial(read_body, catalogue=catalogue, read_lineage=read_lineage, depth=depth)
    level = Level(query)
    try:
        values = reading.outputs_of(level)
        collect_functions(reading, query)
    except (LookupError, RecursionError) as error:
        raise TreeError(f"the statement's tree cannot be followed: {type(error).__name__}") from error
    return Lineage(query, reading, _outputs(query, values))


def _single_query(found: object) -> Node:
    while isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, Node) or found.tag != "QUERY":
        raise TreeError("expected exactly one statement")
    return found


def _outputs(query: Node, values: tuple[Value, ...]) -> tuple[Output, ...] | None:
    if query.number("commandType") != 1 and not query.nodes("returningList"):
        return None
    entries = visible_entries(query)
    return tuple(
        Output(entry.text("resname"), tuple(sorted(found.origins)))
        for entry, found in zip(entries, values, strict=True)
    )


def visible_entries(query: Node) -> list[Node]:
    """The target entries a client sees: RETURNING of a write, else the target list without its junk."""
    name = "targetList" if query.number("commandType") == 1 else "returningList"
    return [entry for entry in query.nodes(name) if not entry.flag("resjunk")]


def _tells_sizes(relation: Relation, column: str) -> bool:
    """Whether a column of the catalogue says how many pages relations have, or how many were read."""
    return relation.is_system and (column in RELATION_SIZES or "_blks_" in column)


class _Walker:
    """Answers for queries and range table entries, remembering each query it has read."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._known: dict[int, tuple[Value, ...]] = {}  # by id of the Query node
        self._rounds: dict[int, tuple[Value, ...]] = {}  # recursive CTEs under way
        self._views: dict[int, tuple[Value, ...]] = {}
        self._expanding: set[int] = set()
        self._writes = Writes(reading, self._view)
        self._pinned: list[Node] = []  # what is known of a tree is found by its nodes' identity, so they must live
        reading.outputs_of = self.outputs_of
        reading.column_of = self.column_of

    # --- queries ---

    def outputs_of(self, level: Level) -> tuple[Value, ...]:
        known = self._known.get(id(level.query))
        if known is None:
            known = self._read_query(level)
            self._known[id(level.query)] = known
        return known

    def _read_query(self, level: Level) -> tuple[Value, ...]:
        query = level.query
        command = COMMANDS.get(query.number("commandType"))
        if command is None:
            self._reading.problems.add("a command that is not a query")
            return ()
        for cte in query.nodes("cteList"):
            self._cycle(cte, self._cte(cte, level))
        for entry in query.nodes("rtable"):
            self._enter(entry, level)
        self._jointree(query.node("jointree"), level)
        if command != "SELECT":
            self._write(query, command, level)
        entries = query.nodes("targetList")
        values = [value(self._reading, level, entry.node("expr")) for entry in entries]
        if query.node("setOperations") is not None:
            values = self._set_operation(query, entries, values, level)
        self._order(query, entries, values, level)
        self._reading.weigh(values)
        if command != "SELECT":
            returned = [value(self._reading, level, entry.node("expr")) for entry in query.nodes("returningList")]
            self._reading.weigh(returned)
            return tuple(returned)
        return tuple(found for entry, found in zip(entries, values, strict=True) if not entry.flag("resjunk"))

    def _jointree(self, node: Node | None, level: Level) -> None:
        if node is None:
            return
        if node.tag in ("FROMEXPR", "JOINEXPR"):
            condition(self._reading, level, node.node("quals"))
            for child in (*node.nodes("fromlist"), *filter(None, (node.node("larg"), node.node("rarg")))):
                self._jointree(child, level)

    def _set_operation(self, query: Node, entries: list[Node], values: list[Value], level: Level) -> list[Value]:
        arms: list[tuple[Value, ...]] = []
        compares = False
        pending = [query.node("setOperations")]
        while pending:
            node = pending.pop()
            if node is None:
                continue
            if node.tag == "RANGETBLREF":
                subquery = level.entry(node.number("rtindex")).node("subquery")
                if subquery is not None:
                    arms.append(self.outputs_of(Level(subquery, level)))
                continue
            compares |= not node.flag("all") or node.text("op") != _UNION
            pending += [node.node("larg"), node.node("rarg")]
        combined = []
        for index, (entry, found) in enumerate(zip(entries, values, strict=True)):
            if entry.flag("resjunk"):
                combined.append(found)
                continue
            parts = [arm[index] if index < len(arm) else derived(arm) for arm in arms]
            both = merged(parts)
            combined.append(both)
            if compares:
                # A row that is in both arms, or in one alone, is as telling as a join of the two.
                use = PredicateUse.JOIN_EQUALITY if both.stored else PredicateUse.COMPARISON
                for place, part in enumerate(parts):
                    self._reading.note(part, use, against=merged(parts[:place] + parts[place + 1 :]))
        return combined

    def _order(self, query: Node, entries: list[Node], values: list[Value], level: Level) -> None:
        """Everything that orders, groups or cuts the rows."""
        reading = self._reading
        by_reference = {entry.text("ressortgroupref"): found for entry, found in zip(entries, values, strict=True)}

        def note(clauses: list[Node], use: PredicateUse) -> None:
            for clause in clauses:
                found = by_reference.get(clause.text("tleSortGroupRef"), NOTHING)
                reading.note(found, use if found.stored else PredicateUse.COMPUTED)

        note(query.nodes("sortClause"), PredicateUse.ORDER)
        note(query.nodes("groupClause"), PredicateUse.GROUP)
        note(query.nodes("distinctClause"), PredicateUse.GROUP)
        for window in query.nodes("windowClause"):
            note(window.nodes("partitionClause"), PredicateUse.COMPUTED)
            note(window.nodes("orderClause"), PredicateUse.COMPUTED)
            for name in ("startOffset", "endOffset"):
                reading.note(value(reading, level, window.node(name)), PredicateUse.COMPUTED)
        condition(reading, level, query.node("havingQual"))
        for name in ("limitCount", "limitOffset"):
            reading.note(value(reading, level, query.node(name)), PredicateUse.COMPUTED)

    # --- writes ---

    def _write(self, query: Node, command: str, level: Level) -> None:
        target = level.entry(query.number("resultRelation"))
        relation = self._relation(target.number("relid"))
        if relation is None:
            return
        self._reading.written |= {relation.oid, *self._underneath(relation)}
        self._writes.read(query, command, relation, level)

    # --- range table entries ---

    def _enter(self, entry: Node, level: Level) -> None:
        """Read an entry for what it does by merely being there."""
        kind = entry.number("rtekind")
        if kind == _RELATION:
            self._relation(entry.number("relid"))
            sample = entry.node("tablesample")
            if sample is not None:
                self._steer_by(sample, level)
        elif kind == _SUBQUERY:
            subquery = entry.node("subquery")
            if subquery is not None:
                self.outputs_of(Level(subquery, level))
        elif kind == _FUNCTION:
            for function in entry.nodes("functions"):
                self._steer_by(function, level)
        elif kind == _TABLEFUNC:
            self._steer_by(entry.node("tablefunc"), level)
        elif kind == _VALUES:
            for item in entry.items("values_lists"):
                cells = [cell for cell in item if isinstance(cell, Node)] if isinstance(item, list) else []
                self._reading.weigh(value(self._reading, level, cell) for cell in cells)
        elif kind not in (_JOIN, _CTE, _RESULT, _GROUP):
            self._reading.problems.add("a source of rows of a kind that is not known")

    def _steer_by(self, node: Node | None, level: Level) -> Value:
        """How many rows a function gives depends on its arguments."""
        if node is None:
            return NOTHING
        found = derived([value(self._reading, level, child) for child in children(node) if child.tag != "ALIAS"])
        self._reading.note(found, PredicateUse.COMPUTED)
        return found

    def column_of(self, level: Level, entry: Node, attribute: int) -> Value:
        """What column `attribute` of a range table entry is made of; 0 is the whole row."""
        kind = entry.number("rtekind")
        if kind == _RELATION:
            return self._relation_column(entry.number("relid"), attribute)
        if kind == _FUNCTION:
            return derived([value(self._reading, level, item.node("funcexpr")) for item in entry.nodes("functions")])
        if kind == _TABLEFUNC:
            return self._steer_by(entry.node("tablefunc"), level)
        columns = self._columns(level, entry, kind)
        if attribute == 0:
            return row(columns())
        found = columns()
        # CTEs with SEARCH or CYCLE have columns beyond their query's: made of all of them.
        return found[attribute - 1] if 1 <= attribute <= len(found) else derived(found)

    def _columns(self, level: Level, entry: Node, kind: int) -> Callable[[], tuple[Value, ...]]:
        reading = self._reading
        subquery = entry.node("subquery")
        if kind == _SUBQUERY and subquery is not None:
            return lambda: self.outputs_of(Level(subquery, level))
        if kind == _JOIN:
            return lambda: tuple(value(reading, level, item) for item in entry.nodes("joinaliasvars"))
        if kind == _GROUP:
            return lambda: tuple(value(reading, level, item) for item in entry.nodes("groupexprs"))
        if kind == _VALUES:
            lists = [item for item in entry.items("values_lists") if isinstance(item, list)]
            return lambda: tuple(
                merged(value(reading, level, cell) for cell in column if isinstance(cell, Node))
                for column in zip(*lists, strict=True)
            )
        if kind == _CTE:
            return lambda: self._cte_columns(level, entry)
        reading.problems.add("a source of rows of a kind that is not known")
        return lambda: ()

    def _cte_columns(self, level: Level, entry: Node) -> tuple[Value, ...]:
        home, name = level.above(entry.number("ctelevelsup")), entry.text("ctename")
        for cte in home.query.nodes("cteList"):
            if cte.text("ctename") == name:
                return self._cte(cte, home)
        raise LookupError("a reference to no common table expression")

    def _cte(self, cte: Node, home: Level) -> tuple[Value, ...]:
        query = cte.node("ctequery")
        if query is None:
            raise LookupError("a common table expression without its query")
        level = Level(query, home)
        if not cte.flag("cterecursive"):
            return self.outputs_of(level)
        if id(cte) in self._rounds:
            return self._rounds[id(cte)]
        if id(query) in self._known:
            return self._known[id(query)]
        return self._fixed_point(cte, level)

    def _cycle(self, cte: Node, columns: tuple[Value, ...]) -> None:
        """CYCLE ends the recursion where a row was there before: its columns are compared with one another."""
        clause = cte.node("cycle_clause")
        if clause is None:
            return
        names = cte.items("ctecolnames")
        for name in clause.items("cycle_col_list"):
            at = names.index(name) if name in names else len(columns)
            found = columns[at] if at < len(columns) else derived(columns)
            self._reading.note(found, PredicateUse.GROUP if found.stored else PredicateUse.COMPUTED)

    def _fixed_point(self, cte: Node, level: Level) -> tuple[Value, ...]:
        """Read a recursive CTE until its columns' origins no longer grow. Origins only ever grow, so it ends."""
        current = (BOTTOM,) * len(visible_entries(level.query))
        nodes = [id(node) for node in walk(level.query) if node.tag == "QUERY"]
        for _ in range(MAX_ROUNDS):
            self._rounds[id(cte)] = current
            for node in nodes:
                self._known.pop(node, None)
            found = self.outputs_of(level)
            if found == current:
                break
            current = found
        else:
            self._reading.problems.add("a recursive query whose columns do not settle")
        del self._rounds[id(cte)]
        return current

    # --- relations ---

    def _relation(self, oid: int) -> Relation | None:
        relation = self._reading.catalogue.relations.get(oid)
        if relation is None:
            self._reading.problems.add("a relation the catalogue does not know yet")
            return None
        if not self._reading.inside_view:
            self._reading.relations.add(oid)
        self._reading.beneath |= {oid, *self._reading.catalogue.family.get(oid, ())}
        self._reading.sized |= {origin.column for origin in self._reading.filled(oid)}
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
            self._view(relation)
        return relation

    def _is_foreign(self, oid: int) -> bool:
        relation = self._reading.catalogue.relations.get(oid)
        return relation is not None and relation.kind == "f"

    def _relation_column(self, oid: int, attribute: int) -> Value:
        relation = self._relation(oid)
        if relation is None:
            return NOTHING
        if attribute == 0:
            return row(self._relation_column(oid, number) for number in sorted(relation.columns))
        if not self._reading.inside_view:
            self._reading.visited.add((oid, attribute))
        ref = relation.column_ref(attribute)
        if ref is None:
            self._reading.problems.add("a column the catalogue does not know yet")
            return NOTHING
        if attribute > 0 and relation.kind in ("v", "m") and not relation.is_system:
            return self._view_column(relation, attribute)
        columns = {ref, *self._relatives(relation, ref.column)}
        if not self._reading.inside_view:
            self._reading.reads |= columns
        # A system catalogue shows settings and statements a client may have written: never a partner of a free join.
        found = stored(columns, joinable=not relation.is_system)
        if attribute < 0 or _tells_sizes(relation, ref.column):
            # Where a row lies (ctid) is where those before it end.
            found = replace(found, origins=found.origins | self._reading.filled(oid if attribute < 0 else None))
        made_of = relation.columns[attribute].made_of if attribute > 0 else ()
        if made_of:
            found = replace(found, origins=found.origins | self._computed_from(oid, made_of))
        return self._with_inherited(found, (oid, attribute))

    def _computed_from(self, oid: int, attributes: Iterable[int]) -> frozenset[Origin]:
        """A generated column tells of the columns it is computed from."""
        return derived(self._relation_column(oid, attribute) for attribute in attributes).origins

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
        return replace(found, origins=found.origins | inherited, stored=found.stored and not computed)

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
        columns = self._view(relation)
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
        return replace(found, origins=found.origins | {Origin(ref, Transform.IDENTITY)})

    def _view(self, relation: Relation) -> tuple[Value, ...]:
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
            query = _single_query(read_tree(relation.definition))
            known = self.outputs_of(Level(query))
            collect_functions(self._reading, query)
        finally:
            self._reading.inside_view -= 1
            self._reading.inside_authored -= authored
            self._expanding.discard(relation.oid)
        self._views[relation.oid] = known
        self._pinned.append(query)
        return known

    def _underneath(self, relation: Relation) -> set[int]:
        """The tables an automatically updatable view writes to: all it reads from, to be safe."""
        if relation.kind not in ("v", "m") or relation.definition is None:
            return set()
        found: set[int] = set()
        for node in walk(read_tree(relation.definition)):
            if node.tag == "RANGETBLENTRY" and node.number("rtekind") == _RELATION:
                below = self._reading.catalogue.relations.get(node.number("relid"))
                if below is not None and below.oid != relation.oid and below.oid not in found:
                    found |= {below.oid, *self._underneath(below)}
        return found
