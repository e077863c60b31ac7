"""What a reviewer must know about a statement, as names and counts: JSON without a literal of it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.estimate import UNKNOWN, RowsExpected
from approvals.domain.request import AccessRequest

# Made of statistics over real values: few or many rows answer a question about them.
_ESTIMATES = ("estimated_rows", "estimated_changes")
# What is done to what: numbers, and words about it, may be others by the time it runs.
_DONE = (
    *("kind", "complete", "opaque_functions", "operations", "no_where", "export", "inference"),
    *("tables_read", "tables_written", "columns_read", "columns_written"),
    *("protected_read", "protected_written", "protected_returned"),
)


def review_facts(
    request: AccessRequest, masks: Iterable[tuple[str, str, str]] = (), expected: RowsExpected = UNKNOWN
) -> dict[str, Any]:
    """Return the facts of `request`. `masks` are (column, technique, rule) of the result, where already known."""
    analysis, touch = request.analysis, request.touch
    returned = analysis.facts.estimated_rows
    return {
        "kind": analysis.kind,
        "fingerprint": analysis.fingerprint,
        "complete": analysis.complete,
        "problems": list(analysis.problems),
        "opaque_functions": sorted(analysis.opaque_functions),
        "operations": sorted(map(str, analysis.operations)),
        "tables_read": [str(table) for table in sorted(analysis.tables_read)],
        "tables_written": [str(table) for table in sorted(analysis.tables_written)],
        "columns_read": [str(column) for column in sorted(analysis.reads)],
        "columns_written": [str(column) for column in sorted(analysis.writes)],
        "protected_read": [str(column) for column in sorted(touch.columns_read)],
        "protected_written": [str(column) for column in sorted(touch.columns_written)],
        "protected_returned": [str(column) for column in sorted(touch.columns_returned)],
        "classes": sorted(touch.classes),
        "inference": list(touch.inference_violations),
        "no_where": analysis.facts.no_where,
        "export": analysis.facts.export,
        "row_bound": analysis.facts.row_bound,
        "estimated_rows": expected.returned if returned is None else returned,
        "estimated_changes": expected.changed,
        "uncounted": analysis.facts.uncounted,
        "estimated_bytes": analysis.facts.estimated_bytes,
        "risk": [{"reason": addend.reason, "points": addend.points} for addend in analysis.risk],
        "phi": request.resource.phi,
        "masks": [{"column": column, "technique": technique, "rule": rule} for column, technique, rule in masks],
    }


def meaning_of(facts: Mapping[str, Any]) -> str:
    """Return 64 hex digits that stand for what a statement does, as its reviewers are told it.

    A text alone does not say that: names mean a session's temporary tables first, and views can be replaced.
    """
    done = {name: facts.get(name) for name in _DONE}
    return hashlib.sha256(json.dumps(done, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def without_sizes(facts: dict[str, Any]) -> dict[str, Any]:
    """The same facts for whom a planner's estimate would tell about protected values they ask about."""
    return facts | dict.fromkeys(_ESTIMATES) if facts.get("inference") else facts


def sizes(facts: dict[str, Any]) -> dict[str, int | None]:
    """How many rows a statement is expected to return and to change, as numbers; None where nobody can tell."""
    returned = facts.get("estimated_rows")
    return {
        "rows_returned": facts.get("row_bound") if returned is None else returned,
        "rows_changed": facts.get("estimated_changes"),
    }


def size_words(facts: dict[str, Any]) -> str:
    """The same in words: `changes about 1,204 rows, returns at most 5 rows`; empty where nothing is known."""
    bound, returned, changed = (facts.get(name) for name in ("row_bound", "estimated_rows", "estimated_changes"))
    said = [] if changed is None else [f"changes about {_rows(changed)}"]
    if returned is not None and (bound is None or returned < bound):
        said.append(f"returns about {_rows(returned)}")
    elif bound and "read" in facts["operations"]:
        said.append(f"returns at most {_rows(bound)}")
    if changed is None and "write" in facts["operations"]:
        said.insert(0, "changes nobody knows how many rows")
    return ", ".join(said)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
