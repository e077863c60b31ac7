r"""Which families of detectors can find anything in a text: one linear pass of google-re2, no backtracking.

Each trigger accepts a superset of what its family can find (`tests/masking/test_prefilter.py` holds that). RE2 has no
look-around, which a superset does not need.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import re2

from masking.detectors import lexicon


class Family(IntEnum):
    DIGITS = 0
    ADDRESS = 1
    DATE = 2
    RELATIVE = 3
    NAME = 4
    PLACE = 5
    LOWER_PLACE = 6


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re2.escape(word) for word in sorted(set(words)))


_MONTH = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_DAY = "(?i:(?:sun|mon|tues|wednes|thurs|fri|satur)day)"
_GAP = r"[A-Za-z\s().#/*-]{0,3}"
_TITLES = (
    "dr drs doctor mr mrs ms mx miss mister prof professor rev reverend fr father sister sr sra srta nurse capt sgt "
    "lt col judge hon"
)
_TIMES = (
    "last next this past previous ago earlier prior back yesterday today tomorrow christmas easter thanksgiving "
    "halloween"
)
_FACILITIES = (
    "hosp clin med center centre ctr health infirm nursing assisted manor urgent pharm assoc office general gen "
    "memorial rehab instit univ college school county campus parish village township borough care branch location "
    "surgi sanator hospice retirement"
)
_TO_A_PLACE = "at in to from by near into outside with visited visiting visits attended attending attends left"
_NAMED_PLACES = lexicon.phrases("cities.txt") + lexicon.phrases("institutions.txt")

_TRIGGERS: dict[Family, tuple[str, ...]] = {
    Family.DIGITS: (
        rf"\d{_GAP}\d{_GAP}\d",
        r"@|(?i:\[at\]|\(at\))|://|(?i:www\.)",
        r"(?i:[0-9a-f]{2}[:-][0-9a-f]{2}[:-])",
        r"(?i:[x*]{3}-?[x*]{2})",
        r"\d[A-Za-z]{1,2}\d-?[A-Za-z]",  # MBI
        r"(?i:\b[A-HJ-NPR-Z0-9]{17}\b)",  # VIN
        r"(?i:[0-9a-f]{4}\.[0-9a-f]{4}\.)",
    ),
    Family.ADDRESS: (r"\d\.\d{1,3}\.\d", r":[0-9A-Fa-f]{0,4}:"),
    Family.DATE: (
        rf"\b{_MONTH}[A-Za-z]*[\s.,-]*(?i:of\s+)?'?\d",
        rf"\d(?i:st|nd|rd|th|\s)*(?i:of)?[\s-]+{_MONTH}",
        r"\d\s?[-/.]\s?'?\d",
        r"\d{8}",
        r"9\d|1[0-3]\d",  # ages over 89
        r"(?i:ninet|hundred|nonagen|centenar)",
    ),
    Family.RELATIVE: (
        rf"(?i:\b(?:{_any_of(_TIMES.split())})\b)",
        "(?i:new year|labor day|memorial day)",
        _DAY,
        rf"\b{_MONTH}",
    ),
    Family.NAME: (
        r"[A-Z][A-Za-z'-]+[\s,]+(?:[A-Z(\"]|(?:de|del|van|von|la|le|da|dos|di|bin|ibn|ter|al|el|der|den)\b)",
        r"\b[A-Z]\.",
        r"[A-Z][a-z]+[A-Z]\.",
        rf"(?i:\b(?:{_any_of(_TITLES.split())}|señora?)\b)",
        rf"(?i:\b(?:{_any_of(lexicon.given() | lexicon.family())})\b)",
    ),
    Family.PLACE: (
        rf"[A-Z][\w'.&-]*\s+(?:[\w'.&-]+\s+)*?(?i:{_any_of(_FACILITIES.split())})",
        r"\b(?:St|Saint|Mt|Mount|Our)\b",
        r"\d+(?:-\d+)?[A-Za-z]?\s+[A-Z0-9]",
        r"(?i:p\.?\s?o\.?\s?box|\b(?:zip|postal|postcode))",
        r"[a-z.],\s*[A-Z][A-Za-z.]",
        rf"\b(?i:{_any_of(_TO_A_PLACE.split())})\s+(?:(?:the|my|our|their|his|her)\s+)?(?:\w+\s+)?[A-Z]",
        r"\d\.\d{4}",
        r"[A-Z]\d[A-Z\d]?\s\d[A-Z]{2}",
        r"[A-Z][A-Za-z.],?\s+\d{5}",
        rf"(?:{_any_of(_NAMED_PLACES)}|NYC)",
    ),
    Family.LOWER_PLACE: (rf"\b(?:{_any_of(phrase.lower() for phrase in _NAMED_PLACES)})\b",),
}


def _compiled() -> re2.Set:
    options = re2.Options()
    options.max_mem = 256 << 20  # a DFA that outgrows its memory falls back to a slow engine
    options.log_errors = False
    patterns = re2.Set.SearchSet(options)
    for family in Family:
        patterns.Add("|".join(_TRIGGERS[family]))
    patterns.Compile()
    return patterns


_SET = _compiled()


def families(text: str) -> frozenset[int]:
    """Return the families of detectors worth running. Works on the normal form."""
    return frozenset(_SET.Match(text) or ())
