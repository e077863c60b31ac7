"""Statements of GoogleSQL: what each kind needs, writes and returns.

Kinds are an allow-list keyed by sqlglot's node, with BigQuery's own word for it (`JobStatistics2.statementType`), which
the dry run has to repeat. Everything that is not here is administration, and not understood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from analysis.bigquery.carried import OUTSIDE, carried, carry, carry_renamed
from analysis.bigquery.dryrun import TablePath
from analysis.bigquery.expressions import condition, value
from analysis.bigquery.facts import query_facts, restricts
from analysis.bigquery.names import NameProblem, resolve
from analysis.bigquery.reading import LocalFunction, Range, Reading, Rows, Scope
from analysis.bigquery.relations import columns_of, enter, table_key
from analysis.bigquery.routines import is_free_name
from analysis.scope import Value, merged
from analysis.statement import ColumnRef, Facts, Operation

_READ, _WRITE, _DDL, _ADMIN = Operation.READ, Operation.WRITE, Operation.DDL, Operation.ADMIN


@dataclass(frozen=True, slots=True)
class Act:
    """One statement as read: its kind, the words the dry run may use for it, and what it returns."""

    kind: str
    expected: frozenset[str] = frozenset()  # statementType of the dry run; empty: there is none to compare
    operations: frozenset[Operation] = frozenset()
    rows: Rows | None = None
    facts: Facts = field(default_factory=Facts)


def unknown_act() -> Act:
    """What nobody understood: it may do anything."""
    return Act("UNKNOWN", operations=frozenset({_ADMIN}), facts=Facts(no_where=True))


def read_statement(reading: Reading, tree: exp.Expr) -> Act:
    """Return what `tree` does, noting all it reads and writes."""
    handler = _HANDLERS.get(type(tree))
    if handler is None:
        reading.problem(f"a statement of a kind that is not known ({tree.key})")
        return unknown_act()
    return handler(reading, tree)


# --- queries ---------------------------------------------------------------------------------------------------------


def _query(reading: Reading, tree: exp.Expr) -> Act:
    rows = reading.rows_of(tree, None)
    return Act("SELECT", frozenset({"SELECT"}), frozenset({_READ}), rows, query_facts(tree, reading))


def _export(reading: Reading, tree: exp.Expr) -> Act:
    """EXPORT DATA writes what it reads, unmasked, to a place outside the warehouse."""
    inner = _query(reading, tree.this)
    for name, found in inner.rows.columns if inner.rows is not None else ():
        reading.carries.update(carried(found, OUTSIDE, name))
    return Act(
        "EXPORT_DATA", frozenset({"EXPORT_DATA"}), frozenset({_READ, _ADMIN}),
        facts=replace(inner.facts, export=True),
    )  # fmt: skip


# --- DML -------------------------------------------------------------------------------------------------------------


def _target(reading: Reading, node: exp.Expr | None) -> tuple[TablePath | None, Range]:
    """The table a statement changes, and its row as the conditions see it."""
    nothing = Range("", (), Value())
    if isinstance(node, exp.Schema):
        node = node.this
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        reading.problem("writes to something that is no table")
        return None, nothing
    name = (node.alias or node.name).lower()
    local = reading.local_tables.get(table_key(reading, node))
    if local is not None:
        return None, Range(name, local.columns, Value(fields=local.values, names=tuple(n for n, _ in local.columns)))
    try:
        path = resolve(node, reading.defaults)
    except NameProblem as problem:
        reading.problem(str(problem))
        return None, nothing
    columns = columns_of(reading, path)
    reading.tables.discard(path)
    reading.written.add(path)
    if reading.definitions.tables.get(path) is not None and reading.definitions.tables[path].query:
        reading.problem("writes to a view")
    fields = tuple(found for _, found in columns)
    return path, Range(name, columns, Value(fields=fields, names=tuple(column.lower() for column, _ in columns)))


def _write(reading: Reading, path: TablePath | None, columns: Sequence[str] | None) -> None:
    """Note the columns written; None for all of the table's."""
    if path is None:
        return
    for ref in reading.refs([path]):
        known = {c for c in reading.definitions.types if c.table_ref == ref}
        if columns is None:
            reading.writes |= known or {ColumnRef(ref.schema, ref.table, "*")}
            continue
        for name in columns:
            inside = {c for c in known if f"{c.column}.".lower().startswith(f"{name}.".lower())}
            reading.writes |= inside or {ColumnRef(ref.schema, ref.table, name)}


def _insert(reading: Reading, tree: exp.Expr) -> Act:
    path, row = _target(reading, tree.this)
    listed = [part.name for part in tree.this.expressions] if isinstance(tree.this, exp.Schema) else None
    _write(reading, path, listed)
    source = tree.expression
    values: list[tuple[Value, ...]] = []
    scope = Scope()
    if isinstance(source, exp.Values):
        for cells in source.expressions:
            values.append(tuple(value(reading, scope, cell) for cell in cells.expressions))
    elif source is not None:
        values.append(reading.rows_of(source, None).values)
    if path is None:
        _pour(reading, tree.this, row, listed, values)
    names = listed if listed is not None else [name for name, _ in row.columns]
    for cells in values:
        carry(reading, path, names, cells)
    return Act("INSERT", frozenset({"INSERT"}), frozenset({_WRITE}) | _reads(reading), facts=Facts(row_bound=0))


def _pour(
    reading: Reading, node: exp.Expr, row: Range, listed: list[str] | None, values: list[tuple[Value, ...]]
) -> None:
    """Rows put into a table the script made: its columns hold what came in as well."""
    table = node.this if isinstance(node, exp.Schema) else node
    key = table_key(reading, table) if isinstance(table, exp.Table) else ""
    names = [name.lower() for name in listed] if listed is not None else [name.lower() for name, _ in row.columns]
    columns = {name.lower(): found for name, found in row.columns}
    for cells in values:
        if len(cells) != len(names) or not set(names) <= set(columns):
            reading.problem("rows that do not fit the table they are put into")
            continue
        columns |= {name: merged([columns[name], cell]) for name, cell in zip(names, cells, strict=True)}
    if key in reading.local_tables:
        reading.local_tables[key] = Rows(tuple(columns.items()))


def _reads(reading: Reading) -> frozenset[Operation]:
    return frozenset({_READ}) if reading.tables or reading.reads else frozenset()


def _assigned(
    reading: Reading, scope: Scope, path: TablePath | None, row: Range, items: Sequence[exp.Expr]
) -> list[str]:
    """The columns of SET, their values read; a table the script made may not be changed this way."""
    names: list[str] = []
    for item in items:
        if not isinstance(item, exp.EQ) or not isinstance(item.this, (exp.Column, exp.Dot)):
            reading.problem("an assignment of a kind that is not known")
            continue
        parts = [part.name for part in item.this.find_all(exp.Identifier, bfs=False)]
        parts = [part.name for part in item.this.parts] if isinstance(item.this, exp.Column) else parts
        if len(parts) > 1 and parts[0].lower() == row.name:
            parts = parts[1:]
        names.append(".".join(parts))
        carry(reading, path, names[-1:], [value(reading, scope, item.expression)])
    return names


def _update(reading: Reading, tree: exp.Expr) -> Act:
    path, row = _target(reading, tree.this)
    scope = Scope(ranges=[row])
    source = tree.args.get("from_")
    if source is not None:
        enter(reading, scope, source.this, source.args.get("joins") or tree.args.get("joins") or [])
    where = tree.args.get("where")
    condition(reading, scope, where.this if where is not None else None)
    _write(reading, path, _assigned(reading, scope, path, row, tree.expressions))
    _no_local(reading, path)
    return _changed(reading, "UPDATE", where)


def _delete(reading: Reading, tree: exp.Expr) -> Act:
    targets = tree.args.get("tables") or [tree.this]
    path, row = _target(reading, targets[0] if len(targets) == 1 else None)
    where = tree.args.get("where")
    condition(reading, Scope(ranges=[row]), where.this if where is not None else None)
    _write(reading, path, None)
    return _changed(reading, "DELETE", where)


def _changed(reading: Reading, kind: str, where: exp.Expr | None) -> Act:
    facts = Facts(no_where=where is None or not restricts(where.this), row_bound=0)
    return Act(kind, frozenset({kind}), frozenset({_WRITE}) | _reads(reading), facts=facts)


def _no_local(reading: Reading, path: TablePath | None) -> None:
    if path is None:
        reading.problem("changes a table the script made, which is followed for INSERT only")


def _merge(reading: Reading, tree: exp.Expr) -> Act:
    path, row = _target(reading, tree.this)
    scope = Scope(ranges=[row])
    enter(reading, scope, tree.args["using"], [])
    condition(reading, scope, tree.args.get("on"))
    for when in tree.args["whens"].expressions:
        then = when.args.get("then")
        # Where nothing matched there is no row of the target, and its columns cannot be named ("MERGE statement").
        seen = Scope(ranges=scope.ranges[1:]) if isinstance(then, exp.Insert) else scope
        condition(reading, seen, when.args.get("condition"))
        _write(reading, path, _merged(reading, seen, path, row, then))
    _no_local(reading, path)
    facts = Facts(no_where=not restricts(tree.args.get("on")), row_bound=0)
    return Act("MERGE", frozenset({"MERGE"}), frozenset({_WRITE}) | _reads(reading), facts=facts)


def _merged(
    reading: Reading, scope: Scope, path: TablePath | None, row: Range, then: exp.Expr | None
) -> list[str] | None:
    if isinstance(then, exp.Update):
        return _assigned(reading, scope, path, row, then.expressions)
    if isinstance(then, exp.Insert) and isinstance(then.this, exp.Tuple):
        cells = then.expression.expressions if isinstance(then.expression, exp.Tuple) else []
        names = [part.name for part in then.this.expressions]
        carry(reading, path, names, [value(reading, scope, cell) for cell in cells])
        return names
    if isinstance(then, exp.Insert):  # INSERT ROW: every column of the source's row
        for variable in scope.ranges:
            reading.read(variable.whole)
            carry(reading, path, [name for name, _ in row.columns], [found for _, found in variable.columns])
    return None


def _truncate(reading: Reading, tree: exp.Expr) -> Act:
    for table in tree.expressions:
        path, _row = _target(reading, table)
        _write(reading, path, None)
    operations = frozenset({_WRITE})
    return Act("TRUNCATE", frozenset({"TRUNCATE_TABLE"}), operations, facts=Facts(no_where=True, row_bound=0))


# --- DDL -------------------------------------------------------------------------------------------------------------


def _create(reading: Reading, tree: exp.Expr) -> Act:
    kind = str(tree.args.get("kind") or "").upper()
    if kind == "FUNCTION":
        return _create_function(reading, tree)
    materialized = tree.find(exp.MaterializedProperty) is not None
    if kind not in ("TABLE", "VIEW", "SCHEMA", "MODEL"):
        reading.problem("a definition of a kind that is not known")
        return Act(f"CREATE_{kind or 'UNKNOWN'}", operations=frozenset({_DDL, _ADMIN}))
    path = _created(reading, tree)
    if kind == "SCHEMA":
        return Act("CREATE_SCHEMA", frozenset({"CREATE_SCHEMA"}), frozenset({_DDL}))
    if kind == "MODEL":  # a model learns values, and tells them
        reading.problem("a model, which remembers what it was trained on")
    source = tree.args.get("expression")
    rows = reading.rows_of(source, None) if isinstance(source, exp.Query) else _cloned(reading, tree)
    if rows is None:
        return Act(f"CREATE_{kind}", frozenset({f"CREATE_{kind}"}), frozenset({_DDL}))
    if kind == "TABLE" and isinstance(tree.this, exp.Table):
        reading.local_tables[table_key(reading, tree.this)] = rows
    if kind == "TABLE":
        carry(reading, path, [name for name, _ in rows.columns], rows.values)
    facts = replace(query_facts(source, reading), export=kind == "TABLE", row_bound=0)
    return _as_select(kind, facts, materialized=materialized)


def _as_select(kind: str, facts: Facts, *, materialized: bool) -> Act:
    names = {
        "TABLE": ("CREATE_TABLE_AS", {"CREATE_TABLE_AS_SELECT", "CREATE_TABLE", "CREATE_SNAPSHOT_TABLE"}),
        "VIEW": ("CREATE_MATERIALIZED_VIEW", {"CREATE_MATERIALIZED_VIEW"})
        if materialized
        else ("CREATE_VIEW", {"CREATE_VIEW"}),
        "MODEL": ("CREATE_MODEL", {"CREATE_MODEL"}),
    }
    name, expected = names[kind]
    return Act(name, frozenset(expected), frozenset({_DDL, _READ}), facts=facts)


def _created(reading: Reading, tree: exp.Expr) -> TablePath | None:
    """The table, view or model that stays."""
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    if tree.find(exp.TemporaryProperty) is not None or not isinstance(target, exp.Table):
        return None
    try:
        if isinstance(target.this, exp.Identifier):
            path = resolve(target, reading.defaults)
            reading.written.add(path)
            return path
    except NameProblem as problem:
        reading.problem(str(problem))
    return None


def _cloned(reading: Reading, tree: exp.Expr) -> Rows | None:
    """CREATE TABLE … CLONE | COPY: all of another table, in one word."""
    clone = tree.args.get("clone")
    if clone is None:
        return None
    scope = Scope()
    enter(reading, scope, clone.this, [])
    columns = tuple(column for variable in scope.ranges for column in variable.columns)
    for _, found in columns:
        reading.read(found)
    return Rows(columns)


def _create_function(reading: Reading, tree: exp.Expr) -> Act:
    """A temporary SQL function is followed where it is called; a stored one is a definition like any other."""
    temporary = tree.find(exp.TemporaryProperty) is not None
    function = tree.this
    language = tree.find(exp.LanguageProperty)
    sql = language is None or language.name.upper() == "SQL"
    body = tree.args.get("expression")
    is_table = any(item.args.get("is_table") for item in tree.find_all(exp.ReturnsProperty))
    if not isinstance(function, exp.UserDefinedFunction) or is_table or str(tree.args.get("kind")) != "FUNCTION":
        reading.problem("a function of a kind that is not known")
    if temporary and isinstance(function, exp.UserDefinedFunction):
        arguments = tuple(part.name.lower() for part in function.expressions)
        followed = sql and isinstance(body, exp.Expr) and not isinstance(body, (exp.RawString, exp.Literal))
        name = function.this.name.lower()
        if not is_free_name(name):
            reading.problem("a temporary function under the name of a known one")
        reading.local_functions[name] = LocalFunction(arguments, body if followed else None)
        return Act("CREATE_FUNCTION", frozenset({"CREATE_FUNCTION"}), frozenset({Operation.SESSION}))
    return Act("CREATE_FUNCTION", frozenset({"CREATE_FUNCTION"}), frozenset({_DDL}))


def _drop(reading: Reading, tree: exp.Expr) -> Act:
    kind = str(tree.args.get("kind") or "").upper()
    for table in tree.args.get("tables") or [tree.this]:
        if isinstance(table, exp.Table) and isinstance(table.this, exp.Identifier) and kind in ("TABLE", "VIEW"):
            path, _row = _target(reading, table)
            _write(reading, path, None)
    return Act(f"DROP_{kind}", frozenset({f"DROP_{kind}"}), frozenset({_DDL}), facts=Facts(no_where=True))


def _alter(reading: Reading, tree: exp.Expr) -> Act:
    kind = str(tree.args.get("kind") or "").upper()
    if isinstance(tree.this, exp.Table) and kind in ("TABLE", "VIEW"):
        path, _row = _target(reading, tree.this)
        _write(reading, path, None)  # a column, or a table, under another name is one no rule knows
        carry_renamed(reading, path, tree.args.get("actions") or ())
    return Act(f"ALTER_{kind}", frozenset({f"ALTER_{kind}"}), frozenset({_DDL}))


def _grant(reading: Reading, tree: exp.Expr) -> Act:
    return Act(tree.key.upper(), frozenset({tree.key.upper()}), frozenset({_ADMIN}))


def _load(reading: Reading, tree: exp.Expr) -> Act:
    """LOAD DATA: rows from outside the warehouse into a table."""
    path, _row = _target(reading, tree.this)
    _write(reading, path, None)
    return Act("LOAD_DATA", frozenset({"LOAD_DATA"}), frozenset({_WRITE, _ADMIN}), facts=Facts(row_bound=0))


def _transaction(reading: Reading, tree: exp.Expr) -> Act:
    words: dict[type[exp.Expr], str] = {exp.Transaction: "BEGIN_TRANSACTION", exp.Commit: "COMMIT_TRANSACTION"}
    kind = words.get(type(tree), "ROLLBACK_TRANSACTION")
    return Act(kind, frozenset({kind}), frozenset({Operation.SESSION}))


_HANDLERS: dict[type[exp.Expr], Callable[[Reading, exp.Expr], Act]] = {
    exp.Select: _query,
    exp.Subquery: _query,
    exp.Union: _query,
    exp.Except: _query,
    exp.Intersect: _query,
    exp.Export: _export,
    exp.Insert: _insert,
    exp.Update: _update,
    exp.Delete: _delete,
    exp.Merge: _merge,
    exp.TruncateTable: _truncate,
    exp.Create: _create,
    exp.Drop: _drop,
    exp.Alter: _alter,
    exp.Grant: _grant,
    exp.Revoke: _grant,
    exp.LoadData: _load,
    exp.Transaction: _transaction,
    exp.Commit: _transaction,
    exp.Rollback: _transaction,
}
