"""Columns, fields of records and elements of arrays: the expressions that name or build a value without computing."""

from __future__ import annotations

from functools import partial

from sqlglot import exp

from analysis.bigquery.calls import element_of, is_stored
from analysis.bigquery.failing import makes_bytes, note_failure
from analysis.bigquery.functions import PREFIXES
from analysis.bigquery.items import output_name
from analysis.bigquery.reading import Reading, Scope, field_of, look_up
from analysis.bigquery.walk import below, parts, value
from analysis.scope import NOTHING, Value, derived, record
from analysis.statement import PredicateUse


def column(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    path = list(node.parts) if isinstance(node, exp.Column) else []
    if not path or not all(isinstance(part, exp.Identifier) for part in path):
        reading.problem("a star where no star is understood")
        return derived(variable.whole for variable in scope.ranges)
    return look_up(reading, scope, [str(part.this) for part in path])


def identifier(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return look_up(reading, scope, [str(node.this)])


def step(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    step = node.expression
    if isinstance(step, exp.Identifier):
        return field_of(reading, value(reading, scope, node.this), str(step.this).lower())
    if isinstance(step, exp.Func):
        return _qualified_call(reading, scope, node, step)
    reading.problem("a dotted expression of a kind that is not known")
    return derived(parts(reading, scope, node))


def _qualified_call(reading: Reading, scope: Scope, node: exp.Expr, step: exp.Func) -> Value:
    """`prefix.name(…)`: GoogleSQL's own when the prefix is, else a stored routine. Known ones are known by name."""
    arguments = parts(reading, scope, step)
    name = [part.name for part in node.flatten() if isinstance(part, exp.Identifier)]
    if len(name) == 1 and name[0].lower() in PREFIXES:
        found = derived(arguments)
        note_failure(reading, f"{name[0].lower()}.{step.name.lower()}", found, arguments)
        return found
    return reading.call([*name, step.name], arguments)


def subscript(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    subject = value(reading, scope, node.this)
    indexes = [value(reading, scope, item) for item in node.expressions]
    if any(isinstance(item, exp.Literal) and item.is_string for item in node.expressions):
        return derived([subject, *indexes])  # json['field']
    if not node.args.get("safe"):
        reading.note(derived(indexes), PredicateUse.COMPUTED)
        if not subject.stored and not _is_first_part(node):
            reading.note(derived([subject]), PredicateUse.COMPUTED)  # "out of bounds" tells how many there are
    if subject.fields is None and not subject.stored:
        return derived([subject, *indexes])
    if any(field.fields is not None for field in subject.fields or ()):
        # An element of an array, or a field of a record by its place ("Struct subscript operator"): what is named
        # behind it may be one record's or another's.
        return derived([subject, *indexes])
    return Value(subject.origins | derived(indexes).origins, fields=subject.fields, names=subject.names)


def _is_first_part(node: exp.Expr) -> bool:
    """`SPLIT(x, y)[OFFSET(0)]`: there always is one."""
    first = [item.name for item in node.expressions if isinstance(item, exp.Literal)]
    return isinstance(node.this, exp.Split) and first == [str(node.args.get("offset") or 0)]


def aliased(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return value(reading, scope, node.this)


def struct(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    names: list[str] = []
    fields: list[Value] = []
    for item in node.expressions:
        inner = item.expression if isinstance(item, exp.PropertyEQ) else item
        names.append(item.this.name.lower() if isinstance(item, exp.PropertyEQ) else output_name(item).lower())
        fields.append(value(reading, scope, inner))
    return record(names, fields)


def array(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """ARRAY(subquery) collects rows; `[a, b]` is any of its elements."""
    if len(node.expressions) == 1 and isinstance(node.expressions[0], exp.Query):
        inner = node.expressions[0]
        reading.collects |= any(isinstance(found, exp.Table) for found in inner.walk())
        rows = reading.rows_of(inner, scope)
        return _computed_record(element_of(reading, rows.scalar()))
    return _any_of([element_of(reading, value(reading, scope, item)) for item in node.expressions])


def _any_of(items: list[Value]) -> Value:
    """The element of a written-out array. The first record names the fields of all ("Array literals")."""
    first = items[0] if items else NOTHING
    if first.fields is None or any(item.fields is None or len(item.fields) != len(first.fields) for item in items):
        return derived(items)
    columns = zip(*(item.fields or () for item in items), strict=True)
    return record(first.names, [_any_of(list(column)) for column in columns])


def _computed_record(found: Value) -> Value:
    """A record put together by a query: its fields are still told apart, none of it joins as stored."""
    if found.fields is None:
        return derived([found])
    return record(found.names, found.fields)


def cast(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    inner = value(reading, scope, node.this)
    extra = [value(reading, scope, item) for item in below(node) if item not in (node.this, node.args.get("to"))]
    names = [str(item.this.this).lower() for item in node.args["to"].expressions if isinstance(item, exp.ColumnDef)]
    if inner.fields is not None and len(names) == len(inner.fields) and not extra:
        return record(names, inner.fields)  # STRUCT<a INT64, b STRING>(…): the type renames what is inside
    found = derived([inner, *extra])
    if not isinstance(node, exp.TryCast) and (
        not node.args["to"].is_type("text") or _may_be_bytes(reading, scope, node, inner)
    ):
        reading.note(found, PredicateUse.COMPUTED)  # the failure is an answer
    return found


def _may_be_bytes(reading: Reading, scope: Scope, node: exp.Expr, inner: Value) -> bool:
    """Half of all first bytes of a digest are no text: a cast tells a bit of it, and as many as one salts."""
    stored = (reading.definitions.types.get(origin.column) for origin in inner.origins)
    return "BYTES" in stored or makes_bytes(node.this, partial(is_stored, reading, scope))
