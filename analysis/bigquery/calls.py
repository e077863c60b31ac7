"""Functions, aggregates and windows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sqlglot import exp

from analysis.bigquery.failing import may_fail, note_failure
from analysis.bigquery.functions import (
    BUILTIN,
    COLLECTING,
    FAILS_BY,
    READS_TIME,
    SAFE_AGGREGATES,
    TIMES,
    TOTAL_OF_STORED,
)
from analysis.bigquery.reading import Reading, Scope
from analysis.bigquery.walk import below, condition, parts, value
from analysis.scope import NOTHING, Value, derived, safe, union
from analysis.statement import PredicateUse


def function(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    reading.collects |= node.key in COLLECTING
    arguments = parts(reading, scope, node)
    found = derived(arguments)
    name = "to_json" if node.args.get("to_json") else node.key  # sqlglot's JSONFormat is TO_JSON_STRING too
    fails_by = name in FAILS_BY or name in READS_TIME
    if fails_by:
        reading.note(derived(_failing(reading, scope, node)), PredicateUse.COMPUTED)
    if not fails_by or name in TOTAL_OF_STORED:
        note_failure(reading, name, found, arguments)
    return found


def short_circuit(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """AND, OR, COALESCE and BETWEEN decide by one part whether another is run: if that one may fail, they tell."""
    items = list(below(node))
    found = [value(reading, scope, item) for item in items]
    if any(may_fail(item, partial(is_stored, reading, scope)) for item in items):
        for each in found:
            # Whether a stored value is NULL is no secret; COALESCE asks for nothing else of it.
            if not isinstance(node, exp.Coalesce) or not each.stored:
                reading.note(each, PredicateUse.COMPUTED)
    return derived(found)


def formatted(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """A width or a precision that stands among the arguments (`%*d`) may be none."""
    if not isinstance(node.this, exp.Literal) or "*" in node.this.name:
        reading.note(derived(parts(reading, scope, node)), PredicateUse.COMPUTED)
    return function(reading, scope, node)


def json_object(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """A key that is NULL is an error."""
    pairs = [item for item in node.expressions if isinstance(item, exp.JSONKeyValue)]
    if len(pairs) != len(list(below(node))):
        reading.problem("JSON_OBJECT of a kind that is not known")
        return derived(parts(reading, scope, node))
    keys = [value(reading, scope, pair.this) for pair in pairs]
    values = [value(reading, scope, pair.expression) for pair in pairs]
    reading.note(derived(keys), PredicateUse.COMPUTED)
    found = derived([*keys, *values])
    note_failure(reading, node.key, found, values)
    return found


def is_stored(reading: Reading, scope: Scope, node: exp.Expr) -> bool:
    """Whether `node` is a column as some table stores it."""
    return value(reading, scope, node).stored


def _failing(reading: Reading, scope: Scope, node: exp.Expr) -> Iterator[Value]:
    """The arguments a function of known limits may fail by."""
    for name in FAILS_BY.get(node.key, ()):
        yield value(reading, scope, node.args.get(name))
    if node.key in READS_TIME:
        read = value(reading, scope, node.this)
        types = {reading.definitions.types.get(origin.column) for origin in read.origins}
        if not (read.stored and types <= TIMES):
            yield read


def called(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    name = str(node.name).lower()
    arguments = [value(reading, scope, item) for item in node.expressions]
    if name in reading.local_functions or "." in name:
        return reading.call(str(node.name).split("."), arguments)
    if name not in BUILTIN:
        reading.problem("calls a function that is not known")
    reading.collects |= name in COLLECTING
    found = derived(arguments)
    note_failure(reading, name, found, arguments)
    return found


def aggregate(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    reading.collects |= node.key in COLLECTING
    if node.key in SAFE_AGGREGATES:
        return union(_counted(reading, scope, node))
    if node.key == "arrayagg":
        element_of(reading, value(reading, scope, node.this))
    arguments = parts(reading, scope, node)
    found = derived(arguments)
    note_failure(reading, node.key, found, arguments)
    return found


def _counted(reading: Reading, scope: Scope, node: exp.Expr) -> list[Value]:
    if isinstance(node.this, exp.Distinct):
        arguments = [value(reading, scope, item) for item in node.this.expressions]
        for argument in arguments:
            reading.note_use(argument, PredicateUse.GROUP)
    else:
        arguments = [] if isinstance(node.this, exp.Star) else [value(reading, scope, node.this)]
    return [safe(argument) for argument in (*arguments, *(value(reading, scope, i) for i in node.expressions))]


def count_if(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return condition(reading, scope, node.this)


def window(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
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


def ordered_argument(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """ORDER BY inside an aggregate or a window."""
    keys = [value(reading, scope, item.this) for item in node.expressions]
    for key in keys:
        reading.note(key, PredicateUse.COMPUTED)
    return derived([value(reading, scope, node.this), *keys])


def element_of(reading: Reading, found: Value) -> Value:
    """A result cannot hold an array with a NULL ("Array type"): one that was computed answers by failing."""
    if found.fields is None and not found.stored:
        reading.note(found, PredicateUse.COMPUTED)
    return found
