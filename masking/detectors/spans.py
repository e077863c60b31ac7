"""Findings in a text: half-open character ranges with a data class and a confidence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
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


_WITHIN_A_PLACE = re.compile(r",?\s+(?:in\s+)?|\s?-\s?|/")


def neighbours_joined(text: str, spans: list[Span]) -> list[Span]:
    """Join places that together are one address: "12 Elm Street", "Denver"."""
    result: list[Span] = []
    for span in spans:
        last = result[-1] if result else None
        if last and last.cls == span.cls == "location" and _WITHIN_A_PLACE.fullmatch(text, last.end, span.start):
            result[-1] = Span(last.start, span.end, span.cls, max(last.score, span.score))
        else:
            result.append(span)
    return result


def apply(text: str, spans: list[Span]) -> str:
    """Replace disjoint, ordered spans by their class in brackets."""
    pieces: list[str] = []
    kept_to = 0
    for span in spans:
        pieces += (text[kept_to : span.start], f"[{span.cls.upper()}]")
        kept_to = span.end
    return "".join(pieces) + text[kept_to:]
