"""Which functions a stored tree calls, wherever the language hides a call."""

from __future__ import annotations

from analysis.nodes import Node, walk
from analysis.scope import Reading

# Where a node names a function or an operator by OID.
_FUNCTION_FIELDS = {
    "FUNCEXPR": "funcid",
    "AGGREF": "aggfnoid",
    "WINDOWFUNC": "winfnoid",
    "OPEXPR": "opfuncid",
    "DISTINCTEXPR": "opfuncid",
    "NULLIFEXPR": "opfuncid",
    "SCALARARRAYOPEXPR": "opfuncid",
    "TABLESAMPLECLAUSE": "tsmhandler",
}
_OPERATOR_FIELDS = {
    "OPEXPR": ("opno",),
    "DISTINCTEXPR": ("opno",),
    "NULLIFEXPR": ("opno",),
    "SCALARARRAYOPEXPR": ("opno",),
    "SORTGROUPCLAUSE": ("eqop", "sortop"),
}
_ROWS = frozenset({"ROWCOMPAREEXPR", "ROWCOMPARE"})
_WITH_OPERATORS = _ROWS | _OPERATOR_FIELDS.keys()
_TYPE_FIELDS = ("consttype", "resulttype", "paramtype", "vartype", "row_typeid")


def collect_functions(reading: Reading, query: Node) -> None:
    """Every function the tree calls: by name, through operators, through the input and checks of user types."""
    checked = reading.catalogue.type_functions
    for node in walk(query):
        name = _FUNCTION_FIELDS.get(node.tag)
        if name is not None and (oid := node.number(name)):
            reading.functions.add(oid)
            if node.tag != "FUNCEXPR":
                reading.hidden_calls.add(oid)
        if node.tag in _WITH_OPERATORS:
            _collect_operators(reading, node)
        if checked:
            for field in _TYPE_FIELDS:
                checking = checked.get(node.number(field), frozenset())
                reading.functions |= checking
                reading.hidden_calls |= checking


def _collect_operators(reading: Reading, node: Node) -> None:
    for operator in _operators(node):
        found = reading.catalogue.operators.get(operator)
        if found is None:
            reading.problems.add("an operator the catalogue does not know yet")
        else:
            reading.functions.add(found[1])
            reading.hidden_calls.add(found[1])


def _operators(node: Node) -> list[int]:
    if node.tag in _ROWS:
        return [int(item) for item in node.items("opnos") if isinstance(item, str) and item.isdigit()]
    return [oid for name in _OPERATOR_FIELDS[node.tag] if (oid := node.number(name))]
