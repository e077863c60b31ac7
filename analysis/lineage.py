"""Walk a statement's stored tree once: where every output comes from, what is read, what is written.

The tree is the database's own resolution, so no name is ever looked up here: a `Var` is a range table entry and an
attribute number. What remains is to follow entries to stored columns: subqueries, CTEs (recursive ones to a fixed
point), joins, set operations by position, views through their own stored trees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from analysis.bodies import read_body
from analysis.calls import collect_functions
from analysis.catalogue import Catalogue
from analysis.expressions import condition, value
from analysis.making import quickly_made
from analysis.nodes import Node, TreeError, children, read_tree, walk
from analysis.query_nodes import (
    COMMANDS,
    CTE,
    FUNCTION,
    GROUP,
    JOIN,
    RELATION,
    RESULT,
    SUBQUERY,
    TABLEFUNC,
    UNION,
    VALUES,
    single_query,
    visible_entries,
)
from analysis.relations import Relations
from analysis.scope import BOTTOM, NOTHING, Level, Reading, Value, derived, merged, row
from analysis.statement import Output, PredicateUse
from analysis.writes import Writes

MAX_ROUNDS = 20
_MOMENT = 1184  # timestamptz (pg_type.dat)


@quickly_made
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
    query = single_query(read_tree(tree))
    reading = Reading(catalogue)
    reading.trees.append(query)
    _Walker(reading)
    reading.body_of = partial(read_body, catalogue=catalogue, read_lineage=read_lineage, depth=depth)
    level = Level(query)
    try:
        values = reading.outputs_of(level)
        collect_functions(reading, query)
    except (LookupError, RecursionError) as error:
        raise TreeError(f"the statement's tree cannot be followed: {type(error).__name__}") from error
    finally:
        # The walker and its reading know each other: kept so, each statement's whole tree would wait for the collector,
        # which halts every session to find it.
        del reading.outputs_of, reading.column_of, reading.body_of
    return Lineage(query, reading, _outputs(reading, query, values))


def _outputs(reading: Reading, query: Node, values: tuple[Value, ...]) -> tuple[Output, ...] | None:
    if query.number("commandType") != 1 and not query.nodes("returningList"):
        return None
    entries = visible_entries(query)
    return tuple(
        Output(
            entry.text("resname"), tuple(sorted(found.origins)), mixed=found.mixed or not reading.is_one_column([found])
        )
        for entry, found in zip(entries, values, strict=True)
    )


def _converted(arm: Node, values: tuple[Value, ...], combined: list[Node]) -> tuple[Value, ...]:
    """The columns of a set operation's arm as they come out of it.

    The planner converts them to the common type: nothing in the tree says so, and to a moment (timestamptz) by the
    session's TimeZone, which whoever asks may choose for what it makes of a day.
    """
    pairs = zip(values, visible_entries(arm), combined, strict=False)
    made = tuple(
        derived([found]) if found.discloses and _type_of_column(whole) == _MOMENT != _type_of_column(entry) else found
        for found, entry, whole in pairs
    )
    return made + values[len(made) :]


def _type_of_column(entry: Node) -> int:
    """Of a column that is shown as some entry of FROM has it; 0 for any other."""
    expression = entry.node("expr")
    return expression.number("vartype") if expression is not None and expression.tag == "VAR" else 0


class _Walker:
    """Answers for queries and range table entries, remembering each query it has read."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._known: dict[int, tuple[Value, ...]] = {}  # by id of the Query node
        self._rounds: dict[int, tuple[Value, ...]] = {}  # recursive CTEs under way
        self._relations = Relations(reading)
        self._writes = Writes(reading, self._relations.view)
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
                    arms.append(_converted(subquery, self.outputs_of(Level(subquery, level)), entries))
                continue
            compares |= not node.flag("all") or node.text("op") != UNION
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
        relation = self._relations.relation(target.number("relid"))
        if relation is None:
            return
        targets = {relation.oid, *self._relations.underneath(relation)}
        self._reading.written |= targets
        self._writes.read(query, command, relation, level, targets)

    # --- range table entries ---

    def _enter(self, entry: Node, level: Level) -> None:
        """Read an entry for what it does by merely being there."""
        kind = entry.number("rtekind")
        if kind == RELATION:
            self._relations.relation(entry.number("relid"))
            sample = entry.node("tablesample")
            if sample is not None:
                self._steer_by(sample, level)
        elif kind == SUBQUERY:
            subquery = entry.node("subquery")
            if subquery is not None:
                self.outputs_of(Level(subquery, level))
        elif kind == FUNCTION:
            for function in entry.nodes("functions"):
                self._steer_by(function, level)
        elif kind == TABLEFUNC:
            self._steer_by(entry.node("tablefunc"), level)
        elif kind == VALUES:
            for item in entry.items("values_lists"):
                cells = [cell for cell in item if isinstance(cell, Node)] if isinstance(item, list) else []
                self._reading.weigh(value(self._reading, level, cell) for cell in cells)
        elif kind not in (JOIN, CTE, RESULT, GROUP):
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
        if kind == RELATION:
            return self._relations.column(entry.number("relid"), attribute)
        if kind == FUNCTION:
            return derived([value(self._reading, level, item.node("funcexpr")) for item in entry.nodes("functions")])
        if kind == TABLEFUNC:
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
        if kind == SUBQUERY and subquery is not None:
            return lambda: self.outputs_of(Level(subquery, level))
        if kind == JOIN:
            return lambda: tuple(value(reading, level, item) for item in entry.nodes("joinaliasvars"))
        if kind == GROUP:
            return lambda: tuple(value(reading, level, item) for item in entry.nodes("groupexprs"))
        if kind == VALUES:
            lists = [item for item in entry.items("values_lists") if isinstance(item, list)]
            return lambda: tuple(
                merged(value(reading, level, cell) for cell in column if isinstance(cell, Node))
                for column in zip(*lists, strict=True)
            )
        if kind == CTE:
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
