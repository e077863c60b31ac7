"""What an expression of a stored tree discloses, and which columns a condition is steered by.

`value` answers for an expression in an output, `condition` for one that decides about rows. Both walk by a table of
node tags; a tag that is in neither table is a problem, never a constant.
"""

from __future__ import annotations

from collections.abc import Callable

from analysis.bodies import Body
from analysis.brought import is_settled, may_fail_by_chance
from analysis.functions import SAFE_AGGREGATES, SAFE_FUNCTIONS, SIZE_FUNCTIONS
from analysis.making import remade
from analysis.nodes import Node, children
from analysis.scope import BOTTOM, NOTHING, Level, Reading, Value, derived, row, safe, stored, union
from analysis.statement import Origin, PredicateUse, Transform
from analysis.totality import (
    TEXT_TYPES,
    averages,
    called,
    is_total,
    is_total_construct,
    keeps_present,
    keeps_steady,
    may_act,
    may_overflow,
)

_EXISTS, _EXPR, _MULTIEXPR, _ARRAY = 0, 4, 5, 6  # SubLinkType (src/include/nodes/primnodes.h)
_PARAM_SUBLINK, _PARAM_MULTIEXPR = 2, 3


def value(reading: Reading, level: Level, node: Node | None) -> Value:
    """Return what `node` is made of."""
    if node is None:
        return NOTHING
    handler = _VALUES.get(node.tag)
    if handler is None:
        reading.problems.add(f"an expression of a kind that is not known ({node.tag.lower()})")
        return derived(_parts(reading, level, node))
    return handler(reading, level, node)


def condition(reading: Reading, level: Level, node: Node | None) -> Value:
    """Record the columns that decide about `node`, and return its value for those who return it as well."""
    if node is None:
        return NOTHING
    handler = _CONDITIONS.get(node.tag)
    if handler is not None:
        return handler(reading, level, node)
    found = value(reading, level, node)
    reading.note(found, PredicateUse.COMPARISON if found.stored else PredicateUse.COMPUTED)
    return derived([found])


def _parts(reading: Reading, level: Level, node: Node) -> list[Value]:
    return [value(reading, level, child) for child in children(node)]


# --- values ----------------------------------------------------------------------------------------------------------


def _var(reading: Reading, level: Level, node: Node) -> Value:
    home = level.above(node.number("varlevelsup"))
    return reading.column_of(home, home.entry(node.number("varno")), node.number("varattno"))


def _constant(_reading: Reading, _level: Level, node: Node) -> Value:
    return BOTTOM if node.flag("constisnull") else NOTHING


def _nothing(_reading: Reading, _level: Level, _node: Node) -> Value:
    return NOTHING


def _param(reading: Reading, level: Level, node: Node) -> Value:
    if node.number("paramkind") == _PARAM_MULTIEXPR:
        return _assigned_part(reading, level, node.number("paramid"))
    if node.number("paramkind") != _PARAM_SUBLINK or not reading.sublink_rows:
        return NOTHING
    outputs, index = reading.sublink_rows[-1], node.number("paramid") - 1
    return outputs[index] if 0 <= index < len(outputs) else derived(outputs)


def _assigned_part(reading: Reading, level: Level, number: int) -> Value:
    """One column of the subquery in `SET (a, b) = (SELECT …)`: its number is (subLinkId << 16) | column."""
    query = level.query
    conflict = query.node("onConflict")
    lists = [query.nodes("targetList"), conflict.nodes("onConflictSet") if conflict is not None else []]
    lists += [action.nodes("targetList") for action in query.nodes("mergeActionList")]
    links = [link for entries in lists for entry in entries if (link := entry.node("expr")) is not None]
    found = []
    for link in links:
        subselect = link.node("subselect") if link.tag == "SUBLINK" else None
        if subselect is None or (link.number("subLinkType"), link.number("subLinkId")) != (_MULTIEXPR, number >> 16):
            continue
        outputs, index = reading.outputs_of(Level(subselect, level)), (number & 0xFFFF) - 1
        found.append(outputs[index] if 0 <= index < len(outputs) else derived(outputs))
    if not found:
        reading.problems.add("a part of a row that is assigned by a subquery nobody found")
    return union(found)


def _same(reading: Reading, level: Level, node: Node) -> Value:
    return value(reading, level, node.node("arg"))


def _generic(reading: Reading, level: Level, node: Node) -> Value:
    return derived(_parts(reading, level, node))


def _partial(reading: Reading, level: Level, node: Node) -> Value:
    """May fail for some stored value: then the error itself is an answer."""
    found = derived(_parts(reading, level, node))
    reading.note(found, PredicateUse.COMPUTED)
    return found


def _short_circuit(reading: Reading, level: Level, node: Node) -> Value:
    """AND, OR and COALESCE decide by one part whether another is run: if that one can fail or act, they tell."""
    parts = node.nodes("args")
    found = [value(reading, level, item) for item in parts]
    if len(parts) > 1 and any(may_act(reading, item) for item in parts):
        for each in found:
            # Whether a stored value is NULL is no secret; COALESCE asks for nothing else of it.
            if node.tag == "BOOLEXPR" or not each.stored:
                reading.note(each, PredicateUse.COMPUTED)
    return remade(derived(found), present=node.tag != "BOOLEXPR" and all(each.is_present for each in found))


def _row_comparison_value(reading: Reading, level: Level, node: Node) -> Value:
    """Pairs are compared from the left until two differ: that the next were run tells that these are alike."""
    left, right = node.nodes("largs"), node.nodes("rargs")
    found = _construct(reading, level, node)
    if any(may_act(reading, item) for item in (*left[1:], *right[1:])):
        reading.note(found, PredicateUse.COMPUTED)
    return found


def _subscript(reading: Reading, level: Level, node: Node) -> Value:
    """Of a container that is NULL no subscript is run."""
    container = value(reading, level, node.node("refexpr"))
    subscripts = (*node.nodes("refupperindexpr"), *node.nodes("reflowerindexpr"))
    if not container.is_present and any(may_act(reading, item) for item in subscripts):
        reading.note(container, PredicateUse.COMPUTED)
    return _construct(reading, level, node)


def _function(reading: Reading, level: Level, node: Node) -> Value:
    arguments = [value(reading, level, item) for item in node.nodes("args")]
    body = reading.body_of(node.number("funcid"))
    if body is not None:
        return _user_function(reading, node.number("funcid"), body, arguments)
    found = derived(arguments)
    name = reading.builtin_name(node.number("funcid"))
    if name in SIZE_FUNCTIONS:
        return Value(found.origins | reading.filled())
    if name in SAFE_FUNCTIONS and len(arguments) == 1:
        return safe(arguments[0])
    if found.discloses and (not is_total(node, name, arguments) or may_fail_by_chance(reading, node, name, arguments)):
        reading.note(found, PredicateUse.COMPUTED)
        return found
    present = keeps_present(name) and all(argument.is_present for argument in arguments)
    return remade(found, steady=keeps_steady(node, name), present=present)


def _user_function(reading: Reading, oid: int, body: Body, arguments: list[Value]) -> Value:
    """Made of its arguments and of all it reads. Which rows it reads, and whether it fails, follows the arguments."""
    reading.followed.add(oid)
    reading.reads |= body.columns
    reading.beneath |= body.relations
    found = derived([*arguments, stored(body.columns, joinable=False)])
    reading.note(found, PredicateUse.COMPUTED)
    return found


def _construct(reading: Reading, level: Level, node: Node) -> Value:
    parts = _parts(reading, level, node)
    found = derived(parts)
    if found.discloses and (
        not is_total_construct(reading, node) or may_fail_by_chance(reading, node, called(reading, node), parts)
    ):
        reading.note(found, PredicateUse.COMPUTED)
    joins = node.tag == "OPEXPR" and reading.operator_name(node.number("opno")) == "||"
    return remade(found, present=joins and all(part.is_present for part in parts))


def _coerce_via_io(reading: Reading, level: Level, node: Node) -> Value:
    converted = value(reading, level, node.node("arg"))
    found = remade(derived([converted]), present=converted.is_present)
    if node.text("resulttype") not in TEXT_TYPES:
        reading.note(found, PredicateUse.COMPUTED)
    return found


def _is_json(reading: Reading, level: Level, node: Node) -> Value:
    """What is nested deeply enough is no answer but an error. Nobody chose how a stored value is nested."""
    read = value(reading, level, node.node("expr"))
    found = derived([read])
    if not is_settled(read):
        reading.note(found, PredicateUse.COMPUTED)
    return found


def _coerce_to_domain(reading: Reading, level: Level, node: Node) -> Value:
    found = _same(reading, level, node)
    reading.note(found, PredicateUse.COMPUTED)
    return found


def _aggregate(reading: Reading, level: Level, node: Node) -> Value:
    entries = node.nodes("args")
    arguments = [value(reading, level, entry.node("expr")) for entry in entries]
    direct = [value(reading, level, item) for item in node.nodes("aggdirectargs")]
    _note_sorted(reading, node.nodes("aggdistinct"), entries, arguments, PredicateUse.GROUP)
    _note_sorted(reading, node.nodes("aggorder"), entries, arguments, PredicateUse.COMPUTED)
    deciding = condition(reading, level, node.node("aggfilter"))
    name = reading.builtin_name(node.number("aggfnoid"))
    if name in SAFE_AGGREGATES:
        kept = [safe(argument) for argument in arguments]
        return _with_decision(union(kept), deciding)
    found = derived([*arguments, *direct])
    if found.discloses and not _is_total_over_rows(reading, node, name, arguments):
        reading.note(found, PredicateUse.COMPUTED)
    # How many rows there are to make it of is decided by conditions, and noted with them.
    present = keeps_present(name) and all(argument.is_present for argument in arguments)
    return remade(_with_decision(found, deciding), present=present, steady=_is_steady(reading, name, arguments))


def _is_steady(reading: Reading, name: str, arguments: list[Value]) -> bool:
    made = all(argument.stored or argument.steady or not argument.discloses for argument in arguments)
    return averages(name) and made and reading.is_one_column(arguments)


def _is_total_over_rows(reading: Reading, node: Node, name: str, arguments: list[Value]) -> bool:
    if may_overflow(node) and not reading.is_one_column(arguments):
        return False
    return is_total(node, name, arguments) and not may_fail_by_chance(reading, node, name, arguments)


def _window_function(reading: Reading, level: Level, node: Node) -> Value:
    arguments = [value(reading, level, item) for item in node.nodes("args")]
    deciding = derived([condition(reading, level, node.node("aggfilter")), *_framed_by(reading, level, node)])
    name = reading.builtin_name(node.number("winfnoid"))
    if name in SAFE_AGGREGATES:
        return _with_decision(union([safe(argument) for argument in arguments]), deciding)
    found = derived(arguments)
    if found.discloses and not _is_total_over_rows(reading, node, name, arguments):
        reading.note(found, PredicateUse.COMPUTED)
    return remade(_with_decision(found, deciding), steady=_is_steady(reading, name, arguments))


def _framed_by(reading: Reading, level: Level, node: Node) -> list[Value]:
    """What partitions and orders the function's window: rank() tells the order of the values it ranks."""
    window = next((w for w in level.query.nodes("windowClause") if w.number("winref") == node.number("winref")), None)
    if window is None:
        reading.problems.add("a window function without its window")
        return []
    clauses = (*window.nodes("partitionClause"), *window.nodes("orderClause"))
    wanted = {clause.text("tleSortGroupRef") for clause in clauses}
    entries = [entry for entry in level.query.nodes("targetList") if entry.text("ressortgroupref") in wanted]
    offsets = [value(reading, level, window.node(name)) for name in ("startOffset", "endOffset")]
    return [*(value(reading, level, entry.node("expr")) for entry in entries), *offsets]


def _with_decision(found: Value, deciding: Value) -> Value:
    """An output that a condition decided about tells about the condition's columns (implicit flow)."""
    return Value(found.origins | derived([deciding]).origins)


def _note_sorted(
    reading: Reading, clauses: list[Node], entries: list[Node], values: list[Value], use: PredicateUse
) -> None:
    wanted = {clause.text("tleSortGroupRef") for clause in clauses}
    for entry, found in zip(entries, values, strict=True):
        if entry.text("ressortgroupref") in wanted:
            reading.note(found, use if found.stored else PredicateUse.COMPUTED)


def _null_test(reading: Reading, level: Level, node: Node) -> Value:
    return safe(_same(reading, level, node))


def _case(reading: Reading, level: Level, node: Node) -> Value:
    subject = value(reading, level, node.node("arg"))
    reading.note(subject, PredicateUse.COMPARISON if subject.stored else PredicateUse.COMPUTED)
    found = [subject]
    for when in node.nodes("args"):
        found.append(condition(reading, level, when.node("expr")))
        found.append(value(reading, level, when.node("result")))
    found.append(value(reading, level, node.node("defresult")))
    return derived(found)


def _row(reading: Reading, level: Level, node: Node) -> Value:
    return row(value(reading, level, item) for item in node.nodes("args"))


def _field(reading: Reading, level: Level, node: Node) -> Value:
    found, index = _same(reading, level, node), node.number("fieldnum") - 1
    if found.fields is not None and 0 <= index < len(found.fields):
        return found.fields[index]
    return derived([found])


def _sublink(reading: Reading, level: Level, node: Node) -> Value:
    subselect = node.node("subselect")
    if subselect is None:
        reading.problems.add("a subquery that cannot be read")
        return NOTHING
    kind = node.number("subLinkType")
    inner = Level(subselect, level)
    if kind == _EXPR:
        outputs = reading.outputs_of(inner)
        # The value may be stored; which row it came from is a computation, so it never joins as a stored one.
        if not outputs:
            return NOTHING
        shown = outputs[0]
        return Value(shown.origins, fields=shown.fields, present=shown.is_present, mixed=shown.mixed)
    if kind == _ARRAY:
        return derived(reading.outputs_of(inner))
    with reading.own_predicates() as deciding:
        outputs = reading.outputs_of(inner)
        reading.sublink_rows.append(outputs)
        try:
            tested = condition(reading, level, node.node("testexpr"))
        finally:
            reading.sublink_rows.pop()
    steering = Value(frozenset(Origin(predicate.column, Transform.DERIVED) for predicate in deciding))
    return derived([tested, steering] if kind == _EXISTS else [tested, steering, *outputs])


# --- conditions ------------------------------------------------------------------------------------------------------


def _boolean(reading: Reading, level: Level, node: Node) -> Value:
    return derived([condition(reading, level, item) for item in node.nodes("args")])


def _comparison(reading: Reading, level: Level, node: Node) -> Value:
    sides = [value(reading, level, item) for item in node.nodes("args")]
    joins = (
        node.tag == "OPEXPR"
        and len(sides) == 2
        and reading.operator_name(node.number("opno")) == "="
        and all(side.stored and side.origins for side in sides)
    )
    for side, other in zip(sides, reversed(sides), strict=True):
        if joins:
            reading.note(side, PredicateUse.JOIN_EQUALITY, against=other)
        else:
            reading.note(side, PredicateUse.COMPARISON if side.stored else PredicateUse.COMPUTED)
    return derived(sides)


def _row_comparison(reading: Reading, level: Level, node: Node) -> Value:
    sides = [value(reading, level, item) for item in (*node.nodes("largs"), *node.nodes("rargs"))]
    for side in sides:
        reading.note(side, PredicateUse.COMPARISON if side.stored else PredicateUse.COMPUTED)
    return derived(sides)


def _null_condition(reading: Reading, level: Level, node: Node) -> Value:
    tested = _same(reading, level, node)
    kept = safe(tested)
    is_safe = all(origin.transform is Transform.SAFE for origin in kept.origins)
    reading.note(tested, PredicateUse.NULL_TEST if is_safe else PredicateUse.COMPUTED)
    return kept


def _sublink_condition(reading: Reading, level: Level, node: Node) -> Value:
    found = _sublink(reading, level, node)
    if node.number("subLinkType") in (_EXPR, _ARRAY):
        reading.note(found, PredicateUse.COMPUTED)
    return found


_Handler = Callable[[Reading, Level, Node], Value]
_VALUES: dict[str, _Handler] = {
    "VAR": _var,
    "CONST": _constant,
    "PARAM": _param,
    "CASETESTEXPR": _nothing,
    "COERCETODOMAINVALUE": _nothing,
    "SETTODEFAULT": _nothing,
    "CURRENTOFEXPR": _nothing,
    "SQLVALUEFUNCTION": _nothing,
    "NEXTVALUEEXPR": _nothing,
    "MERGESUPPORTFUNC": _nothing,
    "GROUPINGFUNC": _nothing,  # which grouping set, not which value
    "RELABELTYPE": _same,
    "COLLATEEXPR": _same,
    "NAMEDARGEXPR": _same,
    "RETURNINGEXPR": lambda reading, level, node: value(reading, level, node.node("retexpr")),
    "TARGETENTRY": lambda reading, level, node: value(reading, level, node.node("expr")),
    "FUNCEXPR": _function,
    "OPEXPR": _construct,
    "DISTINCTEXPR": _construct,
    "NULLIFEXPR": _construct,
    "SCALARARRAYOPEXPR": _construct,
    "ROWCOMPAREEXPR": _row_comparison_value,
    "ROWCOMPARE": _row_comparison_value,
    "BOOLEXPR": _short_circuit,
    "BOOLEANTEST": _generic,
    "COALESCEEXPR": _short_circuit,
    "COALESCE": _short_circuit,
    "MINMAXEXPR": _construct,
    "MINMAX": _construct,
    "ARRAYEXPR": _construct,
    "ARRAY": _construct,
    "SUBSCRIPTINGREF": _subscript,
    "FIELDSTORE": _generic,
    "CONVERTROWTYPEEXPR": _generic,
    "ARRAYCOERCEEXPR": _partial,
    "XMLEXPR": _partial,
    "JSONVALUEEXPR": _generic,
    "JSONCONSTRUCTOREXPR": _partial,
    "JSONRETURNING": _nothing,
    "JSONFORMAT": _nothing,
    "JSONISPREDICATE": _is_json,
    "JSONEXPR": _partial,
    "JSONBEHAVIOR": _generic,
    "JSONTABLEPATH": _generic,
    "JSONTABLEPATHSCAN": _generic,
    "JSONTABLESIBLINGJOIN": _generic,
    "COERCEVIAIO": _coerce_via_io,
    "COERCETODOMAIN": _coerce_to_domain,
    "AGGREF": _aggregate,
    "WINDOWFUNC": _window_function,
    "NULLTEST": _null_test,
    "CASEEXPR": _case,
    "CASE": _case,
    "ROWEXPR": _row,
    "ROW": _row,
    "FIELDSELECT": _field,
    "SUBLINK": _sublink,
}
_CONDITIONS: dict[str, _Handler] = {
    "BOOLEXPR": _boolean,
    "OPEXPR": _comparison,
    "DISTINCTEXPR": _comparison,
    "SCALARARRAYOPEXPR": _comparison,
    "ROWCOMPAREEXPR": _row_comparison,
    "ROWCOMPARE": _row_comparison,
    "NULLTEST": _null_condition,
    "BOOLEANTEST": lambda reading, level, node: condition(reading, level, node.node("arg")),
    "SUBLINK": _sublink_condition,
}
