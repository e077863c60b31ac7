"""What an expression of GoogleSQL discloses, and which columns a condition is steered by: the tables of meanings.

The twin of `analysis.expressions` over sqlglot's tree: the rules are the same and share their words (`analysis.scope`),
the trees are not. Kinds of nodes are an allow-list; a node of another kind is a problem, never a constant.
"""

from __future__ import annotations

from sqlglot import exp

from analysis.bigquery import calls, conditions, paths
from analysis.bigquery.calls import window_parts
from analysis.bigquery.reading import Reading, Scope
from analysis.bigquery.walk import CONDITIONS, KINDS, VALUES, below, condition, generic, same, value
from analysis.scope import NOTHING, Value

__all__ = ["below", "condition", "value", "window_parts"]


def _nothing(_reading: Reading, _scope: Scope, _node: exp.Expr) -> Value:
    return NOTHING


def _subquery(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    found = reading.rows_of(node, scope).scalar()
    # The value may be stored; which row it came from is a computation, so it never joins as a stored one.
    return Value(found.origins, fields=found.fields, names=found.names)


def _system_variable(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """`@name` is a parameter; of the `@@name` only those that hold no text of errors are known."""
    if isinstance(node.this, exp.Parameter) and node.this.name.lower() not in ("row_count", "time_zone", "script"):
        reading.problem("a system variable that is not known, or that quotes errors")
    return NOTHING


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
VALUES.update(
    {
        **dict.fromkeys(_CONSTANTS, _nothing),
        exp.Parameter: _system_variable,
        exp.Column: paths.column,
        exp.Identifier: paths.identifier,
        exp.Dot: paths.step,
        exp.Bracket: paths.subscript,
        exp.Paren: same,
        exp.Alias: paths.aliased,
        exp.Struct: paths.struct,
        exp.Array: paths.array,
        exp.Cast: paths.cast,
        exp.TryCast: paths.cast,
        exp.Anonymous: calls.called,
        exp.AnonymousAggFunc: calls.called,
        exp.CountIf: calls.count_if,
        exp.Window: calls.window,
        exp.Order: calls.ordered_argument,
        exp.Ordered: same,
        exp.Limit: generic,
        exp.Distinct: generic,
        exp.Tuple: generic,
        exp.HavingMax: generic,
        exp.IgnoreNulls: same,
        exp.RespectNulls: same,
        exp.Interval: calls.function,
        exp.SafeFunc: generic,
        exp.NetFunc: generic,
        exp.Subquery: _subquery,
        exp.Select: _subquery,
        exp.Union: _subquery,
        exp.Except: _subquery,
        exp.Intersect: _subquery,
        exp.Exists: conditions.exists,
        exp.In: conditions.membership,
        exp.Case: conditions.case,
        exp.If: conditions.conditional,
        exp.Is: conditions.null_test,
        exp.Between: calls.short_circuit,
        exp.And: calls.short_circuit,
        exp.Or: calls.short_circuit,
        exp.Coalesce: calls.short_circuit,
        exp.Format: calls.formatted,
        exp.JSONObject: calls.json_object,
        exp.Any: generic,
        exp.All: generic,
        exp.AtTimeZone: calls.function,
        exp.Kwarg: lambda reading, scope, node: value(reading, scope, node.expression),
    }
)
CONDITIONS.update(
    {
        exp.And: conditions.boolean,
        exp.Or: conditions.boolean,
        exp.Not: conditions.boolean,
        exp.Paren: lambda reading, scope, node: condition(reading, scope, node.this),
        exp.EQ: conditions.equality,
        exp.In: conditions.membership,
        exp.Is: conditions.null_condition,
        exp.Exists: conditions.exists,
    }
)
for _compares in (exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.Like, exp.NullSafeEQ, exp.NullSafeNEQ):
    CONDITIONS[_compares] = conditions.comparison
KINDS.extend([(exp.AggFunc, calls.aggregate), ((exp.Func, exp.Binary, exp.Unary), calls.function)])
