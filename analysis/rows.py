"""How many rows a statement may hand out: bounds that are proven from its stored tree, never guessed.

A result row that collects others (json_agg, ARRAY(SELECT …), a recursive concatenation) counts as all it may carry, so
that no bulk read hides in one row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.catalogue import Catalogue
from analysis.functions import COLLECTING, COLLECTING_OIDS
from analysis.making import quickly_made
from analysis.nodes import Node, Value, children, plain_var, walk
from analysis.words import words

_RELATION, _SUBQUERY, _FUNCTION, _VALUES, _CTE, _RESULT = 0, 1, 3, 5, 6, 8  # RTEKind (parsenodes.h)
_INTERSECT, _EXCEPT = "2", "3"  # SetOperation
_ARRAY_SUBLINK = "6"  # SubLinkType
_INTEGERS = {"20": 8, "21": 2, "23": 4}
_BY_OPERATOR = ("OPEXPR", "SCALARARRAYOPEXPR", "NULLIFEXPR", "DISTINCTEXPR")


def row_bound(query: Node, catalogue: Catalogue, *, collects: bool | None = None) -> int | None:
    """A proven upper bound of the rows returned or collected into what is returned, None when there is none.

    `collects`: what `collects_rows` says of the query, where that is known already.
    """
    if not (collects_rows(query, catalogue) if collects is None else collects):
        return _least(_limit(query), _unlimited_bound(query, catalogue))
    # Neither LIMIT nor an aggregate above makes less of what was collected below, nor does something empty beside it.
    carried = [_carried(link, catalogue) for link in _own_sublinks(query)]
    return _product([_source_bound(query, catalogue), *(None if bound is None else max(bound, 1) for bound in carried)])


def collects_rows(query: Node, catalogue: Catalogue) -> bool:
    """Whether one result row may carry many: string_agg, json_agg, ARRAY(SELECT …), WITH RECURSIVE."""
    for node in walk(query):
        if node.tag == "SUBLINK" and node.text("subLinkType") == _ARRAY_SUBLINK:
            return True
        if node.tag == "COMMONTABLEEXPR" and node.flag("cterecursive"):
            return True
        if node.tag in ("AGGREF", "WINDOWFUNC"):
            oid = node.number("aggfnoid") or node.number("winfnoid")
            function = catalogue.functions.get(oid)
            if function is None or not function.is_builtin:
                return True
            if function.name in COLLECTING or oid in COLLECTING_OIDS:
                return True
    return False


def _limit(query: Node) -> int | None:
    return _constant(query.node("limitCount")) if query.text("limitOption") == "0" else None  # 1: WITH TIES


def _unlimited_bound(query: Node, catalogue: Catalogue) -> int | None:
    aggregates = query.flag("hasAggs") or query.node("havingQual") is not None
    if aggregates and not (query.nodes("groupClause") or query.nodes("groupingSets") or query.flag("hasTargetSRFs")):
        return 1
    return _source_bound(query, catalogue)


def _source_bound(query: Node, catalogue: Catalogue) -> int | None:
    """The rows before aggregates and LIMIT."""
    if query.flag("hasTargetSRFs") or query.nodes("groupingSets"):
        return None
    if query.node("setOperations") is not None:
        return _arms_bound(query.node("setOperations"), query, catalogue)
    jointree = query.node("jointree")
    if jointree is None or query.number("commandType") in (3, 5):
        return _insert_bound(query, catalogue)
    return _from_bound(jointree, query, catalogue)


def _own_sublinks(query: Node) -> Iterator[Node]:
    """The subqueries in the outputs of this query, and in the rows and functions it selects from.

    Not those of the queries below it.
    """
    pending = [*query.nodes("targetList"), *query.nodes("returningList")]
    for entry in query.nodes("rtable"):
        if entry.number("rtekind") in (_FUNCTION, _VALUES):
            pending.extend(children(entry))
    while pending:
        node = pending.pop()
        if node.tag == "SUBLINK":
            yield node
        elif node.tag != "QUERY":
            pending.extend(children(node))


def _carried(link: Node, catalogue: Catalogue) -> int | None:
    """How many rows one value of a subquery expression may carry."""
    subselect = link.node("subselect")
    if subselect is None:
        return None
    if link.text("subLinkType") == _ARRAY_SUBLINK or collects_rows(subselect, catalogue):
        return row_bound(subselect, catalogue)
    return 1


def _insert_bound(query: Node, catalogue: Catalogue) -> int | None:
    if query.number("commandType") != 3:
        return None
    sources = [entry for entry in query.nodes("rtable") if entry.number("rtekind") in (_SUBQUERY, _VALUES)]
    if not sources:
        return 1
    return _entry_bound(sources[0], query, catalogue) if len(sources) == 1 else None


def _arms_bound(node: Node | None, query: Node, catalogue: Catalogue) -> int | None:
    if node is None:
        return None
    if node.tag == "RANGETBLREF":
        subquery = query.nodes("rtable")[node.number("rtindex") - 1].node("subquery")
        return row_bound(subquery, catalogue) if subquery is not None else None
    left, right = (_arms_bound(node.node(name), query, catalogue) for name in ("larg", "rarg"))
    if node.text("op") == _EXCEPT:
        return left
    if node.text("op") == _INTERSECT:
        return _least(left, right)
    return None if left is None or right is None else left + right


# --- FROM ------------------------------------------------------------------------------------------------------------


@quickly_made
@dataclass(frozen=True, slots=True)
class _Pin:
    """A conjunct that leaves a column at most `values` values, once the entries it `needs` are fixed."""

    entry: int
    column: int
    needs: frozenset[int]
    values: int = 1


def _from_bound(jointree: Node, query: Node, catalogue: Catalogue) -> int | None:
    """The product over the FROM list, where a unique key pinned by constants or by bounded tables leaves few rows."""
    pins = _pins(query, catalogue)
    indexes = _from_indexes(jointree)
    if indexes is None:
        return None
    bounds: dict[int, int | None] = {}
    progress = True
    while progress:
        progress = False
        for index in indexes:
            if bounds.get(index) is None:
                bounds[index] = _index_bound(index, query, catalogue, pins, bounds)
                progress |= bounds[index] is not None
    # A left join keeps its row where the other side has none, hence at least one.
    return _product([None if bounds[index] is None else max(bounds[index] or 0, 1) for index in indexes])


def _from_indexes(jointree: Node) -> list[int] | None:
    """The range table entries the FROM clause multiplies. Outer joins only add NULLs to rows counted already…"""
    found: list[int] = []
    pending = [jointree]
    while pending:
        node = pending.pop()
        if node.tag == "RANGETBLREF":
            found.append(node.number("rtindex"))
        elif node.tag == "FROMEXPR":
            pending += node.nodes("fromlist")
        elif node.tag == "JOINEXPR" and node.text("jointype") in ("0", "1"):
            pending += [part for part in (node.node("larg"), node.node("rarg")) if part is not None]
        else:
            return None  # … but RIGHT and FULL joins keep rows that no equality of WHERE reaches
    return found


def _index_bound(
    index: int, query: Node, catalogue: Catalogue, pins: list[_Pin], bounds: dict[int, int | None]
) -> int | None:
    entry = query.nodes("rtable")[index - 1]
    bound = _entry_bound(entry, query, catalogue)
    relation = catalogue.relations.get(entry.number("relid")) if entry.number("rtekind") == _RELATION else None
    if bound is not None or relation is None or relation.children or relation.kind not in ("r", "p"):
        return bound
    fixed: dict[int, int] = {}
    for pin in pins:
        if pin.entry == index and all(bounds.get(other) is not None for other in pin.needs):
            fixed[pin.column] = min(pin.values, fixed.get(pin.column, pin.values))
    keys = [math.prod(fixed[column] for column in key) for key in relation.unique_keys if key <= fixed.keys()]
    return min(keys, default=None)


def _entry_bound(entry: Node, query: Node, catalogue: Catalogue) -> int | None:
    kind = entry.number("rtekind")
    if kind == _RESULT:
        return 1
    if kind == _VALUES:
        return len(entry.items("values_lists"))
    subquery = entry.node("subquery")
    if kind == _SUBQUERY and subquery is not None:
        return row_bound(subquery, catalogue)
    if kind == _CTE and entry.text("ctelevelsup") == "0" and not entry.flag("self_reference"):
        for cte in query.nodes("cteList"):
            inner = cte.node("ctequery")
            if cte.text("ctename") == entry.text("ctename") and inner is not None and not cte.flag("cterecursive"):
                return row_bound(inner, catalogue)
    if kind == _FUNCTION and not any(n.flag("funcretset") for n in walk(entry) if n.tag == "FUNCEXPR"):
        return 1
    return None


# --- conditions ------------------------------------------------------------------------------------------------------

# Built-in equality operators of the usual key types (pg_operator.dat): int2/4/8 among each other, text, uuid, date …
_EQUALITY = words(
    """
    15 94 96 98 254 352 385 410 416 532 533 607 620 670 1054 1093 1108 1120 1130 1320 1330 1550 1752 1804 2060
    2345 2358 2371 2384 2534 2547 2972 93
    """
)


def _pins(query: Node, catalogue: Catalogue) -> list[_Pin]:
    """What WHERE and the conditions of inner and left joins fix.

    The right side of a left join has no row at all where its condition fails, which is fewer, not more. What a lateral
    entry holds depends on the rows beside it, and may be made of the very column it would fix.
    """
    lateral = {number for number, entry in enumerate(query.nodes("rtable"), 1) if entry.flag("lateral")}
    return [
        pin
        for conjunct, scope in _conjuncts(query)
        for pin in _pins_of(conjunct, catalogue)
        if (scope is None or pin.entry in scope) and not pin.needs & lateral
    ]


def _pins_of(conjunct: Node, catalogue: Catalogue) -> list[_Pin]:
    arguments = conjunct.nodes("args")
    if conjunct.tag == "BOOLEXPR" and conjunct.text("boolop") == "or":
        return _alternatives([_pins_of(argument, catalogue) for argument in arguments])
    if len(arguments) != 2 or conjunct.text("opno") not in _EQUALITY:
        return []
    if conjunct.tag == "OPEXPR":
        sides = (tuple(arguments), tuple(reversed(arguments)))
        return [pin for column, other in sides if (pin := _pin(column, other, 1, catalogue)) is not None]
    if conjunct.tag == "SCALARARRAYOPEXPR" and conjunct.flag("useOr"):
        count = _elements(arguments[1])
        pin = _pin(arguments[0], arguments[1], count, catalogue) if count is not None else None
        return [pin] if pin is not None else []
    return []


def _alternatives(arms: list[list[_Pin]]) -> list[_Pin]:
    """`id = 1 OR id = 2`: a column every arm pins has as many values as the arms together."""
    found = []
    for first in arms[0] if arms else []:
        alike = [[pin for pin in arm if (pin.entry, pin.column) == (first.entry, first.column)] for arm in arms]
        if all(alike):
            chosen = [pins[0] for pins in alike]
            needs = frozenset(index for pin in chosen for index in pin.needs)
            found.append(_Pin(first.entry, first.column, needs, sum(pin.values for pin in chosen)))
    return found


def _pin(column: Node, other: Node, values: int, catalogue: Catalogue) -> _Pin | None:
    key = plain_var(column)
    if key is None or key[2] != "0" or any(is_another_each_time(node, catalogue) for node in walk(other)):
        return None
    needs = (node.number("varno") for node in walk(other) if node.tag == "VAR" and node.text("varlevelsup") == "0")
    return _Pin(int(key[0]), int(key[1]), frozenset(needs), values)


def is_another_each_time(node: Node, catalogue: Catalogue) -> bool:
    """Whether it may have another value for each row (`id = nextval('s')` holds for all of them, one after another)."""
    if node.tag in ("SUBLINK", "AGGREF"):
        return True
    called = node.number("funcid") or catalogue.operators.get(node.number("opno"), ("", 0))[1]
    if not called:
        return node.tag in ("FUNCEXPR", *_BY_OPERATOR)
    function = catalogue.functions.get(called)
    return function is None or function.volatility == "v"


def _elements(node: Node) -> int | None:
    """The number of elements of an array written out, or of an array constant."""
    while node.tag in ("RELABELTYPE", "ARRAYCOERCEEXPR") and (below := node.node("arg")) is not None:
        node = below
    if node.tag in ("ARRAYEXPR", "ARRAY"):
        return len(node.items("elements")) if not node.flag("multidims") else None
    if node.tag != "CONST" or node.flag("constisnull") or node.text("constlen") != "-1":
        return None
    data = _bytes(node.items("constvalue"))
    # ArrayType (src/include/utils/array.h): length, ndim, dataoffset, elemtype, then the dimensions.
    dimensions = int.from_bytes(data[4:8], "little")
    if len(data) < 16 + 4 * dimensions:
        return None
    sizes = [int.from_bytes(data[16 + 4 * i : 20 + 4 * i], "little") for i in range(dimensions)]
    return math.prod(sizes) if sizes else 0


def _conjuncts(query: Node) -> list[tuple[Node, frozenset[int] | None]]:
    """Every conjunct of WHERE and ON, with the entries it holds for (None: all).

    ON of a left join says nothing about the rows of its left side: they appear whether it holds or not.
    """
    found: list[tuple[Node, frozenset[int] | None]] = []
    jointree = query.node("jointree")
    pending: list[tuple[Node, frozenset[int] | None]] = [(jointree, None)] if jointree is not None else []
    while pending:
        node, scope = pending.pop()
        if node.tag in ("FROMEXPR", "JOINEXPR"):
            left_join = node.tag == "JOINEXPR" and node.text("jointype") != "0"
            right = _indexes_in(node.node("rarg")) if left_join else None
            inner = scope if right is None else right if scope is None else right & scope
            below = [(part, scope) for part in (*node.nodes("fromlist"), node.node("larg")) if part is not None]
            below += [(part, inner) for part in (node.node("rarg"), node.node("quals")) if part is not None]
            pending += below
        elif node.tag == "BOOLEXPR" and node.text("boolop") == "and":
            pending += [(part, scope) for part in node.nodes("args")]
        else:
            found.append((node, scope))
    return found


def _indexes_in(node: Node | None) -> frozenset[int]:
    return frozenset(item.number("rtindex") for item in walk(node) if item.tag == "RANGETBLREF")


# --- numbers ---------------------------------------------------------------------------------------------------------


def _constant(node: Node | None) -> int | None:
    """The value of an integer literal, through the cast to bigint that LIMIT puts around it."""
    while node is not None and node.tag == "FUNCEXPR" and node.text("funcid") == "481" and node.nodes("args"):
        node = node.nodes("args")[0]
    if node is None or node.tag != "CONST" or node.flag("constisnull"):
        return None
    width = _INTEGERS.get(node.text("consttype"))
    data = node.items("constvalue")
    if width is None or len(data) < width:
        return None
    return max(0, int.from_bytes(_bytes(data[:width]), "little", signed=True))


def _bytes(items: list[Value]) -> bytes:
    return bytes(int(item) & 0xFF for item in items if isinstance(item, str))


def _least(first: int | None, second: int | None) -> int | None:
    known = [bound for bound in (first, second) if bound is not None]
    return min(known) if known else None


def _product(bounds: list[int | None]) -> int | None:
    known = [bound for bound in bounds if bound is not None]
    return math.prod(known) if len(known) == len(bounds) else None
