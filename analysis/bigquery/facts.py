"""Deterministic facts about a query, read off sqlglot's tree. Unknown is the dangerous value.

BigQuery enforces no keys, so nothing but LIMIT, an aggregate over everything or a written-out array bounds rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from analysis.bigquery.names import INFORMATION_SCHEMA
from analysis.bigquery.reading import Reading
from analysis.facts import MAX_GROUP_KEYS
from analysis.statement import Facts

_ENDINGS = ("id", "key", "uuid", "guid", "mrn", "number", "code")  # how columns are called that tell rows apart


def query_facts(tree: exp.Expr | None, reading: Reading) -> Facts:
    if tree is None:
        return Facts(no_where=True)
    return Facts(
        no_where=no_where(tree, reading),
        row_bound=None if reading.collects else row_bound(tree),
        collects=reading.collects,
        aggregated=not reading.collects and _is_aggregated(tree),
    )


# --- rows ------------------------------------------------------------------------------------------------------------


def row_bound(node: exp.Expr) -> int | None:
    """A proven upper bound of the rows a query returns, None when there is none."""
    return _least(_limit(node), _unlimited(node))


def _limit(node: exp.Expr) -> int | None:
    limit = node.args.get("limit")
    count = limit.expression if isinstance(limit, exp.Limit) else None
    return int(count.name) if isinstance(count, exp.Literal) and count.name.isdigit() else None


def _unlimited(node: exp.Expr) -> int | None:  # noqa: PLR0911, one line a kind of query
    if isinstance(node, exp.Subquery):
        return row_bound(node.this)
    if isinstance(node, exp.Except):
        return row_bound(node.this)
    if isinstance(node, exp.SetOperation):
        arms = (row_bound(node.this), row_bound(node.expression))
        if isinstance(node, exp.Intersect):
            return _least(*arms)
        return None if arms[0] is None or arms[1] is None else arms[0] + arms[1]
    if not isinstance(node, exp.Select):
        return None
    if _aggregates(node) and node.args.get("group") is None:
        return 1
    return _source_bound(node)


def _source_bound(node: exp.Select) -> int | None:
    source = node.args.get("from_")
    if source is None:
        return 1
    if node.args.get("joins"):
        return None
    found = source.this
    if isinstance(found, exp.Subquery) and not found.args.get("pivots") and not isinstance(found.this, exp.Table):
        return row_bound(found)
    if isinstance(found, exp.Unnest) and len(found.expressions) == 1 and isinstance(found.expressions[0], exp.Array):
        items = found.expressions[0].expressions
        return None if any(isinstance(item, exp.Query) for item in items) else len(items)
    return None


def _aggregates(node: exp.Select) -> bool:
    if node.args.get("having") is not None:
        return True
    return any(_own_aggregate(item) for item in node.expressions)


def _own_aggregate(item: exp.Expr) -> bool:
    """Whether the aggregate is this query's own: not a window function, not a subquery's."""
    pending = [item]
    while pending:
        node = pending.pop()
        if isinstance(node, exp.AggFunc):
            return True
        if isinstance(node, (exp.Window, exp.Query, exp.Subquery)):
            continue
        pending += node.iter_expressions()
    return False


def _least(first: int | None, second: int | None) -> int | None:
    known = [bound for bound in (first, second) if bound is not None]
    return min(known) if known else None


def _is_aggregated(node: exp.Expr) -> bool:
    """Every output is an aggregate or one of few group keys, none named as what tells rows apart."""
    if not isinstance(node, exp.Select) or not _aggregates(node):
        return False
    plain = [item for item in node.expressions if not _own_aggregate(item)]
    names = [column.name.lower() for item in plain for column in item.find_all(exp.Column)]
    if any(isinstance(item, exp.Star) for item in plain) or any(name.endswith(_ENDINGS) for name in names):
        return False
    group = node.args.get("group")
    keys = (
        []
        if group is None
        else [key for part in group.args.values() for key in (part if isinstance(part, list) else [])]
    )
    return len(plain) <= MAX_GROUP_KEYS and len(keys) <= MAX_GROUP_KEYS


# --- no WHERE --------------------------------------------------------------------------------------------------------


def no_where(tree: exp.Expr, reading: Reading) -> bool:
    """Whether any part of the query takes the rows of a stored table without a condition on them."""
    names = {cte.alias.lower() for cte in tree.find_all(exp.CTE)} | set(reading.local_tables)
    taking = [node for node in _row_sources(tree) if _takes_all(node, names)]
    if not taking:
        return False
    return not _restricted_from_above(tree, taking)


def _row_sources(tree: exp.Expr) -> Iterator[exp.Select]:
    """The queries whose rows reach the result: not those that IN and EXISTS only look into."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, exp.Select):
            yield node
        if not isinstance(node, (exp.In, exp.Exists)):
            pending += node.iter_expressions()


def _takes_all(node: exp.Select, names: set[str]) -> bool:
    source = node.args.get("from_")
    if source is None:
        return False
    sources = [source.this, *(join.this for join in node.args.get("joins") or [])]
    stored = any(_is_stored(item, names) for item in sources)
    where = node.args.get("where")
    return stored and not restricts(where.this if where is not None else None)


def _is_stored(item: exp.Expr, names: set[str]) -> bool:
    if isinstance(item, exp.Subquery) and isinstance(item.this, exp.Table):
        item = item.this
    if not isinstance(item, exp.Table):
        return False
    if item.args.get("db") is None and item.name.lower() in names:
        return False
    return INFORMATION_SCHEMA not in ".".join(part.name for part in item.parts).upper()


def _restricted_from_above(tree: exp.Expr, taking: list[exp.Select]) -> bool:
    """`SELECT … FROM (SELECT … FROM patients) p WHERE p.id = 1` restricts what its plain subquery takes."""
    if not isinstance(tree, exp.Select) or tree.args.get("with_") is not None:
        return False
    where = tree.args.get("where")
    if not restricts(where.this if where is not None else None):
        return False
    clause = tree.args.get("from_")
    source = clause.this if clause is not None else None
    inside = [source.this] if isinstance(source, exp.Subquery) and not tree.args.get("joins") else []
    return all(any(node is inner for inner in inside) for node in taking)


def restricts(node: exp.Expr | None) -> bool:
    """Whether a condition can exclude a row: false for `true`, `1 = 1`, `id = id`, `id IS NOT NULL`."""
    while isinstance(node, exp.Paren):
        node = node.this
    if node is None or node.find(exp.Column) is None:
        return False
    if isinstance(node, exp.And):
        return restricts(node.left) or restricts(node.right)
    if isinstance(node, exp.Or):
        return restricts(node.left) and restricts(node.right)
    if isinstance(node, (exp.EQ, exp.NullSafeEQ, exp.GTE, exp.LTE)):
        return bool(node.left != node.right)
    return not (isinstance(node, exp.Not) and isinstance(node.this, exp.Is))
