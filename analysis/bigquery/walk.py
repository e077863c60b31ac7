"""The walk over an expression: what its value is made of, and what it decides as a condition.

Which kinds of nodes there are, and what each means, stands in the tables of `expressions`, which fills these here: a
node's meaning is made of the meanings below it. A node of another kind is a problem, never a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from analysis.bigquery.reading import Reading, Scope
from analysis.scope import NOTHING, Value, derived
from analysis.statement import PredicateUse

Handler = Callable[[Reading, Scope, exp.Expr], Value]

VALUES: dict[type[exp.Expr], Handler] = {}
CONDITIONS: dict[type[exp.Expr], Handler] = {}
KINDS: list[tuple[type[exp.Expr] | tuple[type[exp.Expr], ...], Handler]] = []  # of nodes the first table does not name


def value(reading: Reading, scope: Scope, node: exp.Expr | None) -> Value:
    """Return what `node` is made of."""
    if node is None:
        return NOTHING
    with reading.deeper():
        handler = VALUES.get(type(node)) or next((each for kind, each in KINDS if isinstance(node, kind)), None)
        if handler is not None:
            return handler(reading, scope, node)
        reading.problem(f"an expression of a kind that is not known ({node.key})")
        return derived(parts(reading, scope, node))


def condition(reading: Reading, scope: Scope, node: exp.Expr | None) -> Value:
    """Record the columns that decide about `node`, and return its value for those who return it as well."""
    if node is None:
        return NOTHING
    handler = CONDITIONS.get(type(node))
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


def same(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return value(reading, scope, node.this)


def generic(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    """Computed from everything below."""
    return derived(parts(reading, scope, node))
