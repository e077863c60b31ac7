"""Findings in a text: half-open character ranges with a data class and a confidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """`text[start:end]` holds an identifier of class `cls`; `score` is 0 to 1 and never lifts a mask."""

    start: int
    end: int
    cls: str
    score: float


def united(spans: Iterable[Span]) -> list[Span]:
    """Return disjoint spans covering everything the given ones cover; overlapping ones take the surest class."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.start < result[-1].end:
            result.append(_joined(result.pop(), span))
        else:
            result.append(span)
    return result


def _joined(first: Span, second: Span) -> Span:
    surest = max(first, second, key=lambda span: (span.score, span.end - span.start))
    return Span(first.start, max(first.end, second.end), surest.cls, surest.score)


def apply(text: str, spans: list[Span]) -> str:
    """Replace disjoint, ordered spans by their class in brackets."""
    pieces: list[str] = []
    kept_to = 0
    for span in spans:
        pieces += (text[kept_to : span.start], f"[{span.cls.upper()}]")
        kept_to = span.end
    return "".join(pieces) + text[kept_to:]
