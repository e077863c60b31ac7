"""Deterministic facts about a statement, read off its stored tree. Unknown is the dangerous value."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.catalogue import Catalogue
from analysis.nodes import Node, children, plain_var, walk
from analysis.query_nodes import visible_entries
from analysis.rows import collects_rows, is_another_each_time, row_bound
from analysis.statement import Facts

_RELATION, _SUBQUERY = 0, 1  # RTEKind (parsenodes.h)
_MERGE = 5  # CmdType
_NOT_BY_SOURCE = "1"  # MergeMatchKind
_VALUE_SUBLINKS = ("4", "5", "6")  # SubLinkType: EXPR, MULTIEXPR, ARRAY
MAX_GROUP_KEYS = 2


def read_facts(query: Node, catalogue: Catalogue) -> Facts:
    returns = query.number("commandType") == 1 or bool(query.nodes("returningList"))
    collects = collects_rows(query, catalogue)
    return Facts(
        no_where=no_where(query, catalogue),
        row_bound=row_bound(query, catalogue, collects=collects) if returns else 0,
        collects=returns and collects,
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
    if command == _MERGE:
        return any(_acts_on_all(action, query, catalogue) for action in query.nodes("mergeActionList"))
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


def _acts_on_all(action: Node, query: Node, catalogue: Catalogue) -> bool:
    """Whether a WHEN of MERGE changes or deletes rows without a condition on them.

    WHEN NOT MATCHED BY SOURCE takes those the join leaves out: its condition excludes none but the ones it finds.
    """
    if action.number("commandType") not in (2, 4) or restricts(action.node("qual"), catalogue, query):
        return False
    joined = query.node("mergeJoinCondition") or _quals(query)  # the latter before version 17
    return action.text("matchKind") == _NOT_BY_SOURCE or not restricts(joined, catalogue, query)


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
        sides = [plain_var(argument) for argument in quals.nodes("args")]
        return not (len(sides) == 2 and sides[0] is not None and sides[0] == sides[1])
    if quals.tag == "NULLTEST":
        return not _is_never_null(quals, catalogue, query)
    return True


def _is_never_null(test: Node, catalogue: Catalogue, query: Node) -> bool:
    key = plain_var(test.node("arg") or test)
    if key is None or test.text("nulltesttype") != "1" or key[2] != "0":
        return False
    entries = query.nodes("rtable")
    relation = (
        catalogue.relations.get(entries[int(key[0]) - 1].number("relid")) if int(key[0]) <= len(entries) else None
    )
    column = relation.columns.get(int(key[1])) if relation is not None else None
    return column is not None and column.not_null


# --- aggregates ---------------------------------------------------------------------------------------------------


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
    """Whether a group key may be another one for each row: a unique column, what is made of one, a row's own place."""
    if node is None:
        return False
    return any(
        _is_unique_column(part, query, catalogue) if part.tag == "VAR" else is_another_each_time(part, catalogue)
        for part in walk(node)
    )


def _is_unique_column(var: Node, query: Node, catalogue: Catalogue) -> bool:
    key = plain_var(var)
    if key is None or key[2] != "0":
        return True
    entries = query.nodes("rtable")
    if not 1 <= int(key[0]) <= len(entries):
        return True
    entry = entries[int(key[0]) - 1]
    if entry.number("rtekind") == 9:  # RTE_GROUP: the key is the expression behind it
        expressions = entry.nodes("groupexprs")
        index = int(key[1]) - 1
        return _is_unique(expressions[index], query, catalogue) if 0 <= index < len(expressions) else True
    relation = catalogue.relations.get(entry.number("relid"))
    return relation is None or int(key[1]) <= 0 or any(int(key[1]) in unique for unique in relation.unique_keys)
