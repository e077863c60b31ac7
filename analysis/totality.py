"""What never fails, whatever value it meets: an error, a notice or a number of rows is an answer about the value.

An allow-list by name, with the exceptions among the overloads of a name. A stored value cannot be chosen by whoever
asks; what is made of one can (`coalesce(nullif(dob, guess), 'infinity')`). So there are functions that never fail for
what a column holds and do for what an expression may make of it: those are total over *steady* values alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.brought import may_fail_by_chance
from analysis.nodes import Node, walk
from analysis.scope import Reading, Value
from analysis.statement import ColumnRef, Origin, Transform
from analysis.words import words

TEXT_TYPES = frozenset({"25", "1042", "1043", "19", "705", "2275"})  # output functions never fail
# Anonymous rows, and arrays of them: two of different shapes cannot be compared, and say so.
_RECORDS = frozenset({"2249", "2287"})
_TOTAL = words(
    """
    count min max sum avg array_agg string_agg json_agg jsonb_agg any_value bool_and bool_or every stddev
    variance stddev_pop stddev_samp var_pop var_samp mode row_number rank dense_rank first_value
    last_value cume_dist percent_rank upper lower initcap length char_length character_length octet_length trim
    btrim ltrim rtrim reverse concat concat_ws textcat textanycat anytextcat replace strpos position
    starts_with text varchar bpchar name to_json to_jsonb row_to_json array_to_json jsonb_build_array
    json_build_array array_to_string array_length cardinality date json_extract_path json_extract_path_text
    jsonb_extract_path jsonb_extract_path_text
    jsonb_object_field jsonb_object_field_text json_object_field json_object_field_text jsonb_array_element
    jsonb_array_element_text json_array_element json_array_element_text jsonb_typeof json_typeof pg_typeof
    pg_column_size quote_literal quote_ident quote_nullable ascii unnest round floor ceil ceiling hashtext
    """
)
# Total over what a column holds: not over infinite or far dates, arrays of other dimensions, words of any length.
_TOTAL_OF_STEADY = words("age date_mi timestamp timestamptz timezone date_trunc array_append array_prepend to_tsvector")
# Total in the argument at this place, as long as columns reach no other (substr(x, 1, n) fails for negative n): but for
# the first four they fail for constants too (substr(x, 1, -1)), always, unless that argument is NULL.
_TOTAL_IN_ARGUMENT = {
    "left": 0, "right": 0, "lag": 0, "lead": 0,
    "md5": 0,  # where OpenSSL runs in its FIPS mode there is none
    "substr": 0, "substring": 0, "split_part": 0, "to_char": 0, "overlay": 0,
    "date_trunc": 1, "extract": 1, "date_part": 1, "timezone": 1,
}  # fmt: skip
_WHATEVER_THE_CONSTANTS = words("left right lag lead")
_OF_BOUNDED = words("extract date_part")  # numbers that no sum of them makes too large
# Overloads by OID (pg_proc.dat). What adds up can overflow: sum and avg of money, intervals, numeric and floats, and
# what is computed of the squares of the last two …
_OVERFLOWING = frozenset(
    {2112, 2113, 2106, 2114, 2111, 2110, 2103, 2105, 2104}
    | {2157, 2158, 2159, 2727, 2728, 2729, 2715, 2716, 2717}  # stddev, _pop, _samp
    | {2151, 2152, 2153, 2721, 2722, 2723, 2644, 2645, 2646}  # variance, var_pop, var_samp
)
# … and array_agg of arrays, round, ceil and floor of numeric, where a carry may need one digit too many.
_OVERLOADS_OF_STEADY = _OVERFLOWING | {4053, 1707, 1708, 1711, 1712, 2167}
# min and max of arrays and of rows; to_char of bigint and numeric, where a format may multiply ('9V999'); how long a
# line is.
_OVERLOADS_NOT_TOTAL = frozenset({2050, 2051, 6373, 6374, 1774, 1772, 1530, 1531})
# Of rows, of arrays (their elements may be rows), and of what has areas and distances, which overflow.
_OPERATORS_NOT_TOTAL = (
    "record_", "array", "box_", "circle_", "line_", "lseg_", "on_", "path_", "point_", "poly_", "pt_",
)  # fmt: skip
# NULL only where their arguments are.
_KEEP_PRESENT = words(
    """
    min max sum avg any_value array_agg string_agg json_agg jsonb_agg upper lower initcap length char_length
    character_length octet_length trim btrim ltrim rtrim reverse left right replace strpos position md5 ascii text
    varchar bpchar name date date_trunc timestamp timestamptz timezone age date_mi extract date_part to_char round floor
    ceil ceiling substr split_part overlay
    """
)
# LIKE is not among them: a pattern that ends in its escape character is an error once everything before it matched.
_TOTAL_OPERATORS = words("= <> < > <= >= @> <@ && ? || -> ->> #> #>>")
_CONCATENATING = words("textcat textanycat anytextcat byteacat jsonb_concat")  # arrays must be alike
_BY_OPERATOR = frozenset({"OPEXPR", "SCALARARRAYOPEXPR", "NULLIFEXPR", "DISTINCTEXPR"})
_NEVER_ACTS = frozenset(
    {"CONST", "VAR", "PARAM", "RELABELTYPE", "COLLATEEXPR", "BOOLEXPR", "BOOLEANTEST", "NULLTEST", "COALESCEEXPR",
     "COALESCE", "CASEEXPR", "CASE", "CASEWHEN", "WHEN", "CASETESTEXPR", "SQLVALUEFUNCTION", "ROWEXPR", "ROW",
     "FIELDSELECT"}
)  # fmt: skip
_ANYTHING = Value(frozenset({Origin(ColumnRef("", "", ""), Transform.DERIVED)}))


def is_total(node: Node, name: str, arguments: Sequence[Value]) -> bool:
    """Whether the call of the built-in `name` cannot fail, given its arguments."""
    steady = not any(argument.discloses and not (argument.stored or argument.steady) for argument in arguments)
    if name in _TOTAL:
        return steady if _needs_steady(node) or _may_not_fit(node, name) else _is_total_overload(node, name)
    if name in ("jsonb_build_object", "json_build_object"):
        return not any(argument.discloses for argument in arguments[0::2])  # a NULL key is an error
    if name in _TOTAL_OF_STEADY and not steady:
        return False
    place = _TOTAL_IN_ARGUMENT.get(name)
    if place is None:
        return name in _TOTAL_OF_STEADY
    if node.number("funcid") in _OVERLOADS_NOT_TOTAL or any(
        argument.discloses for index, argument in enumerate(arguments) if index != place
    ):
        return False
    return name in _WHATEVER_THE_CONSTANTS or all(argument.is_present for argument in arguments)


def keeps_steady(node: Node, name: str) -> bool:
    """Whether what the built-in makes of steady values, without failing, is as far from anybody's choice."""
    return name in _TOTAL_OF_STEADY or name in _OF_BOUNDED or _may_not_fit(node, name)


def keeps_present(name: str) -> bool:
    """Whether what the built-in makes is NULL only where one of its arguments is."""
    return name in _KEEP_PRESENT


def averages(name: str) -> bool:
    """Whether the aggregate of steady values is one: not larger than they are, or only by how many there are."""
    return name in ("avg", "sum", "min", "max")


def may_overflow(node: Node) -> bool:
    """Whether the aggregate adds up what may become too large."""
    return (node.number("aggfnoid") or node.number("winfnoid")) in _OVERFLOWING


def is_total_operator(reading: Reading, operator: int) -> bool:
    name = reading.operator_name(operator)
    if name not in _TOTAL_OPERATORS:
        return False
    code = reading.builtin_name(reading.catalogue.operators[operator][1])
    return code in _CONCATENATING if name == "||" else not code.startswith(_OPERATORS_NOT_TOTAL)


def is_total_construct(reading: Reading, node: Node) -> bool:
    """Whether an expression that is no call of a function cannot fail by itself, its parts aside."""
    match node.tag:
        case "OPEXPR" | "SCALARARRAYOPEXPR" | "NULLIFEXPR" | "DISTINCTEXPR":
            return is_total_operator(reading, node.number("opno"))
        case "ROWCOMPAREEXPR" | "ROWCOMPARE":
            numbers = (int(item) for item in node.items("opnos") if isinstance(item, str) and item.isdigit())
            return all(is_total_operator(reading, operator) for operator in numbers)
        case "MINMAXEXPR" | "MINMAX":
            return node.text("minmaxtype") not in _RECORDS
        case "ARRAYEXPR" | "ARRAY":
            return not node.flag("multidims")  # of arrays that are not alike
        case "SUBSCRIPTINGREF":
            return node.node("refassgnexpr") is None  # no place is NULL, or far away
    return True


def may_act(reading: Reading, node: Node) -> bool:
    """Whether running the expression, on whatever values, could fail or leave something behind."""
    return any(_acts(reading, part) for part in walk(node))


def called(reading: Reading, node: Node) -> str:
    """The name of the built-in function a call or an operator runs; '' for a user's and for what is neither."""
    if node.tag in _BY_OPERATOR:
        return reading.builtin_name(reading.catalogue.operators.get(node.number("opno"), ("", 0))[1])
    return reading.builtin_name(node.number("aggfnoid") or node.number("winfnoid") or node.number("funcid"))


def _acts(reading: Reading, part: Node) -> bool:
    arguments = [_ANYTHING] * max(1, len(part.nodes("args")))
    if may_fail_by_chance(reading, part, called(reading, part), arguments):
        return True
    if part.tag == "FUNCEXPR":
        name = reading.builtin_name(part.number("funcid"))
        return not is_total(part, name, [_ANYTHING] * len(part.nodes("args")))
    if part.tag == "COERCEVIAIO":
        return part.text("resulttype") not in TEXT_TYPES
    if part.tag in _BY_OPERATOR or part.tag in ("ARRAYEXPR", "ARRAY", "MINMAXEXPR", "MINMAX"):
        return not is_total_construct(reading, part)
    return part.tag not in _NEVER_ACTS


def _needs_steady(node: Node) -> bool:
    """A set has as many rows as its arguments say."""
    called = node.number("aggfnoid") or node.number("winfnoid") or node.number("funcid")
    return node.flag("funcretset") or called in _OVERLOADS_OF_STEADY


def _is_total_overload(node: Node, name: str) -> bool:
    if (node.number("aggfnoid") or node.number("winfnoid") or node.number("funcid")) in _OVERLOADS_NOT_TOTAL:
        return False
    return name != "length" or len(node.nodes("args")) == 1  # length(bytes, encoding)


def _may_not_fit(node: Node, name: str) -> bool:
    """Whether a cast to varchar(n) fails for what is too long, as implicit ones do: its third argument says so."""
    arguments = node.nodes("args")
    if name not in ("varchar", "bpchar") or len(arguments) < 3:
        return False
    return arguments[2].tag != "CONST" or arguments[2].items("constvalue")[:1] != ["1"]
