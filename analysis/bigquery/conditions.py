"""Expressions that decide: comparisons, membership, CASE, and which columns they are steered by."""

from __future__ import annotations

from sqlglot import exp

from analysis.bigquery.reading import Reading, Scope
from analysis.bigquery.walk import below, condition, generic, parts, value
from analysis.scope import NOTHING, Value, derived, safe
from analysis.statement import Origin, PredicateUse, Transform


def exists(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    with reading.own_predicates() as deciding:
        reading.rows_of(node.this, scope)
    return Value(frozenset(Origin(predicate.column, Transform.DERIVED) for predicate in deciding))


def membership(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
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


def case(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    subject = value(reading, scope, node.this)
    found = [subject]
    reading.note_use(subject, PredicateUse.COMPARISON)
    for branch in node.args.get("ifs") or []:
        found.append(condition(reading, scope, branch.this))
        found.append(value(reading, scope, branch.args.get("true")))
    found.append(value(reading, scope, node.args.get("default")))
    return derived(found)


def conditional(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    deciding = condition(reading, scope, node.this)
    arms = [value(reading, scope, node.args.get(name)) for name in ("true", "false")]
    return derived([deciding, *arms])


def null_test(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    if isinstance(node.expression, exp.Null):
        return safe(value(reading, scope, node.this))
    return generic(reading, scope, node)


def _note_match(reading: Reading, one: Value, other: Value) -> None:
    joins = all(side.stored and side.origins for side in (one, other))
    for side, against in ((one, other), (other, one)):
        if joins:
            reading.note(side, PredicateUse.JOIN_EQUALITY, against)
        else:
            reading.note_use(side, PredicateUse.COMPARISON)


def boolean(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    return derived(condition(reading, scope, item) for item in below(node))


def equality(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    sides = [value(reading, scope, node.this), value(reading, scope, node.expression)]
    _note_match(reading, sides[0], sides[1])
    return derived(sides)


def comparison(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    sides = parts(reading, scope, node)
    for side in sides:
        reading.note_use(side, PredicateUse.COMPARISON)
    return derived(sides)


def null_condition(reading: Reading, scope: Scope, node: exp.Expr) -> Value:
    if not isinstance(node.expression, exp.Null):
        return comparison(reading, scope, node)
    tested = value(reading, scope, node.this)
    kept = safe(tested)
    is_safe = all(origin.transform is Transform.SAFE for origin in kept.origins)
    reading.note(tested, PredicateUse.NULL_TEST if is_safe else PredicateUse.COMPUTED)
    return kept
