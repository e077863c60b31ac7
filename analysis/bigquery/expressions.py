"""What an expression of GoogleSQL discloses, and which columns a condition is steered by.

The twin of `analysis.expressions` over sqlglot's tree: the rules are the same and share their words (`analysis.scope`),
the trees are not. Kinds of nodes are an allow-list; a node of another kind is a problem, never a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from analysis.bigquery.functions import (
    BUILTIN,
    COLLECTING,
    FAILS_BY,
    PREFIXES,
    READS_TIME,
    SAFE_AGGREGATES,
    TIMES,
    TOTAL,
)
from analysis.bigquery.items import output_name
from analysis.bigquery.reading import Reading, Scope, field_of, look_up
from analysis.scope import NOTHING, Value, derived, record, safe, union
from analysis.statement import Origin, PredicateUse, Transform

Handler = Callable[[Reading, Scope, exp.Expr], Value]


def value(reading: Reading, scope: Scope, node: exp.Expr | None) -> Value:
    """Return what `node` is made of."""
    if node is None:
        return NOTHING
    with reading.deeper():
        handler = _VALUES.get(type(node))
        if handler is not None:
            return handler(reading, scope, node)
        if isinstance(node, exp.AggFunc):
            return _aggregate(reading, scope, node)
        if isinstance(node, (exp.Func, exp.Binary, exp.Unary)):
            return _function(reading, scope, node)
        reading.problem(f"an expression of a kind that is not known ({node.key})")
        return derived(parts(reading, scope, node))


def condition(reading: Reading, scope: Scope, node: exp.Expr | None) -> Value:
    """Record the columns that decide about `node`, and return its value for those who return it as well."""
    if node is None:
        return NOTHING
    handler = _CONDITIONS.get(type(node))
    if handler is not None:
        with reading.deeper():
            return handler(reading, scope, node)
    found = value(reading, scope, node)
    reading.note_use(found, PredicateUse.COMPARISON)
    return derived([found])


def below(node: exp.Expr) -> Iterator[exp.Expr]:
    """Every node directly below, through lists: no argument of sqlglot's is left out, known or not."""
    for argument in node.args.values():
        for item in argument if isinstance(argument, list) else [argument]:
            if isinstance(item, exp.Expr):
                yield item


def parts(reading: Reading, scope: Scope, node: exp.Expr) -> list[Value]:
    return [value(reading, scope, child) for child in below(node)]


# --- values ----------------------------------------------------------------------------------------------------------


def _nothing(_reading: Reading, _scope: Scope, _node: exp.Expr) -> Value:
    return NOTHING


def _same(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return value(reading, scope, node.this)


def _generic(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return derived(parts(reading, scope, node))


def _column(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    path = list(node.parts) if isinstance(node, exp.Column) else []
    if not path or not all(isinstance(part, exp.Identifier) for part in path):
        reading.problem("a star where no star is understood")
        return derived(variable.whole for variable in scope.ranges)
    return look_up(reading, scope, [str(part.this) for part in path])


def _identifier(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return look_up(reading, scope, [str(node.this)])


def _dot(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
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
        _note_failure(reading, f"{name[0].lower()}.{step.name.lower()}", found)
        return found
    return reading.call([*name, step.name], arguments)


def _bracket(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
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


def _alias(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return value(reading, scope, node.this)


def _struct(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    names: list[str] = []
    fields: list[Value] = []
    for item in node.expressions:
        inner = item.expression if isinstance(item, exp.PropertyEQ) else item
        names.append(item.this.name.lower() if isinstance(item, exp.PropertyEQ) else output_name(item).lower())
        fields.append(value(reading, scope, inner))
    return record(names, fields)


def _array(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """ARRAY(subquery) collects rows; `[a, b]` is any of its elements."""
    if len(node.expressions) == 1 and isinstance(node.expressions[0], exp.Query):
        inner = node.expressions[0]
        reading.collects |= any(isinstance(found, exp.Table) for found in inner.walk())
        rows = reading.rows_of(inner, scope)
        return _computed_record(_element(reading, rows.scalar()))
    return _any_of([_element(reading, value(reading, scope, item)) for item in node.expressions])


def _element(reading: Reading, found: Value) -> Value:
    """A result cannot hold an array with a NULL ("Array type"): one that was computed answers by failing."""
    if found.fields is None and not found.stored:
        reading.note(found, PredicateUse.COMPUTED)
    return found


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


def _cast(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    inner = value(reading, scope, node.this)
    extra = [value(reading, scope, item) for item in below(node) if item not in (node.this, node.args.get("to"))]
    names = [str(item.this.this).lower() for item in node.args["to"].expressions if isinstance(item, exp.ColumnDef)]
    if inner.fields is not None and len(names) == len(inner.fields) and not extra:
        return record(names, inner.fields)  # STRUCT<a INT64, b STRING>(…): the type renames what is inside
    found = derived([inner, *extra])
    if not isinstance(node, exp.TryCast) and not node.args["to"].is_type("text"):
        reading.note(found, PredicateUse.COMPUTED)  # the failure is an answer
    return found


def _function(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    reading.collects |= node.key in COLLECTING
    found = derived(parts(reading, scope, node))
    if node.key in FAILS_BY or node.key in READS_TIME:
        reading.note(derived(_failing(reading, scope, node)), PredicateUse.COMPUTED)
    else:
        _note_failure(reading, node.key, found)
    return found


def _failing(reading: Reading, scope: Scope, node: exp.Expr) -> Iterator[Value]:
    """The arguments a function of known limits may fail by."""
    for name in FAILS_BY.get(node.key, ()):
        yield value(reading, scope, node.args.get(name))
    if node.key in READS_TIME:
        read = value(reading, scope, node.this)
        types = {reading.definitions.types.get(origin.column) for origin in read.origins}
        if not (read.stored and types <= TIMES):
            yield read


def _anonymous(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    name = str(node.name).lower()
    arguments = [value(reading, scope, item) for item in node.expressions]
    if name in reading.local_functions or "." in name:
        return reading.call(str(node.name).split("."), arguments)
    if name not in BUILTIN:
        reading.problem("calls a function that is not known")
    reading.collects |= name in COLLECTING
    found = derived(arguments)
    _note_failure(reading, name, found)
    return found


def _note_failure(reading: Reading, name: str, found: Value) -> None:
    """A function that may fail for some stored value answers a question by failing."""
    if found.discloses and name not in TOTAL:
        reading.note(found, PredicateUse.COMPUTED)


def _aggregate(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    reading.collects |= node.key in COLLECTING
    if node.key in SAFE_AGGREGATES:
        return union(_counted(reading, scope, node))
    if node.key == "arrayagg":
        _element(reading, value(reading, scope, node.this))
    found = derived(parts(reading, scope, node))
    _note_failure(reading, node.key, found)
    return found


def _counted(reading: Reading, scope: Scope, node: exp.Expr) -> list[Value]:
    if isinstance(node.this, exp.Distinct):
        arguments = [value(reading, scope, item) for item in node.this.expressions]
        for argument in arguments:
            reading.note_use(argument, PredicateUse.GROUP)
    else:
        arguments = [] if isinstance(node.this, exp.Star) else [value(reading, scope, node.this)]
    return [safe(argument) for argument in (*arguments, *(value(reading, scope, i) for i in node.expressions))]


def _count_if(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return condition(reading, scope, node.this)


def _window(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """A window function tells about what partitions and orders its window."""
    found = [value(reading, scope, node.this)]
    named = node.args.get("alias")
    if named is not None:
        name = named.name.lower()
        if name not in scope.windows:
            reading.problem("a window function without its window")
        found.append(scope.windows.get(name, NOTHING))
    found += window_parts(reading, scope, node)
    deciding = derived(found[1:])
    return Value(found[0].origins | deciding.origins) if deciding.origins else found[0]


def window_parts(reading: Reading, scope: Scope, node: exp.Expr) -> list[Value]:
    order, spec = node.args.get("order"), node.args.get("spec")
    keys = [*(node.args.get("partition_by") or []), *(order.expressions if order is not None else [])]
    found = [value(reading, scope, item) for item in keys]
    return found if spec is None else [*found, *parts(reading, scope, spec)]


def _ordered_argument(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """ORDER BY inside an aggregate or a window."""
    keys = [value(reading, scope, item.this) for item in node.expressions]
    for key in keys:
        reading.note(key, PredicateUse.COMPUTED)
    return derived([value(reading, scope, node.this), *keys])


def _subquery(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    found = reading.rows_of(node, scope).scalar()
    # The value may be stored; which row it came from is a computation, so it never joins as a stored one.
    return Value(found.origins, fields=found.fields, names=found.names)


def _exists(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    with reading.own_predicates() as deciding:
        reading.rows_of(node.this, scope)
    return Value(frozenset(Origin(predicate.column, Transform.DERIVED) for predicate in deciding))


def _in(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    subject = value(reading, scope, node.this)
    query = node.args.get("query")
    if query is not None:
        with reading.own_predicates() as deciding:
            inner = reading.rows_of(query, scope).scalar()
        steering = Value(frozenset(Origin(predicate.column, Transform.DERIVED) for predicate in deciding))
        _note_match(reading, subject, inner)
        return derived([subject, inner, steering])
    unnest = node.args.get("unnest")
    others = [value(reading, scope, item) for item in node.expressions]
    others += [value(reading, scope, item) for item in unnest.expressions] if unnest is not None else []
    for other in others or [NOTHING]:
        _note_match(reading, subject, other)
    return derived([subject, *others])


def _case(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    subject = value(reading, scope, node.this)
    found = [subject]
    reading.note_use(subject, PredicateUse.COMPARISON)
    for branch in node.args.get("ifs") or []:
        found.append(condition(reading, scope, branch.this))
        found.append(value(reading, scope, branch.args.get("true")))
    found.append(value(reading, scope, node.args.get("default")))
    return derived(found)


def _if(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    deciding = condition(reading, scope, node.this)
    arms = [value(reading, scope, node.args.get(name)) for name in ("true", "false")]
    return derived([deciding, *arms])


def _null_test(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    if isinstance(node.expression, exp.Null):
        return safe(value(reading, scope, node.this))
    return _generic(reading, scope, node)


def _system_variable(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """`@name` is a parameter; of the `@@name` only those that hold no text of errors are known."""
    if isinstance(node.this, exp.Parameter) and node.this.name.lower() not in ("row_count", "time_zone", "script"):
        reading.problem("a system variable that is not known, or that quotes errors")
    return NOTHING


# --- conditions ------------------------------------------------------------------------------------------------------


def _note_match(reading: Reading, one: Value, other: Value) -> None:
    joins = all(side.stored and side.origins for side in (one, other))
    for side, against in ((one, other), (other, one)):
        if joins:
            reading.note(side, PredicateUse.JOIN_EQUALITY, against)
        else:
            reading.note_use(side, PredicateUse.COMPARISON)


def _boolean(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return derived(condition(reading, scope, item) for item in below(node))


def _equality(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    sides = [value(reading, scope, node.this), value(reading, scope, node.expression)]
    _note_match(reading, sides[0], sides[1])
    return derived(sides)


def _comparison(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    sides = parts(reading, scope, node)
    for side in sides:
        reading.note_use(side, PredicateUse.COMPARISON)
    return derived(sides)


def _null_condition(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    if not isinstance(node.expression, exp.Null):
        return _comparison(reading, scope, node)
    tested = value(reading, scope, node.this)
    kept = safe(tested)
    is_safe = all(origin.transform is Transform.SAFE for origin in kept.origins)
    reading.note(tested, PredicateUse.NULL_TEST if is_safe else PredicateUse.COMPUTED)
    return kept


_CONSTANTS: tuple[type[exp.Expr], ...] = (
    exp.Literal,
    exp.Boolean,
    exp.Null,
    exp.Placeholder,
    exp.DataType,
    exp.Var,
    exp.RawString,
    exp.ByteString,
    exp.HexString,
    exp.BitString,
    exp.JSONPath,
    exp.Star,
    exp.Grouping,
)
_VALUES: dict[type[exp.Expr], Handler] = {
    **dict.fromkeys(_CONSTANTS, _nothing),
    exp.Parameter: _system_variable,
    exp.Column: _column,
    exp.Identifier: _identifier,
    exp.Dot: _dot,
    exp.Bracket: _bracket,
    exp.Paren: _same,
    exp.Alias: _alias,
    exp.Struct: _struct,
    exp.Array: _array,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Anonymous: _anonymous,
    exp.AnonymousAggFunc: _anonymous,
    exp.CountIf: _count_if,
    exp.Window: _window,
    exp.Order: _ordered_argument,
    exp.Ordered: _same,
    exp.Limit: _generic,
    exp.Distinct: _generic,
    exp.Tuple: _generic,
    exp.HavingMax: _generic,
    exp.IgnoreNulls: _same,
    exp.RespectNulls: _same,
    exp.Interval: _generic,
    exp.SafeFunc: _generic,
    exp.NetFunc: _generic,
    exp.Subquery: _subquery,
    exp.Select: _subquery,
    exp.Union: _subquery,
    exp.Except: _subquery,
    exp.Intersect: _subquery,
    exp.Exists: _exists,
    exp.In: _in,
    exp.Case: _case,
    exp.If: _if,
    exp.Is: _null_test,
    exp.Between: _generic,
    exp.Any: _generic,
    exp.All: _generic,
    exp.AtTimeZone: _function,
    exp.Kwarg: lambda reading, scope, node: value(reading, scope, node.expression),
}
_CONDITIONS: dict[type[exp.Expr], Handler] = {
    exp.And: _boolean,
    exp.Or: _boolean,
    exp.Not: _boolean,
    exp.Paren: lambda reading, scope, node: condition(reading, scope, node.this),
    exp.EQ: _equality,
    exp.In: _in,
    exp.Is: _null_condition,
    exp.Exists: _exists,
    **dict.fromkeys(
        (exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.Like, exp.NullSafeEQ, exp.NullSafeNEQ),
        _comparison,
    ),
}
