"""What a statement may bring along over which functions fail that never do otherwise.

JSON holds what neither text nor jsonb does ('"\\u0000"', 1e999999): it is kept as it was written, and refused where
somebody reads in it. Words compared may be of two collations, or of one this server cannot use. Either way everything
fails but NULL, or one of several, so that `nullif(ssn, guess)` or `list[strpos(ssn, guess)]` decides whether it does.
What some table holds, on its own, was not put there for the question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analysis.catalogue import Catalogue
from analysis.nodes import Node, walk
from analysis.query_nodes import RELATION
from analysis.scope import Reading, Value
from analysis.words import words

# Read in JSON: the document first, then whatever says where.
_LOOK_INTO = words(
    """
    json_extract_path json_extract_path_text json_object_field json_object_field_text json_array_element
    json_array_element_text
    """
)
_MAKE_JSONB = words("to_jsonb jsonb_build_array jsonb_build_object jsonb_agg")
_JSON = frozenset({114, 199})  # json, json[] (pg_type.dat)
_JSON_LITERALS = {
    "CONST": "consttype", "PARAM": "paramtype", "COERCEVIAIO": "resulttype", "ARRAYCOERCEEXPR": "resulttype",
    "FIELDSELECT": "resulttype", "COERCETODOMAIN": "resulttype", "JSONRETURNING": "typid",
}  # fmt: skip
_JSON_INPUTS = words("json_in json_recv json_populate_record json_populate_recordset jsonb_populate_record")
_COLUMN_TYPES = ("coltypes", "funccoltypes")

_BUILT_IN_COLLATIONS = frozenset({100, 950, 951})  # default, C, POSIX (pg_collation.dat)
_WORD_TYPES = frozenset({25, 1042, 1043, 19, 1009, 1014, 1015, 1003})  # text, bpchar, varchar, name, and their arrays
_OF_OPERATOR, _OF_RESULT = ("opresulttype", "opcollid"), ("resulttype", "resultcollid")
_COLLATED = {
    "VAR": ("vartype", "varcollid"), "CONST": ("consttype", "constcollid"), "PARAM": ("paramtype", "paramcollid"),
    "FUNCEXPR": ("funcresulttype", "funccollid"), "AGGREF": ("aggtype", "aggcollid"),
    "WINDOWFUNC": ("wintype", "wincollid"), "SUBSCRIPTINGREF": ("refrestype", "refcollid"),
    **dict.fromkeys(("OPEXPR", "NULLIFEXPR", "DISTINCTEXPR"), _OF_OPERATOR),
    **dict.fromkeys(("RELABELTYPE", "COERCEVIAIO", "ARRAYCOERCEEXPR", "FIELDSELECT", "COERCETODOMAIN"), _OF_RESULT),
    **dict.fromkeys(("COALESCE", "COALESCEEXPR"), ("coalescetype", "coalescecollid")),
    **dict.fromkeys(("CASE", "CASEEXPR"), ("casetype", "casecollid")),
    **dict.fromkeys(("MINMAX", "MINMAXEXPR"), ("minmaxtype", "minmaxcollid")),
    **dict.fromkeys(("ARRAY", "ARRAYEXPR"), ("array_typeid", "array_collid")),
}  # fmt: skip


def may_fail_by_chance(reading: Reading, node: Node, name: str, arguments: Sequence[Value]) -> bool:
    """Whether the call of the built-in `name` fails for one of these arguments, and not for another."""
    settled = all(map(is_settled, arguments))
    if name in _LOOK_INTO:
        placed = any(argument.discloses for argument in arguments[1:])
        return (placed or not settled) and _brings_json(reading)
    if settled:
        return False
    return _lacks_collation(reading, node) or (name in _MAKE_JSONB and _brings_json(reading))


def is_settled(found: Value) -> bool:
    """Whether the statement has no say in what the value is: as it is stored, or made of such in one way only."""
    if found.fields is not None:
        return all(map(is_settled, found.fields))
    return found.stored or found.steady or not found.discloses


def _brings_json(reading: Reading) -> bool:
    """Whether there is JSON the statement itself, or whoever filled a table it reads, may have written."""
    return _asked(reading, "json", _has_json)


def _lacks_collation(reading: Reading, node: Node) -> bool:
    """Whether what compares words here may be left without a collation it can use."""
    used = {node.number("inputcollid")} if "inputcollid" in node.fields else set()
    used |= {int(item) for item in node.items("inputcollids") if isinstance(item, str) and item.isdigit()}
    if used - _BUILT_IN_COLLATIONS - {0}:
        return True
    return 0 in used and _asked(reading, "collation", _has_undecided)


def _asked(reading: Reading, what: str, question: Callable[[Node, Catalogue], bool]) -> bool:
    """The answer for all trees that are being read so far: views' come one by one."""
    known, count = reading.brought.get(what, (False, 0))
    known = known or any(question(tree, reading.catalogue) for tree in reading.trees[count:])
    reading.brought[what] = (known, len(reading.trees))
    return known


def _has_json(tree: Node, catalogue: Catalogue) -> bool:
    types = _JSON | catalogue.json_types
    return any(_is_json(node, types, catalogue) for node in walk(tree))


def _is_json(node: Node, types: frozenset[int], catalogue: Catalogue) -> bool:
    name = _JSON_LITERALS.get(node.tag)
    if name is not None:
        return node.number(name) in types
    if node.tag == "FUNCEXPR":
        function = catalogue.functions.get(node.number("funcid"))
        given = function is None or not function.is_builtin or function.name in _JSON_INPUTS
        return given and node.number("funcresulttype") in types
    if node.tag == "RANGETBLENTRY" and node.number("rtekind") == RELATION:
        relation = catalogue.relations.get(node.number("relid"))
        return relation is None or any(column.type_oid in types for column in relation.columns.values())
    listed = [item for field in _COLUMN_TYPES for item in node.items(field)]
    return any(isinstance(item, str) and item.isdigit() and int(item) in types for item in listed)


def _has_undecided(tree: Node, _catalogue: Catalogue) -> bool:
    """Whether words are made of such as have two collations: then they have none."""
    for node in walk(tree):
        names = _COLLATED.get(node.tag)
        if names is not None and node.text(names[1]) == "0" and node.number(names[0]) in _WORD_TYPES:
            return True
    return False
