"""From a configuration document's `when:` mapping to a Condition. Whatever is not understood is an error with its path.

Shared by the admin's form, the model's validation and `apply`, so that a policy means the same wherever it was typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from analysis.statement import Operation
from approvals.domain.conditions import Condition, Hours
from approvals.domain.request import ReviewerGroup

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
MAX_DEPTH = 8


class ConditionProblem(ValueError):
    """`path` names the place in the document, e.g. `when.any_of[1].rows_over`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


def parse_condition(document: object, *, path: str = "when", depth: int = 0) -> Condition:
    """Return the Condition a mapping describes. Raises ConditionProblem, also on nesting deeper than MAX_DEPTH."""
    if not isinstance(document, Mapping):
        raise ConditionProblem(path, f"is {_type(document)}, expected a mapping")
    if depth > MAX_DEPTH:
        raise ConditionProblem(path, f"is nested too deep, expected at most {MAX_DEPTH} levels")
    parts: dict[str, Any] = {}
    for key, value in document.items():
        parse = PARTS.get(str(key))
        name = _FIELDS.get(str(key), str(key))
        if parse is None:
            raise ConditionProblem(f"{path}.{key}", f"is unknown, expected one of {', '.join(PARTS)}")
        if name in parts:
            raise ConditionProblem(f"{path}.{key}", "is given twice")
        parts[name] = parse(value, f"{path}.{key}", depth)
    return Condition(**parts)


def parse_reviewers(
    document: object, *, quorum: int = 1, path: str = "reviewers", choice: str = ""
) -> tuple[ReviewerGroup, ...]:
    """Return reviewer groups from a list of names or of `{group, quorum}`; `quorum` holds where none is given.

    With `choice` the groups are alternatives under that name: one of them is enough.
    """
    if not isinstance(document, list | tuple):
        raise ConditionProblem(path, f"is {_type(document)}, expected a list of group names")
    groups = (_reviewer_group(item, quorum, f"{path}[{index}]") for index, item in enumerate(document))
    return tuple(replace(group, choice=choice) for group in groups)


def _reviewer_group(item: object, quorum: int, path: str) -> ReviewerGroup:
    if isinstance(item, str):
        return ReviewerGroup(_text(item, path, 0), _at_least_one(quorum, "quorum", 0))
    if not isinstance(item, Mapping):
        raise ConditionProblem(path, f"is {_type(item)}, expected a group name")
    unknown = sorted(set(map(str, item)) - {"group", "quorum"})
    if unknown:
        raise ConditionProblem(f"{path}.{unknown[0]}", "is unknown, expected group or quorum")
    group = _text(item.get("group"), f"{path}.group", 0)
    return ReviewerGroup(group, _at_least_one(item.get("quorum", quorum), f"{path}.quorum", 0))


def _type(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _text(value: object, path: str, depth: int) -> str:
    if not isinstance(value, str) or not value:
        raise ConditionProblem(path, f"is {_type(value)}, expected a text")
    return value


def _texts(value: object, path: str, depth: int) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not items:
        raise ConditionProblem(path, "expected a list of texts, at least one")
    return tuple(_text(item, f"{path}[{index}]", depth) for index, item in enumerate(items))


def _names(value: object, path: str, depth: int) -> frozenset[str]:
    return frozenset(_texts(value, path, depth))


def _operations(value: object, path: str, depth: int) -> frozenset[Operation]:
    known = {str(operation) for operation in Operation}
    for name in _texts(value, path, depth):
        if name not in known:
            raise ConditionProblem(path, f"{name!r} is unknown, expected some of {', '.join(sorted(known))}")
    return frozenset(Operation(name) for name in _texts(value, path, depth))


def _flag(value: object, path: str, depth: int) -> bool:
    if not isinstance(value, bool):
        raise ConditionProblem(path, f"is {_type(value)}, expected true or false")
    return value


def _number(value: object, path: str, depth: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConditionProblem(path, "expected a whole number, zero or more")
    return value


def _at_least_one(value: object, path: str, depth: int) -> int:
    number = _number(value, path, depth)
    if number < 1:
        raise ConditionProblem(path, "is 0, expected at least 1")
    return number


def _hours(value: object, path: str, depth: int) -> Hours:
    if not isinstance(value, Mapping):
        raise ConditionProblem(path, f"is {_type(value)}, expected {{from, to, zone, days}}")
    unknown = sorted(set(map(str, value)) - {"from", "to", "zone", "days"})
    if unknown:
        raise ConditionProblem(f"{path}.{unknown[0]}", "is unknown, expected from, to, zone or days")
    return Hours(
        start=_clock(value.get("from"), f"{path}.from"),
        end=_clock(value.get("to"), f"{path}.to"),
        zone=_zone(value.get("zone", "UTC"), f"{path}.zone"),
        days=_days(value["days"], f"{path}.days") if "days" in value else frozenset(),
    )


def _clock(value: object, path: str) -> int:
    # YAML 1.1 reads an unquoted 18:00 as the number 1080 (base 60), which is the minute we want anyway.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 24 * 60:
        return value
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConditionProblem(path, "expected a time such as 18:00")
    hours, minutes = match.group().split(":")
    return int(hours) * 60 + int(minutes)


def _zone(value: object, path: str) -> str:
    name = _text(value, path, 0)
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConditionProblem(path, f"{name!r} is unknown, expected a time zone such as Europe/Zurich") from None
    return name


def _days(value: object, path: str) -> frozenset[int]:
    names = _texts(value, path, 0)
    for name in names:
        if name not in DAYS:
            raise ConditionProblem(path, f"{name!r} is unknown, expected some of {', '.join(DAYS)}")
    return frozenset(DAYS.index(name) + 1 for name in names)


def _children(value: object, path: str, depth: int) -> tuple[Condition, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ConditionProblem(path, "expected a list of conditions, at least one")
    return tuple(parse_condition(item, path=f"{path}[{i}]", depth=depth + 1) for i, item in enumerate(value))


def _negated(value: object, path: str, depth: int) -> tuple[Condition, ...]:
    if isinstance(value, Mapping):
        return (parse_condition(value, path=path, depth=depth + 1),)
    return _children(value, path, depth)


# The document's words; `all`, `any` and `not` are keywords of ours and of Python, hence the other field names.
_FIELDS = {"all": "all_of", "any": "any_of", "not": "none_of"}
PARTS: dict[str, Callable[[object, str, int], Any]] = {
    "operation": _operations,
    "touches_phi": _flag,
    "tables": _texts,
    "columns": _texts,
    "classes": _names,
    "no_where": _flag,
    "export": _flag,
    "rows_over": _number,
    "incomplete": _flag,
    "inference": _flag,
    "risk_at_least": _number,
    "principals": _texts,
    "groups": _names,
    "kinds": _texts,
    "functions": _texts,
    "bytes_over": _number,
    "hours": _hours,
    "all": _children,
    "any": _children,
    "not": _negated,
}
