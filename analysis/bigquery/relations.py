"""What FROM offers: tables, views (followed through their queries), CTEs, arrays, joins, PIVOT and UNPIVOT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from analysis.bigquery.dryrun import TablePath
from analysis.bigquery.expressions import below, condition, value
from analysis.bigquery.functions import is_side_door
from analysis.bigquery.names import NameProblem, is_information_schema, is_wildcard, path_of, resolve, row_of
from analysis.bigquery.reading import Range, Reading, Rows, Scope
from analysis.bigquery.routines import parse_checked
from analysis.scope import NOTHING, Value, derived, merged
from analysis.statement import PredicateUse

Columns = tuple[tuple[str, Value], ...]

# `Table.type` of the REST resource, and what stands for a wildcard and for INFORMATION_SCHEMA.
_STORED = frozenset({"TABLE", "EXTERNAL", "SNAPSHOT", "CLONE", "WILDCARD", "SYSTEM"})
_VIEWS = frozenset({"VIEW", "MATERIALIZED_VIEW"})

_TABLE_PARTS = frozenset({"this", "db", "catalog", "alias", "version", "pivots", "joins", "sample"})
_JOIN_PARTS = frozenset({"this", "side", "kind", "using", "on"})
_SUBQUERY_PARTS = frozenset({"this", "alias", "pivots", "joins", "sample", "with_", "order", "limit", "offset"})
_UNNEST_PARTS = frozenset({"expressions", "alias", "offset", "explode_array"})


def enter(reading: Reading, scope: Scope, source: exp.Expr, joins: Sequence[exp.Expr]) -> None:
    """Add what `source` and the joins behind it offer to `scope`."""
    _source(reading, scope, source)
    for join in joins:
        _known_parts(reading, join, _JOIN_PARTS)
        before = len(scope.ranges)
        _source(reading, scope, join.this)
        condition(reading, scope, join.args.get("on"))
        for name in join.args.get("using") or []:
            _use(reading, scope, name.name, before)


def _known_parts(reading: Reading, node: exp.Expr, known: frozenset[str]) -> None:
    unknown = sorted(name for name, part in node.args.items() if part and name not in known)
    if unknown:
        reading.problem(f"a part of FROM that is not known ({', '.join(unknown)})")


def _use(reading: Reading, scope: Scope, name: str, before: int) -> None:
    """JOIN … USING (name): one column out of two, matched with each other."""
    key = name.lower()
    left = [scope.joined[key]] if key in scope.joined else [v for r in scope.ranges[:before] for v in r.find(key)]
    right = [v for r in scope.ranges[before:] for v in r.find(key)]
    if len(left) != 1 or len(right) != 1:
        reading.problem("a column of USING that could not be resolved")
        return
    one, other = reading.read(left[0]), reading.read(right[0])
    use = PredicateUse.JOIN_EQUALITY if one.stored and other.stored else PredicateUse.COMPARISON
    reading.note(one, use, other)
    reading.note(other, use, one)
    scope.joined[key] = merged([one, other])


def _source(reading: Reading, scope: Scope, node: exp.Expr) -> None:
    if isinstance(node, exp.Table):
        _table(reading, scope, node)
    elif isinstance(node, exp.Subquery):
        _subquery(reading, scope, node)
    elif isinstance(node, exp.Unnest):
        _unnest(reading, scope, node)
    else:
        reading.problem(f"a source of rows of a kind that is not known ({node.key})")


def _offer(reading: Reading, scope: Scope, found: Range, node: exp.Expr) -> None:
    """Add a range variable, once its PIVOT and sampling are applied."""
    alias = node.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        reading.problem("a table's name with a list of columns")
    sample = node.args.get("sample")
    if sample is not None and any(isinstance(part, exp.Column) for part in sample.walk()):
        reading.problem("a sample whose size is computed")
    for pivot in node.args.get("pivots") or []:
        found = _pivoted(reading, scope, found, pivot)
    scope.ranges.append(found)


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(reading: Reading, scope: Scope, node: exp.Table) -> None:
    _known_parts(reading, node, _TABLE_PARTS)
    if not isinstance(node.this, exp.Identifier):
        _table_function(reading, scope, node)
        return
    name = (node.alias or str(node.this.this)).lower()
    plain = str(node.this.this) if node.args.get("db") is None else ""
    rows = scope.cte(plain.lower()) if plain else None
    rows = rows or _local(reading, node)
    if rows is not None:
        _offer(reading, scope, _range(name, rows), node)
    else:
        _stored(reading, scope, node, name)
    version = node.args.get("version")
    if version is not None and any(isinstance(part, exp.Column) for part in version.walk()):
        reading.problem("a time of travel that is computed")
    if node.args.get("joins"):
        enter_joined(reading, scope, node)


def enter_joined(reading: Reading, scope: Scope, node: exp.Table) -> None:
    for join in node.args["joins"]:
        enter(reading, scope, join.this, [])
        condition(reading, scope, join.args.get("on"))
        if join.args.get("using"):
            reading.problem("USING inside a parenthesised join")


def _local(reading: Reading, node: exp.Table) -> Rows | None:
    """A table this very script made, by the name it was made under."""
    found = reading.local_tables.get(table_key(reading, node))
    reading.borrows |= found is not None
    return found


def table_key(reading: Reading, node: exp.Table) -> str:
    if node.args.get("db") is None:
        return str(node.this.this)
    try:
        return str(resolve(node, reading.defaults))
    except NameProblem:
        return ""


def _range(name: str, rows: Rows) -> Range:
    whole = rows.element if rows.element is not None else row_of(rows.columns)
    return Range(name, rows.columns, whole)


def _stored(reading: Reading, scope: Scope, node: exp.Table, name: str) -> None:
    try:
        path = resolve(node, reading.defaults)
    except NameProblem as problem:
        reading.problem(str(problem))
        return
    columns = columns_of(reading, path)
    pseudo = reading.definitions.pseudo_columns(path) if path in reading.definitions.tables else {}
    _offer(reading, scope, Range(name, columns, row_of(columns), pseudo), node)


def columns_of(reading: Reading, path: TablePath) -> Columns:
    """The columns of a table or view, noted as read; none, with a problem, for what nobody described."""
    if not reading.inside_view:
        reading.tables.add(path)
    reading.beneath.add(path)
    _judge_path(reading, path)
    schema = reading.definitions.tables.get(path)
    if schema is None:
        reading.problem("a table whose definition could not be read")
        return ()
    if is_wildcard(path) and path not in reading.definitions.shards:
        reading.problem("a wildcard whose tables could not be listed, or are too many")
    columns = tuple(reading.definitions.columns(path))
    if schema.kind in _STORED:
        return columns
    if schema.kind not in _VIEWS or not schema.query:
        reading.problem("a view whose definition could not be read, or a table of a kind that is not known")
        return columns
    return _through_view(reading, path, columns)


def _judge_path(reading: Reading, path: TablePath) -> None:
    if is_information_schema(path) and is_side_door(path.table.split(".", 1)[1]):
        reading.dangerous.add(path.table)
        reading.problem(f"reads {path.table}, which quotes what other principals asked")
    elif path.dataset.startswith("_"):
        reading.dangerous.add("anonymous results")
        reading.problem("reads a hidden dataset, where results of other queries are kept")
    if path.project != reading.definitions.home and path.project not in reading.definitions.projects:
        reading.problem("a table of another project, which the connection does not name")


def _through_view(reading: Reading, path: TablePath, columns: Columns) -> Columns:
    """A view's columns are its own by name, and made of what its query makes them of."""
    schema = reading.definitions.tables[path]
    if schema.legacy_sql:
        reading.problem("a view in legacy SQL, which is not followed")
        return columns
    known = reading.views.get(path)
    if known is None:
        with reading.as_author(path.project):
            tree = parse_checked(reading, schema.query)
            known = reading.rows_of(tree, None).columns if tree is not None else ()
        reading.views[path] = known
    if len(known) != len(columns):
        reading.problem("a view whose query and columns do not agree")
        return tuple((name, derived([own, *(v for _, v in known)])) for name, own in columns)
    return tuple((name, _both(own, base)) for (name, own), (_, base) in zip(columns, known, strict=True))


def _both(own: Value, base: Value) -> Value:
    """The view's column, with the origins of what is in it."""
    fields = own.fields
    if fields is not None:
        same = base.fields is not None and len(base.fields) == len(fields)
        parts = base.fields if same and base.fields is not None else (derived([base]),) * len(fields)
        fields = tuple(_both(a, b) for a, b in zip(fields, parts, strict=True))
    return replace(own, origins=own.origins | base.origins, stored=base.stored, fields=fields)


def _table_function(reading: Reading, scope: Scope, node: exp.Table) -> None:
    """ML.PREDICT, EXTERNAL_QUERY, VECTOR_SEARCH, a table function of a user: rows nobody can tell the origin of."""
    prefix = node.args.get("db")
    name = ".".join(filter(None, (prefix.name if prefix is not None else "", _function_name(node.this))))
    reading.opaque.add(name.lower())
    reading.problem(f"rows of {name.upper()}, whose origin is not known")
    for found in node.this.walk():
        if isinstance(found, exp.Table) and isinstance(found.this, exp.Identifier):
            try:
                path = path_of(".".join(part.name for part in found.parts), reading.defaults)
            except NameProblem:
                continue
            reading.tables.add(path)
            reading.beneath.add(path)
    for argument in below(node.this):
        if isinstance(argument, exp.Query):
            reading.rows_of(argument, scope)
    scope.ranges.append(Range((node.alias or "").lower(), (), NOTHING))


def _function_name(node: exp.Expr) -> str:
    return str(node.name) if isinstance(node, exp.Anonymous) else node.key


# --- subqueries and arrays -------------------------------------------------------------------------------------------


def _subquery(reading: Reading, scope: Scope, node: exp.Subquery) -> None:
    _known_parts(reading, node, _SUBQUERY_PARTS)
    beside = Scope(parent=scope.parent, ctes=scope.ctes)  # a subquery of FROM does not see its neighbours
    if isinstance(node.this, (exp.Table, exp.Unnest)):
        _source(reading, beside, node.this)
        scope.ranges += beside.ranges
        scope.joined |= beside.joined
        if node.alias or node.args.get("pivots"):
            reading.problem("a parenthesised join with a name or a PIVOT")
    else:
        plain = node.copy()
        for part in ("alias", "pivots", "joins", "sample"):
            plain.set(part, None)
        rows = reading.rows_of(plain, beside)
        _offer(reading, scope, _range(node.alias.lower(), rows), node)
    if node.args.get("joins"):
        reading.problem("joins behind a subquery of a kind that is not known")


def _unnest(reading: Reading, scope: Scope, node: exp.Unnest) -> None:
    """The elements of an array; a record's fields may be named directly."""
    _known_parts(reading, node, _UNNEST_PARTS)
    if len(node.expressions) != 1:
        reading.problem("UNNEST of several arrays")
    array = node.expressions[0]
    element = value(reading, scope, array)
    if not element.stored:
        reading.note(element, PredicateUse.COMPUTED)  # how many elements there are was computed
    alias = node.args.get("alias")
    names = [part.name for part in alias.columns] if alias is not None else []
    name = names[0] if names else (array.name if isinstance(array, (exp.Column, exp.Dot)) else "")
    if alias is not None and (alias.this is not None or len(names) != 1):
        reading.problem("UNNEST with an alias of a kind that is not known")
    named = zip(element.names, element.fields, strict=True) if element.fields is not None else [(name, element)]
    scope.ranges.append(Range(name.lower(), tuple(named), element))
    offset = node.args.get("offset")
    if isinstance(offset, exp.Identifier):
        scope.ranges.append(Range("", ((offset.name, NOTHING),), NOTHING))
    elif offset:
        scope.ranges.append(Range("", (("offset", NOTHING),), NOTHING))


# --- PIVOT -----------------------------------------------------------------------------------------------------------


def _pivoted(reading: Reading, scope: Scope, source: Range, pivot: exp.Expr) -> Range:
    alias = pivot.args.get("alias")
    name = alias.name.lower() if alias is not None else source.name
    inner = Scope(parent=scope.parent, ctes=scope.ctes, ranges=[source])
    columns = (_unpivot if pivot.args.get("unpivot") else _pivot)(reading, inner, source, pivot)
    return Range(name, columns, row_of(columns))


def _pivot(reading: Reading, inner: Scope, source: Range, pivot: exp.Expr) -> Columns:
    """Aggregates per value of a column; all columns that are named nowhere group the rows."""
    if len(pivot.args.get("fields") or []) != 1 or not isinstance(pivot.args["fields"][0], exp.In):
        reading.problem("PIVOT of a kind that is not known")
        return ()
    chosen = pivot.args["fields"][0]
    by = value(reading, inner, chosen.this)
    reading.note_use(by, PredicateUse.COMPARISON)
    cells = [Value(value(reading, inner, item).origins | derived([by]).origins) for item in pivot.expressions]
    used = {column.name.lower() for column in pivot.find_all(exp.Column)}
    kept = tuple((name, reading.read(found)) for name, found in source.columns if name.lower() not in used)
    for _, found in kept:
        reading.note_use(found, PredicateUse.GROUP)
    count = len(chosen.expressions) * len(cells)
    names = [part.name for part in pivot.args.get("columns") or []]
    names = names if len(names) == count else [""] * count
    return kept + tuple((label, cells[place % len(cells)]) for place, label in enumerate(names))


def _unpivot(reading: Reading, inner: Scope, source: Range, pivot: exp.Expr) -> Columns:
    """Columns become rows: a value column holds any of the columns named in its place."""
    fields = pivot.args.get("fields") or []
    targets = _flat(pivot.expressions)
    if len(fields) != 1 or not isinstance(fields[0], exp.In):
        reading.problem("UNPIVOT of a kind that is not known")
        return ()
    tuples = [_flat([item.this if isinstance(item, exp.PivotAlias) else item]) for item in fields[0].expressions]
    if any(len(items) != len(targets) for items in tuples):
        reading.problem("UNPIVOT of a kind that is not known")
        return ()
    used = {item.name.lower() for items in tuples for item in items}
    kept = tuple((name, found) for name, found in source.columns if name.lower() not in used)
    values = [[value(reading, inner, item) for item in items] for items in tuples]
    cells = tuple(
        (target.name, merged(column)) for target, column in zip(targets, zip(*values, strict=True), strict=True)
    )
    return (*kept, *cells, (fields[0].this.name, NOTHING))


def _flat(items: Sequence[exp.Expr]) -> list[exp.Expr]:
    return [part for item in items for part in (item.expressions if isinstance(item, exp.Tuple) else [item])]
