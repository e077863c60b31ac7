"""Propose what columns hold, from their names and a sample of their values. A person confirms; nothing masks before.

A column name alone is enough (a validity check never vetoes a name: hipaa.md), values raise or give the confidence.
Proposals carry no values, only how many of the sample agreed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from masking.detectors.column_names import class_of_name
from masking.detectors.text import detect
from masking.engines.marks import classes_marked

_LEAST_SHARE = 0.3  # of the sampled values
_BY_NAME = 0.7
_BY_VALUES = 0.6
_BY_BOTH = 0.95


@dataclass(frozen=True, slots=True)
class Proposal:
    """`column` as `schema.table.column`; `evidence` says why in words, without a value."""

    column: str
    data_class: str
    confidence: float
    evidence: str


def propose(samples: Mapping[str, Sequence[str | None]]) -> list[Proposal]:
    """Return at most one proposal a column, surest first, from some values (as text) of each `schema.table.column`."""
    proposals = [found for column, values in samples.items() if (found := propose_column(column, values)) is not None]
    return sorted(proposals, key=lambda proposal: (-proposal.confidence, proposal.column))


def propose_column(column: str, values: Iterable[str | None]) -> Proposal | None:
    named = class_of_name(column.rsplit(".", 1)[-1])
    present = [value for value in values if value]
    common, agreeing = _class_of_values(present)
    share = agreeing / len(present) if present else 0.0
    if named and named == common:
        return Proposal(column, named, _BY_BOTH, f"column name; {agreeing} of {len(present)} sampled values agree")
    if named:
        return Proposal(column, named, _BY_NAME, "column name")
    if common and share >= _LEAST_SHARE:
        return Proposal(column, common, _BY_VALUES * share + 0.2, f"{agreeing} of {len(present)} sampled values")
    return None


def _class_of_values(values: Sequence[str]) -> tuple[str | None, int]:
    """The class most values hold, and how many do. A value counts once, whatever it holds."""
    found = Counter(cls for value in values if (cls := _class_of_value(value)))
    return found.most_common(1)[0] if found else (None, 0)


def _class_of_value(value: str) -> str | None:
    """The first identifier's class; in a sample that came through the detectors, what they put in its place."""
    marked = classes_marked(value)
    if marked:
        return marked[0]
    spans = detect(value)
    return spans[0].cls if spans else None
