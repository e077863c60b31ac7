"""What PostgreSQL calls things in the trees of queries, and how a query's node is found and looked at."""

from __future__ import annotations

from analysis.nodes import Node, TreeError

RELATION, SUBQUERY, JOIN, FUNCTION, TABLEFUNC, VALUES, CTE = range(7)  # RTEKind (parsenodes.h)
RESULT, GROUP = 8, 9
UNION = "1"  # SetOperation
COMMANDS = {1: "SELECT", 2: "UPDATE", 3: "INSERT", 4: "DELETE", 5: "MERGE"}  # CmdType


def single_query(found: object) -> Node:
    while isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, Node) or found.tag != "QUERY":
        raise TreeError("expected exactly one statement")
    return found


def visible_entries(query: Node) -> list[Node]:
    """The target entries a client sees: RETURNING of a write, else the target list without its junk."""
    name = "targetList" if query.number("commandType") == 1 else "returningList"
    return [entry for entry in query.nodes(name) if not entry.flag("resjunk")]
