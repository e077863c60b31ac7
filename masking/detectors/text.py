"""Find and mask identifiers in free text: `detect` and `mask`.

Google-re2 sets decide in linear time which patterns can match at all (see `watch`); only those are run. A text in
which none can is returned as the object it is. Every pattern runs over the normal form of the text (see `normal`),
which has the same offsets.
"""

from __future__ import annotations

from masking.detectors import dates, identifiers, names, places
from masking.detectors.normal import normal_form, visible
from masking.detectors.spans import Span, apply, neighbours_joined, united
from masking.detectors.watch import hits_of

# Beyond this a value is scanned in pieces, so that one huge document cannot stall a worker on one pattern.
_PIECE = 20_000
_OVERLAP = 200

__all__ = ["Span", "apply", "detect", "mask"]


def detect(text: str) -> list[Span]:
    """Return disjoint spans in order. `text[span.start:span.end]` is the identifier as written."""
    seen, kept = visible(text)
    plain = normal_form(seen)
    found = _found(plain) if len(plain) <= _PIECE else _found_in_pieces(plain)
    spans = neighbours_joined(plain, united(found))
    if kept is None:
        return spans
    return [Span(kept[span.start], kept[span.end - 1] + 1, span.cls, span.score) for span in spans]


def mask(text: str) -> str:
    """Replace every finding by its class in brackets; return the same object when there is none."""
    spans = detect(text)
    return apply(text, spans) if spans else text


def _found_in_pieces(text: str) -> list[Span]:
    spans: list[Span] = []
    for start in range(0, len(text), _PIECE - _OVERLAP):
        spans += [
            Span(span.start + start, span.end + start, span.cls, span.score)
            for span in _found(text[start : start + _PIECE])
        ]
    return spans


def _found(text: str) -> list[Span]:
    hits = hits_of(text)
    if not hits:
        return []
    spans = [
        *identifiers.shaped(text, hits),
        *identifiers.cued(text, hits),
        *identifiers.addresses(text, hits),
        *dates.absolute(text, hits),
        *dates.ages(text, hits),
        *names.find(text, hits),
        *places.find(text, hits),
        *places.find_lower_case(text, hits),
    ]
    if spans:
        # A relative time identifies only beside a person, a place or a number (see `dates`).
        spans += dates.relative(text, hits)
    return [span for span in spans if span.end > span.start]
