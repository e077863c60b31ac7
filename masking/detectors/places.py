"""Geography smaller than a state: facilities, street addresses, cities, ZIP codes; states and countries may stay."""

from __future__ import annotations

import re
from collections.abc import Iterator

from masking.detectors import lexicon, place_context
from masking.detectors.place_words import LINKED, MEDICAL_KIND, PROPER, STATE, STRONG, WORD, ZIP
from masking.detectors.spans import Span
from masking.detectors.watch import Hits, any_of, watch

_FACILITY = watch(
    rf"(?<![\w'])(?:the\s+)?(?P<name>(?:(?:Dr|Drs|Mr|Ms)\.?\s+)?{WORD}(?:{LINKED}){{0,6}}?)\s+(?P<kind>{STRONG}(?:\s+{STRONG}){{0,3}})(?![\w'])"
    rf"(?P<tail>(?:\s+(?:of|at|for)\s+(?:the\s+)?{PROPER})?(?:(?:,|\s+in|\s+at|\s*-|\s+of)?\s+{PROPER}(?:,\s*{STATE})?)?)"
)
_SAINT = watch(rf"(?<!\w)(?:St|Saint|Mt|Mount|Our\s+Lady)\.?\s+(?:of\s+)?[A-Z][a-z]+(?:'s|s')?(?:\s+{STRONG})?(?!\w)")
_STREET = watch(
    r"(?<![\w.])(?:P\.?\s?O\.?\s?Box\s+\d+"
    r"|\d{1,6}(?:-\d{1,4})?[A-Za-z]?\s+(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.?\s+)?(?:[A-Z0-9][\w'.-]*\s+){1,5}?"
    r"(?i:st|street|ave?|avenue|rd|road|blvd|boulevard|dr|drive|ln|lane|ct|court|way|pl|place|pkwy|parkway|ter|terrace|cir|circle"
    r"|hwy|highway|sq|square|trail|trl|loop|run|row|alley|plaza|pike|crescent|close|broadway)(?![\w])\.?"
    r"|\d{1,6}\s+(?:Broadway|Park\sAve(?:nue)?))"
    r"(?:,?\s+(?i:apt|apartment|suite|ste|unit|floor|fl|room|rm|#)\.?\s*#?\s*[\w-]+)?"
    rf"(?:,?\s+(?:in\s+)?{PROPER})?(?:,\s*{STATE})?(?:,?\s+{ZIP})?"
)
_CITY_STATE = watch(rf"(?<!\w)(?P<city>{PROPER}),\s*(?P<state>{STATE})(?:,?\s+{ZIP})?")
_ZIP_CUED = watch(
    rf"(?:\b(?i:zip|zip\s?code|postal(?:\s?code)?|postcode)(?:\s+(?:is|of))?\W{{0,3}}|\b{STATE},?\s+)({ZIP})"
)
_UK_POSTCODE = watch(r"\b[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}\b")
_COORDINATES = watch(r"(?<![\d.])[-+]?\d{1,2}\.\d{4,},?\s+[-+]?\d{1,3}\.\d{4,}(?![\d.])")
# "General Hospital" is a name only where someone was: in a guideline it is a kind of hospital.
_GENERIC_FACILITY = watch(
    r"\b(?i:at|to|from|in|by|visited|the)\s+(?P<name>(?:General|City|County|Community|University|Memorial|Regional|Central|District"
    rf"|Public|National)\s+{STRONG}(?:\s+{STRONG})?(?:(?:,|\s+in|\s+of)\s+{PROPER})?)(?!\w)"
)


def _listed(name: str) -> str:
    return "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in lexicon.phrases(name))


_CITY = watch(
    rf"(?<![\w-])(?:(?:downtown|north|south|east|west|central|greater)\s+)?(?:{_listed('cities.txt')}|NYC)(?:,?\s+{STATE})?(?:\s+(?:downtown|uptown|midtown))?(?:\s+(?:clinic|hospital|office|area|suburbs?|campus))?(?![\w])(?!'s\s)"
)
_INSTITUTION = watch(
    rf"(?<![\w-])(?:{_listed('institutions.txt')})(?![\w])"
    rf"(?:\s+(?:{STRONG}|{PROPER}\s+{STRONG}))?"
    rf"(?:(?:\s+in|,|\s+at|\s+of|\s+-)?\s+\(?(?:{_listed('cities.txt')}|{PROPER},\s*{STATE}|{STATE})\)?)?"
)
_NAMED = [phrase.lower() for name in ("cities.txt", "institutions.txt") for phrase in lexicon.phrases(name)]
_LOWER_CASE = watch(
    rf"(?<![\w-])(?:{_listed('institutions.txt')}|{_listed('cities.txt')})(?![\w-])"
    r"(?:\s+(?:hospital|clinic|medical center|health))?",
    re.IGNORECASE,
    trigger=rf"\b(?:{any_of(_NAMED)})\b",
)


def find(text: str, hits: Hits) -> Iterator[Span]:
    yield from _facilities(text, hits)
    for match in _GENERIC_FACILITY.finditer(text, hits):
        yield Span(match.start("name"), match.end("name"), "location", 0.6)
    for pattern, score in ((_STREET, 0.9), (_UK_POSTCODE, 0.6), (_COORDINATES, 0.8)):
        for match in pattern.finditer(text, hits):
            yield Span(match.start(), match.end(), "location", score)
    for match in _ZIP_CUED.finditer(text, hits):
        yield Span(match.start(1), match.end(1), "location", 0.8)
    for match in _CITY_STATE.finditer(text, hits):
        if match["city"].split()[0].lower() not in lexicon.not_names():
            yield Span(match.start(), match.end(), "location", 0.75)
    for pattern in (_INSTITUTION, _CITY):
        for match in pattern.finditer(text, hits):
            if not MEDICAL_KIND.match(text, match.end()):
                yield Span(match.start(), match.end(), "location", 0.8)
    yield from _saints(text, hits)
    yield from place_context.find(text, hits)


def find_lower_case(text: str, hits: Hits) -> Iterator[Span]:
    """Listed places typed without capitals."""
    for match in _LOWER_CASE.finditer(text, hits):
        if (
            match[0].islower()
            and match[0] not in lexicon.words("not_places.txt")
            and not MEDICAL_KIND.match(text, match.end())
        ):
            yield Span(match.start(), match.end(), "location", 0.6)


def _facilities(text: str, hits: Hits) -> Iterator[Span]:
    for match in _FACILITY.finditer(text, hits):
        start = _first_proper(text, match.start("name"), match.end("name"))
        if start is None:
            continue
        yield Span(start, match.end("kind"), "location", 0.9)
        tail = match["tail"].strip(" ,")
        if tail and not _starts_generic(re.sub(r"^(?:of|at|for|in|the|-)\s+", "", tail)):
            yield Span(start, match.end("tail"), "location", 0.7)


def _first_proper(text: str, start: int, end: int) -> int | None:
    """Where the distinguishing part of a facility's name begins; None for "Emergency Department"."""
    for word in re.finditer(r"[^\s]+", text[start:end]):
        plain = word[0].strip(".,").lower()
        if plain not in lexicon.not_names() or plain in lexicon.words("facility_openers.txt"):
            return (
                None
                if text[start + word.start() : end].lower() in lexicon.words("generic_facilities.txt")
                else start + word.start()
            )
    return None


def _starts_generic(words: str) -> bool:
    first = words.lstrip("(").split()[:1]
    return not first or first[0].lower().strip(",.") in lexicon.not_names() - {"new", "north", "south", "east", "west"}


def _saints(text: str, hits: Hits) -> Iterator[Span]:
    for match in _SAINT.finditer(text, hits):
        if not MEDICAL_KIND.match(text, match.end()):
            yield Span(match.start(), match.end(), "location", 0.7)
