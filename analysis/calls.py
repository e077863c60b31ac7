"""Which functions a stored tree calls, wherever the language hides a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

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
_TYPE_FIELDS = (
    "consttype", "resulttype", "paramtype", "vartype", "row_typeid", "funcresulttype", "opresulttype", "array_typeid",
    "coalescetype", "casetype", "minmaxtype", "aggtype", "wintype", "refrestype", "typid",
)  # fmt: skip
_TYPE_LISTS = ("coltypes", "funccoltypes")
# They take a type's name as a text, and try its input.
_ANY_TYPE = frozenset({"pg_input_is_valid", "pg_input_error_info"})
# Beside those that make JSON: polymorphic ones written in SQL, which is read anew for the type they meet.
_FIND_CASTS = frozenset({"textanycat", "anytextcat", "quote_literal", "quote_nullable"})


def collect_functions(reading: Reading, query: Node) -> None:
    """Every function the tree calls: by name, through operators, through the input, checks and casts of user types."""
    looked_up = _looked_up(reading, query)
    for node in walk(query):
        name = _FUNCTION_FIELDS.get(node.tag)
        if name is not None and (oid := node.number(name)):
            reading.functions.add(oid)
            if node.tag != "FUNCEXPR":
                reading.hidden_calls.add(oid)
        if node.tag in _WITH_OPERATORS:
            _collect_operators(reading, node)
        for known in looked_up:
            for run in _run_by_types(node, known):
                reading.functions |= run
                reading.hidden_calls |= run


def _looked_up(reading: Reading, query: Node) -> list[Mapping[int, frozenset[int]]]:
    """By which of the catalogue's maps the types in the tree run something."""
    catalogue = reading.catalogue
    found = []
    if catalogue.cast_functions and any(
        node.tag.startswith("JSON") or _calls(reading, node, _finds_cast) for node in walk(query)
    ):
        found.append(catalogue.cast_functions)
    if catalogue.type_functions:
        found.append(catalogue.type_functions)
        if any(_calls(reading, node, _ANY_TYPE.__contains__) for node in walk(query)):
            reading.hidden_calls.update(*catalogue.type_functions.values())
            reading.functions.update(*catalogue.type_functions.values())
    return found


def _calls(reading: Reading, node: Node, is_meant: Callable[[str], bool]) -> bool:
    name = _FUNCTION_FIELDS.get(node.tag)
    return name is not None and is_meant(reading.builtin_name(node.number(name)))


def _finds_cast(name: str) -> bool:
    return "json" in name or name in _FIND_CASTS


def _run_by_types(node: Node, known: Mapping[int, frozenset[int]]) -> Iterator[frozenset[int]]:
    listed = [item for field in _TYPE_LISTS for item in node.items(field) if isinstance(item, str) and item.isdigit()]
    for oid in (*(node.number(field) for field in _TYPE_FIELDS), *map(int, listed)):
        if oid in known:
            yield known[oid]


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
