"""Queries of GoogleSQL: what each column of their result is made of ("Query syntax").

One SELECT after the other, innermost first; CTEs by name (recursive ones to a fixed point), set operations by position
or by name, stars expanded as the service expands them. Clauses are an allow-list: one that is not known is a problem.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from analysis.bigquery.expressions import condition, value, window_parts
from analysis.bigquery.items import output_name, star_of
from analysis.bigquery.reading import Reading, Rows, Scope
from analysis.bigquery.relations import enter
from analysis.scope import BOTTOM, NOTHING, Value, derived, merged
from analysis.statement import PredicateUse

MAX_ROUNDS = 20
Columns = tuple[tuple[str, Value], ...]

_SELECT_CLAUSES = frozenset(
    {"with_", "kind", "distinct", "expressions", "from_", "joins", "where", "group", "having", "qualify", "windows",
     "order", "limit", "offset", "operation_modifiers"}
)  # fmt: skip
_SET_CLAUSES = frozenset(
    {"with_", "this", "expression", "distinct", "by_name", "side", "kind", "on", "order", "limit", "offset"}
)
_GROUP_CLAUSES = frozenset({"expressions", "rollup", "cube", "grouping_sets", "all"})


def rows_of(reading: Reading, node: exp.Expr, outer: Scope | None) -> Rows:
    """Return what `node`, a query, yields; names it does not know are looked up in `outer`."""
    with reading.deeper():
        if isinstance(node, (exp.Subquery, exp.Paren)):
            return _wrapped(reading, node, outer)
        if isinstance(node, exp.SetOperation):
            return _set_operation(reading, node, outer)
        if isinstance(node, exp.Select):
            return _select(reading, node, outer)
        reading.problem(f"a query of a kind that is not known ({node.key})")
        return Rows()


def _wrapped(reading: Reading, node: exp.Expr, outer: Scope | None) -> Rows:
    known = ("this", "alias", "with_", "order", "limit", "offset")
    _only(reading, node, frozenset(known))
    scope = _with(reading, node, outer)
    found = rows_of(reading, node.this, scope)
    _cut(reading, node, scope, found.columns)
    return found


def _only(reading: Reading, node: exp.Expr, known: frozenset[str]) -> None:
    unknown = sorted(name for name, part in node.args.items() if part and name not in known)
    if unknown:
        reading.problem(f"a clause that is not known ({', '.join(unknown)})")


# --- WITH ------------------------------------------------------------------------------------------------------------


def _with(reading: Reading, node: exp.Expr, outer: Scope | None) -> Scope:
    """A scope that knows the CTEs of `node`, each seeing those before it."""
    scope = Scope(parent=outer)
    clause = node.args.get("with_")
    if clause is None:
        return scope
    recursive = bool(clause.args.get("recursive"))
    names = [item.alias.lower() for item in clause.expressions]
    ctes: dict[str, Rows] = {}
    scope.ctes = ctes
    if recursive:
        _fixed_point(reading, clause.expressions, names, scope, ctes)
    for name, item in zip(names, clause.expressions, strict=True):
        _only(reading, item, frozenset({"this", "alias", "scalar"}))
        if item.args["alias"].args.get("columns"):
            reading.problem("a CTE with a list of columns")
        ctes[name] = rows_of(reading, item.this, scope)
    return scope


def _fixed_point(
    reading: Reading, items: Iterable[exp.Expr], names: list[str], scope: Scope, ctes: dict[str, Rows]
) -> None:
    """A recursive CTE begins as its seed's shape with nothing in it, and grows until nothing new comes in."""
    reading.collects = True
    pending = dict(zip(names, items, strict=True))
    for name, item in pending.items():
        ctes[name] = Rows(tuple((column, BOTTOM) for column, _ in _seed(reading, item.this, scope).columns))
    for _ in range(MAX_ROUNDS):
        before = dict(ctes)
        for name, item in pending.items():
            ctes[name] = rows_of(reading, item.this, scope)
        if all(before[name].values == ctes[name].values for name in names):
            return
    reading.problem("a recursion whose origins do not settle")


def _seed(reading: Reading, node: exp.Expr, scope: Scope) -> Rows:
    return rows_of(reading, node.this if isinstance(node, exp.SetOperation) else node, scope)


# --- set operations --------------------------------------------------------------------------------------------------


def _set_operation(reading: Reading, node: exp.SetOperation, outer: Scope | None) -> Rows:
    _only(reading, node, _SET_CLAUSES)
    scope = _with(reading, node, outer)
    left, right = rows_of(reading, node.this, scope), rows_of(reading, node.expression, scope)
    if node.args.get("by_name") or node.args.get("side") or node.args.get("on"):
        columns = _by_name(reading, node, left.columns, right.columns)
    else:
        columns = _by_position(reading, left.columns, right.columns)
    if not (isinstance(node, exp.Union) and not node.args.get("distinct")):
        _note_matches(reading, left, right)
    _cut(reading, node, scope, columns)
    return Rows(columns)


def _by_position(reading: Reading, left: Columns, right: Columns) -> Columns:
    if len(left) != len(right):
        reading.problem("arms of a set operation that differ in their columns")
        everything = derived([value for _, value in (*left, *right)])
        return tuple((name, everything) for name, _ in left)
    return tuple((name, _either(one, other)) for (name, one), (_, other) in zip(left, right, strict=True))


def _by_name(reading: Reading, node: exp.SetOperation, left: Columns, right: Columns) -> Columns:
    """Names decide; which of them survive depends on the modifiers, so only the plain form is followed."""
    names = [name.lower() for name, _ in left]
    others = {name.lower(): value for name, value in right}
    if node.args.get("side") or node.args.get("on") or set(names) != set(others) or len(names) != len(right):
        reading.problem("a set operation by name whose arms do not have the same names")
    everything = derived([value for _, value in (*left, *right)])
    return tuple((name, _either(one, others.get(name.lower(), everything))) for name, one in left)


def _either(one: Value, other: Value) -> Value:
    both = merged([one, other])
    if one.fields is not None and other.fields is not None and len(one.fields) == len(other.fields):
        fields = tuple(_either(a, b) for a, b in zip(one.fields, other.fields, strict=True))
        return Value(both.origins, both.stored, fields, one.names)
    return both


def _note_matches(reading: Reading, left: Rows, right: Rows) -> None:
    """A row that is in both arms, or in one alone, is as telling as a join of the two."""
    for one, other in zip(left.values, right.values, strict=False):
        use = PredicateUse.JOIN_EQUALITY if one.stored and other.stored else PredicateUse.COMPARISON
        reading.note(one, use, other)
        reading.note(other, use, one)


# --- SELECT ----------------------------------------------------------------------------------------------------------


def _select(reading: Reading, node: exp.Select, outer: Scope | None) -> Rows:
    _only(reading, node, _SELECT_CLAUSES)
    scope = _with(reading, node, outer)
    source = node.args.get("from_")
    if source is not None:
        enter(reading, scope, source.this, node.args.get("joins") or [])
    where = node.args.get("where")
    condition(reading, scope, where.this if where is not None else None)
    for window in node.args.get("windows") or []:
        base = window.args.get("alias")
        above = [scope.windows.get(base.name.lower(), NOTHING)] if base is not None else []
        scope.windows[window.this.name.lower()] = derived([*window_parts(reading, scope, window), *above])
    columns = tuple(column for item in node.expressions for column in _item(reading, scope, item))
    _after(reading, node, scope, columns)
    return _shaped(reading, node, columns)


def _item(reading: Reading, scope: Scope, item: exp.Expr) -> Columns:
    star = star_of(item)
    if star is None:
        return ((output_name(item), value(reading, scope, item)),)
    columns = _starred(reading, scope, item)
    _only(reading, star, frozenset({"except_", "replace", "this"}))
    left_out = {part.name.lower() for part in star.args.get("except_") or []}
    replaced = {part.alias.lower(): value(reading, scope, part.this) for part in star.args.get("replace") or []}
    if not left_out <= {name.lower() for name, _ in columns}:
        reading.problem("EXCEPT of a column that is not there")
    for _, found in columns:
        reading.read(found)
    return tuple((name, replaced.get(name.lower(), found)) for name, found in columns if name.lower() not in left_out)


def _starred(reading: Reading, scope: Scope, item: exp.Expr) -> Columns:
    if isinstance(item, exp.Star):
        shared = tuple(scope.joined.items())
        names = set(scope.joined)
        return shared + tuple(c for r in scope.ranges for c in r.columns if c[0].lower() not in names)
    subject = value(reading, scope, _before_star(item))
    variable = _before_star(item)
    if isinstance(variable, exp.Identifier):
        for known in scope.ranges:
            if known.name == variable.name.lower():
                return known.columns
    if subject.fields is None:
        reading.problem("a star over something whose fields are not known")
        return (("", derived([subject])),)
    return tuple(zip(subject.names, subject.fields, strict=True))


def _before_star(item: exp.Expr) -> exp.Expr:
    """`a.b.*` → `a.b`, as a name if there is but one part."""
    if isinstance(item, exp.Dot):
        inner: exp.Expr = item.this
        return inner
    parts = [part for part in item.parts if isinstance(part, exp.Identifier)] if isinstance(item, exp.Column) else []
    if len(parts) == 1:
        return parts[0]
    names = ("this", "table", "db", "catalog")
    return exp.Column(**dict(zip(names, reversed(parts), strict=False)))


def _shaped(reading: Reading, node: exp.Select, columns: Columns) -> Rows:
    kind = str(node.args.get("kind") or "").upper()
    if kind == "":
        return Rows(columns)
    if kind == "STRUCT":
        names, values = [name.lower() for name, _ in columns], [value for _, value in columns]
        origins = frozenset(origin for found in values for origin in found.origins)
        return Rows(columns, Value(origins, fields=tuple(values), names=tuple(names)))
    if kind == "VALUE" and len(columns) == 1:
        element = columns[0][1]
        inner = tuple(zip(element.names, element.fields, strict=True)) if element.fields is not None else columns
        return Rows(inner, element)
    reading.problem("a SELECT AS of a kind that is not known")
    return Rows(columns)


def _after(reading: Reading, node: exp.Select, scope: Scope, columns: Columns) -> None:
    """Everything that groups, orders and cuts the rows, where the select list's names may be used as well."""
    scope.aliases = {name.lower(): found for name, found in columns if name}
    group = node.args.get("group")
    if group is not None:
        _group(reading, group, scope, columns)
    for name in ("having", "qualify"):
        clause = node.args.get(name)
        if clause is not None:
            condition(reading, _aliased(scope), clause.this)
    if node.args.get("distinct"):
        _only(reading, node.args["distinct"], frozenset())
        for _, found in columns:
            reading.note_use(found, PredicateUse.GROUP)
    _cut(reading, node, scope, columns)


def _group(reading: Reading, group: exp.Expr, scope: Scope, columns: Columns) -> None:
    _only(reading, group, _GROUP_CLAUSES)
    keys = [
        *group.expressions,
        *(k for name in ("rollup", "cube", "grouping_sets") for k in group.args.get(name) or []),
    ]
    if group.args.get("all"):
        for _, found in columns:
            reading.note_use(found, PredicateUse.GROUP)
    pending = list(keys)
    while pending:
        key = pending.pop()
        if isinstance(key, (exp.Rollup, exp.Cube, exp.GroupingSets, exp.Tuple)):
            pending += key.expressions
        else:
            reading.note_use(_key(reading, scope, key, columns), PredicateUse.GROUP)


def _cut(reading: Reading, node: exp.Expr, scope: Scope, columns: Columns) -> None:
    """ORDER BY, LIMIT, OFFSET."""
    order = node.args.get("order")
    scope.aliases = scope.aliases or {name.lower(): found for name, found in columns if name}
    for key in order.expressions if order is not None else []:
        inner = key.this if isinstance(key, exp.Ordered) else key
        reading.note_use(_key(reading, scope, inner, columns), PredicateUse.ORDER)
    for name in ("limit", "offset"):
        clause = node.args.get(name)
        if clause is not None:
            reading.note(value(reading, scope, clause.expression), PredicateUse.COMPUTED)


def _key(reading: Reading, scope: Scope, key: exp.Expr, columns: Columns) -> Value:
    """A key of GROUP BY or ORDER BY: an ordinal, an alias of the select list, or an expression."""
    if isinstance(key, exp.Literal) and not key.is_string:
        place = int(key.name) - 1 if key.name.isdigit() else -1
        if 0 <= place < len(columns):
            return columns[place][1]
        reading.problem("an ordinal of no column")
        return NOTHING
    return value(reading, _aliased(scope), key)


def _aliased(scope: Scope) -> Scope:
    """Where a name is both a column and an alias, either may be meant: so both are."""
    return Scope(
        parent=scope.parent,
        ctes=scope.ctes,
        ranges=scope.ranges,
        joined=scope.joined,
        windows=scope.windows,
        aliases=scope.aliases,
        offers_aliases=True,
    )
