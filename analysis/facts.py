"""Deterministic facts about a statement, read off its stored tree. Unknown is the dangerous value."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.catalogue import Catalogue
from analysis.functions import COLLECTING
from analysis.lineage import visible_entries
from analysis.nodes import Node, children, walk
from analysis.statement import Facts
from analysis.words import words

_RELATION, _SUBQUERY, _FUNCTION, _VALUES, _CTE, _RESULT = 0, 1, 3, 5, 6, 8  # RTEKind (parsenodes.h)
_INNER = 0  # JoinType
_ARRAY_SUBLINK = "6"
_VALUE_SUBLINKS = ("4", "5", "6")  # EXPR, MULTIEXPR, ARRAY
_INTEGERS = {"20": 8, "21": 2, "23": 4}
MAX_GROUP_KEYS = 2


def read_facts(query: Node, catalogue: Catalogue) -> Facts:
    returns = query.number("commandType") == 1 or bool(query.nodes("returningList"))
    collects = collects_rows(query, catalogue)
    bound = None if collects else row_bound(query, catalogue)
    return Facts(
        no_where=no_where(query, catalogue),
        row_bound=bound if returns else 0,
        aggregated=returns and not collects and is_aggregated(query, catalogue),
    )


# --- no WHERE --------------------------------------------------------------------------------------------------------


def no_where(query: Node, catalogue: Catalogue) -> bool:
    """Whether any part of the statement takes the rows of a user table without a condition on them."""
    return any(_takes_all(node, catalogue) for node in _row_sources(query)) and not _restricted_from_above(
        query, catalogue
    )


def _row_sources(query: Node) -> Iterator[Node]:
    """The queries whose rows reach the result or are changed: not those that IN and EXISTS only look into."""
    pending: list[Node] = [query]
    while pending:
        node = pending.pop()
        if node.tag == "QUERY":
            yield node
        if node.tag != "SUBLINK" or node.text("subLinkType") in _VALUE_SUBLINKS:
            pending.extend(children(node))


def _restricted_from_above(query: Node, catalogue: Catalogue) -> bool:
    """`SELECT … FROM (SELECT … FROM patients) p WHERE p.id = 1` restricts what its plain subquery takes."""
    if query.number("commandType") != 1 or query.nodes("cteList") or query.node("setOperations") is not None:
        return False
    if not restricts(_quals(query), catalogue, query):
        return False
    inside = {id(e.node("subquery")) for e in query.nodes("rtable") if e.number("rtekind") == _SUBQUERY}
    return not any(
        node is not query and id(node) not in inside and _takes_all(node, catalogue) for node in _row_sources(query)
    )


def _takes_all(query: Node, catalogue: Catalogue) -> bool:
    command = query.number("commandType")
    if command not in (1, 2, 4):
        return False
    targets = [
        entry
        for entry in query.nodes("rtable")
        if entry.number("rtekind") == _RELATION and _is_user_table(entry, catalogue) and entry.flag("inFromCl")
    ]
    if command in (2, 4):
        return not restricts(_quals(query), catalogue, query)
    return bool(targets) and not restricts(_quals(query), catalogue, query)


def _is_user_table(entry: Node, catalogue: Catalogue) -> bool:
    relation = catalogue.relations.get(entry.number("relid"))
    return relation is None or not relation.is_system


def _quals(query: Node) -> Node | None:
    jointree = query.node("jointree")
    return jointree.node("quals") if jointree is not None else None


def restricts(quals: Node | None, catalogue: Catalogue, query: Node) -> bool:  # noqa: PLR0911
    """Whether a condition can exclude a row: false for `true`, `1 = 1`, `id = id`, `id IS NOT NULL` of a key."""
    if quals is None:
        return False
    if quals.tag == "BOOLEXPR":
        arguments = quals.nodes("args")
        if quals.text("boolop") == "and":
            return any(restricts(argument, catalogue, query) for argument in arguments)
        return all(restricts(argument, catalogue, query) for argument in arguments)
    if quals.tag == "CURRENTOFEXPR":
        return True
    if not any(node.tag == "VAR" for node in walk(quals)):
        return False
    if quals.tag in ("OPEXPR", "DISTINCTEXPR"):
        sides = [_plain_var(argument) for argument in quals.nodes("args")]
        return not (len(sides) == 2 and sides[0] is not None and sides[0] == sides[1])
    if quals.tag == "NULLTEST":
        return not _is_never_null(quals, catalogue, query)
    return True


def _plain_var(node: Node) -> tuple[str, ...] | None:
    while node.tag == "RELABELTYPE" and (below := node.node("arg")) is not None:
        node = below
    if node.tag != "VAR":
        return None
    return tuple(node.text(name) for name in ("varno", "varattno", "varlevelsup"))


def _is_never_null(test: Node, catalogue: Catalogue, query: Node) -> bool:
    key = _plain_var(test.node("arg") or test)
    if key is None or test.text("nulltesttype") != "1" or key[2] != "0":
        return False
    entries = query.nodes("rtable")
    relation = (
        catalogue.relations.get(entries[int(key[0]) - 1].number("relid")) if int(key[0]) <= len(entries) else None
    )
    column = relation.columns.get(int(key[1])) if relation is not None else None
    return column is not None and column.not_null


# --- how many rows ---------------------------------------------------------------------------------------------------


def row_bound(query: Node, catalogue: Catalogue) -> int | None:
    """A proven upper bound of the result's rows, None when there is none."""
    limit = _constant(query.node("limitCount")) if query.text("limitOption") in ("0", "1") else None
    if query.text("limitOption") == "1":  # WITH TIES
        limit = None
    return _least(limit, _unlimited_bound(query, catalogue))


def _unlimited_bound(query: Node, catalogue: Catalogue) -> int | None:
    if query.node("setOperations") is not None:
        return _arms_bound(query, catalogue)
    if query.flag("hasTargetSRFs"):
        return None
    aggregates = query.flag("hasAggs") or query.node("havingQual") is not None
    if aggregates and not query.nodes("groupClause") and not query.nodes("groupingSets"):
        return 1
    if query.nodes("groupingSets"):
        return None
    jointree = query.node("jointree")
    if jointree is None or query.number("commandType") in (3, 5):
        return _insert_bound(query, catalogue)
    return _from_bound(jointree, query, catalogue)


def _insert_bound(query: Node, catalogue: Catalogue) -> int | None:
    if query.number("commandType") != 3:
        return None
    sources = [entry for entry in query.nodes("rtable") if entry.number("rtekind") in (_SUBQUERY, _VALUES)]
    if not sources:
        return 1
    return _entry_bound(sources[0], query, catalogue) if len(sources) == 1 else None


def _arms_bound(query: Node, catalogue: Catalogue) -> int | None:
    total = 0
    for entry in query.nodes("rtable"):
        subquery = entry.node("subquery")
        bound = row_bound(subquery, catalogue) if subquery is not None else None
        if bound is None:
            return None
        total += bound
    return total


def _from_bound(jointree: Node, query: Node, catalogue: Catalogue) -> int | None:
    """The product over the FROM list, where a unique key fixed by constants or by bounded tables leaves one row."""
    equalities = _equalities(query)
    indexes = _from_indexes(jointree, query)
    if indexes is None:
        return None
    bounds: dict[int, int | None] = {}
    progress = True
    while progress:
        progress = False
        for index in indexes:
            if bounds.get(index) is None:
                bounds[index] = _index_bound(index, query, catalogue, equalities, bounds)
                progress |= bounds[index] is not None
    total = 1
    for index in indexes:
        bound = bounds[index]
        if bound is None:
            return None
        total *= max(bound, 1)  # a left join keeps its row where the other side has none
    return total


def _from_indexes(jointree: Node, query: Node) -> list[int] | None:
    """The range table entries the FROM clause multiplies. Outer joins only add NULLs to rows counted already…"""
    found: list[int] = []
    pending = [jointree]
    while pending:
        node = pending.pop()
        if node.tag == "RANGETBLREF":
            found.append(node.number("rtindex"))
        elif node.tag == "FROMEXPR":
            pending += node.nodes("fromlist")
        elif node.tag == "JOINEXPR" and node.text("jointype") in ("0", "1"):
            pending += [part for part in (node.node("larg"), node.node("rarg")) if part is not None]
        else:
            return None  # … but RIGHT and FULL joins keep rows that no equality of WHERE reaches
    return found


def _index_bound(
    index: int,
    query: Node,
    catalogue: Catalogue,
    equalities: list[tuple[tuple[int, int], set[int]]],
    bounds: dict[int, int | None],
) -> int | None:
    entry = query.nodes("rtable")[index - 1]
    bound = _entry_bound(entry, query, catalogue)
    relation = catalogue.relations.get(entry.number("relid")) if entry.number("rtekind") == _RELATION else None
    if bound is not None or relation is None or relation.children or relation.kind not in ("r", "p"):
        return bound
    fixed = {
        column
        for (owner, column), needs in equalities
        if owner == index and all(bounds.get(n) is not None for n in needs)
    }
    return 1 if any(key <= fixed for key in relation.unique_keys) else None


def _entry_bound(entry: Node, query: Node, catalogue: Catalogue) -> int | None:
    kind = entry.number("rtekind")
    if kind == _RESULT:
        return 1
    if kind == _VALUES:
        return len(entry.items("values_lists"))
    subquery = entry.node("subquery")
    if kind == _SUBQUERY and subquery is not None:
        return row_bound(subquery, catalogue)
    if kind == _CTE and entry.text("ctelevelsup") == "0" and not entry.flag("self_reference"):
        for cte in query.nodes("cteList"):
            inner = cte.node("ctequery")
            if cte.text("ctename") == entry.text("ctename") and inner is not None and not cte.flag("cterecursive"):
                return row_bound(inner, catalogue)
    if kind == _FUNCTION and not any(n.flag("funcretset") for n in walk(entry) if n.tag == "FUNCEXPR"):
        return 1
    return None


def _equalities(query: Node) -> list[tuple[tuple[int, int], set[int]]]:
    """Conjuncts `column = something`: the column, and the entries whose columns that something needs.

    Only WHERE and the conditions of inner and left joins hold for the row they are about: the right side of a left
    join has no row at all where they fail, which is fewer, not more.
    """
    found: list[tuple[tuple[int, int], set[int]]] = []
    for conjunct, scope in _conjuncts(query):
        arguments = conjunct.nodes("args")
        if conjunct.tag != "OPEXPR" or len(arguments) != 2 or not _is_equality(conjunct):
            continue
        for column, other in (arguments, arguments[::-1]):
            key = _plain_var(column)
            if key is None or key[2] != "0" or any(n.tag in ("SUBLINK", "AGGREF") for n in walk(other)):
                continue
            if scope is None or int(key[0]) in scope:
                found.append(((int(key[0]), int(key[1])), _needs(other)))
    return found


def _needs(node: Node) -> set[int]:
    return {n.number("varno") for n in walk(node) if n.tag == "VAR" and n.text("varlevelsup") == "0"}


# Built-in equality operators of the usual key types (pg_operator.dat): int2/4/8 among each other, text, uuid, date …
_EQUALITY = words(
    """
    15 94 96 98 254 352 385 410 416 532 533 607 620 670 1054 1093 1108 1120 1130 1320 1330 1550 1752 1804 2060
    2345 2358 2371 2384 2534 2547 2972 93
    """
)


def _is_equality(node: Node) -> bool:
    return node.text("opno") in _EQUALITY


def _conjuncts(query: Node) -> list[tuple[Node, frozenset[int] | None]]:
    """Every conjunct of WHERE and ON, with the entries it holds for (None: all).

    ON of a left join says nothing about the rows of its left side: they appear whether it holds or not.
    """
    found: list[tuple[Node, frozenset[int] | None]] = []
    jointree = query.node("jointree")
    pending: list[tuple[Node, frozenset[int] | None]] = [(jointree, None)] if jointree is not None else []
    while pending:
        node, scope = pending.pop()
        if node.tag in ("FROMEXPR", "JOINEXPR"):
            left_join = node.tag == "JOINEXPR" and node.text("jointype") != "0"
            right = _indexes_in(node.node("rarg")) if left_join else None
            inner = scope if right is None else right if scope is None else right & scope
            below = [(part, scope) for part in (*node.nodes("fromlist"), node.node("larg")) if part is not None]
            below += [(part, inner) for part in (node.node("rarg"), node.node("quals")) if part is not None]
            pending += below
        elif node.tag == "BOOLEXPR" and node.text("boolop") == "and":
            pending += [(part, scope) for part in node.nodes("args")]
        else:
            found.append((node, scope))
    return found


def _indexes_in(node: Node | None) -> frozenset[int]:
    return frozenset(item.number("rtindex") for item in walk(node) if item.tag == "RANGETBLREF")


def _constant(node: Node | None) -> int | None:
    """The value of an integer literal, through the cast to bigint that LIMIT puts around it."""
    while node is not None and node.tag == "FUNCEXPR" and node.text("funcid") == "481" and node.nodes("args"):
        node = node.nodes("args")[0]
    if node is None or node.tag != "CONST" or node.flag("constisnull"):
        return None
    width = _INTEGERS.get(node.text("consttype"))
    data = node.items("constvalue")
    if width is None or len(data) < width:
        return None
    raw = bytes(int(item) & 0xFF for item in data[:width] if isinstance(item, str))
    return max(0, int.from_bytes(raw, "little", signed=True))


def _least(first: int | None, second: int | None) -> int | None:
    known = [bound for bound in (first, second) if bound is not None]
    return min(known) if known else None


# --- aggregates ------------------------------------------------------------------------------------------------------


def collects_rows(query: Node, catalogue: Catalogue) -> bool:
    """Whether one result row may carry many: string_agg, json_agg, ARRAY(SELECT …)."""
    for node in walk(query):
        if node.tag == "SUBLINK" and node.text("subLinkType") == _ARRAY_SUBLINK:
            return True
        if node.tag in ("AGGREF", "WINDOWFUNC"):
            function = catalogue.functions.get(node.number("aggfnoid") or node.number("winfnoid"))
            if function is None or not function.is_builtin or function.name in COLLECTING:
                return True
    return False


def is_aggregated(query: Node, catalogue: Catalogue) -> bool:
    """Every output is an aggregate or one of at most two group keys, none of which is unique: a table of counts."""
    if query.number("commandType") != 1 or not query.flag("hasAggs") or query.node("setOperations") is not None:
        return False
    keys = {clause.text("tleSortGroupRef") for clause in query.nodes("groupClause")}
    if len(keys) > MAX_GROUP_KEYS:
        return False
    for entry in query.nodes("targetList"):
        if entry.text("ressortgroupref") in keys and _is_unique(entry.node("expr"), query, catalogue):
            return False
    return bool(visible_entries(query))


def _is_unique(node: Node | None, query: Node, catalogue: Catalogue) -> bool:
    key = _plain_var(node) if node is not None else None
    if key is None:
        return False
    entries = query.nodes("rtable")
    if not 1 <= int(key[0]) <= len(entries):
        return True
    entry = entries[int(key[0]) - 1]
    if entry.number("rtekind") == 9:  # RTE_GROUP: the key is the expression behind it
        expressions = entry.nodes("groupexprs")
        index = int(key[1]) - 1
        return _is_unique(expressions[index], query, catalogue) if 0 <= index < len(expressions) else True
    relation = catalogue.relations.get(entry.number("relid"))
    return relation is None or any(int(key[1]) in unique for unique in relation.unique_keys)
