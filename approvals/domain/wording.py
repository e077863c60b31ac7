"""The sentences of a decision: what a policy is about, and the smallest change that would be permitted. Pure.

Over-strict rules that do not say how to comply drive people to switch them off, so every refusal ends in a next step.
Names of rules, tables, columns and classes appear; literals of the statement never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from approvals.domain.conditions import Condition
from approvals.domain.request import AccessRequest

MAX_LISTED = 8


def listed(names: Iterable[object]) -> str:
    """Names in a stable order, cut where a sentence would stop being one."""
    ordered = list(names) if isinstance(names, tuple | list) else sorted(map(str, names))
    words = [str(name) for name in ordered]
    more = f" and {len(words) - MAX_LISTED} more" if len(words) > MAX_LISTED else ""
    return ", ".join(words[:MAX_LISTED]) + more


def condition_words(when: Condition) -> str:
    """What the policy is about, for people: `write statements, protected data`."""
    words = [word(asked) for name, word in _WORDS.items() if (asked := getattr(when, name)) is not None]
    return " with ".join(words) if words else "every statement"


def alternative_to_policy(when: Condition, request: AccessRequest) -> str:
    """The first part of the condition that the client can change, as advice."""
    for name, advice in _ADVICE.items():
        asked = getattr(when, name)
        if asked is not None and asked is not False:
            return advice(asked)
    for child in (when.all_of or ()) + (when.any_of or ()):
        if advised := alternative_to_policy(child, request):
            return advised
    return ""


def alternative_to_analysis(request: AccessRequest) -> str:
    if request.analysis.opaque_functions:
        return f"leave out {listed(request.analysis.opaque_functions)}, or have an administrator classify it"
    return "name tables and columns plainly, without dynamic SQL, in one statement"


def alternative_to_inference(label: str) -> str:
    return f"drop the comparison on {label}, or have an administrator name reviewers who may approve it"


def spread_words(request: AccessRequest) -> str:
    return f"protected values where no masking rule covers them ({listed(request.touch.columns_spread)})"


def _yes_no(positive: str, negative: str) -> Callable[[bool], str]:
    return lambda asked: positive if asked else negative


_WORDS: dict[str, Callable[[Any], str]] = {
    "operation": lambda asked: f"{listed(asked)} statements",
    "kinds": lambda asked: f"{listed(asked)} statements",
    "touches_phi": _yes_no("protected data", "no protected data"),
    "tables": lambda asked: f"tables {listed(asked)}",
    "columns": lambda asked: f"columns {listed(asked)}",
    "classes": lambda asked: f"data classes {listed(asked)}",
    "functions": lambda asked: f"functions {listed(asked)}",
    "no_where": _yes_no("no restricting WHERE", "a restricting WHERE"),
    "export": _yes_no("an export", "no export"),
    "rows_over": lambda asked: f"more than {asked} rows",
    "bytes_over": lambda asked: f"more than {asked} bytes",
    "incomplete": _yes_no("an incomplete analysis", "a complete analysis"),
    "inference": _yes_no("inference of protected values", "no inference"),
    "risk_at_least": lambda asked: f"a risk score of {asked} or more",
    "principals": lambda asked: f"principals {listed(asked)}",
    "groups": lambda asked: f"members of {listed(asked)}",
    "hours": lambda asked: f"the hours {_clock(asked.start)} to {_clock(asked.end)} {asked.zone}",
    "all_of": lambda asked: "all of (" + "; ".join(map(condition_words, asked)) + ")",
    "any_of": lambda asked: "any of (" + "; ".join(map(condition_words, asked)) + ")",
    "none_of": lambda asked: "none of (" + "; ".join(map(condition_words, asked)) + ")",
}

# In the order of how little the client must give up.
_ADVICE: dict[str, Callable[[Any], str]] = {
    "no_where": lambda asked: "add a WHERE clause that restricts the rows",
    "rows_over": lambda asked: f"add LIMIT {asked} or less",
    "bytes_over": lambda asked: f"read {asked} bytes or less",
    "export": lambda asked: "select the rows instead of exporting them",
    "inference": lambda asked: "drop the comparison on the protected column",
    "incomplete": lambda asked: "name tables and columns plainly, without dynamic SQL, in one statement",
    "functions": lambda asked: f"leave out the functions {listed(asked)}",
    "columns": lambda asked: f"leave out the columns {listed(asked)}",
    "classes": lambda asked: f"leave out columns of the classes {listed(asked)}",
    "touches_phi": lambda asked: "leave out the protected columns",
    "tables": lambda asked: f"leave out the tables {listed(asked)}",
    "kinds": lambda asked: f"use another kind of statement than {listed(asked)}",
    "operation": lambda asked: f"use another kind of statement than {listed(asked)}",
    "hours": lambda asked: f"run it outside {_clock(asked.start)} to {_clock(asked.end)} {asked.zone}",
    "risk_at_least": lambda asked: f"lower the risk score below {asked}",
}


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
