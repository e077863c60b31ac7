"""Which families of detectors can find anything in a text: one linear pass of google-re2, no backtracking.

Each trigger accepts a superset of what its family can find; `tests/masking/test_prefilter.py` holds that.
"""

from __future__ import annotations

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


def _any_of(words: frozenset[str] | tuple[str, ...]) -> str:
    return "|".join(re2.escape(word) for word in sorted(words))


_MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_TRIGGERS: dict[Family, str] = {
    Family.DIGITS: r"\d[\d\s().#/-]*\d\D{0,3}\d|\d{3}|@|\[at\]|\(at\)|://|www\.|(?i:[0-9a-f]{2}[:-][0-9a-f]{2}[:-])|(?i:[x*]{3}-?[x*]{2})",
    Family.ADDRESS: r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:",
    Family.DATE: rf"(?i:\b(?:{_MONTH})[a-z]*\.?,?\s*(?:of\s+)?'?\d|\d(?:st|nd|rd|th)?(?:\s+of)?[\s-]+(?:{_MONTH}))|\d\s?[-/.]\s?\d|\d{{8}}|(?:9\d|1[0-3]\d)\b|(?i:ninet|hundred|nonagen|centenar)|(?:9\d|1[0-3]\d)(?i:y)",
    Family.RELATIVE: rf"(?i:\b(?:last|next|this|past|previous|ago|earlier|prior|back|yesterday|today|tomorrow|christmas|easter|thanksgiving|halloween|new year|labor|memorial)\b|(?:sun|mon|tues|wednes|thurs|fri|satur)day|\b(?:{_MONTH}))",
    Family.NAME: (
        r"[A-Z][a-z'A-Z-]+[\s,]+(?:[A-Z]|de|van|von|la|le|da|di|bin|al|el)|\b[A-Z]\.|[A-Z][a-z]+[A-Z]\.|(?i:\b(?:dr|drs|doctor|mr|mrs|ms|mx|miss|mister|prof|rev|nurse|sister|father)\b)"
        rf"|(?i:\b(?:{_any_of(lexicon.given() | lexicon.family())})\b)"
    ),
    Family.PLACE: (
        r"[A-Z](?:[\w'.&-]*)\s+(?:[\w'.&-]+\s+)*?(?i:hosp|clin|med|center|centre|ctr|health|infirm|nursing|assisted|manor|urgent|pharm|assoc|office|general|gen|memorial|rehab|instit|univ|college|school|county|campus|parish|village|township|borough|care)"
        r"|\b(?:St|Saint|Mt|Mount)\b|\d+(?:-\d+)?[A-Za-z]?\s+[A-Z0-9]|(?i:p\.?\s?o\.?\s?box)|[a-z.],\s*[A-Z][A-Za-z]|\b(?:at|in|to|from|by|near|with|visited|attended|left|visiting|attending|attends|visits|into|outside)\s+(?:the\s+)?[A-Z]|(?i:zip|postal|postcode)|\d\.\d{4}|[A-Z]\d[A-Z\d]?\s\d[A-Z]{2}|[A-Z][A-Za-z],?\s+\d{5}"
        rf"|(?i:\b(?:{_any_of(lexicon.phrases('cities.txt') + lexicon.phrases('institutions.txt'))}|nyc)\b)"
    ),
}


def _compiled() -> re2.Set:
    options = re2.Options()
    options.max_mem = 256 << 20  # a DFA that thrashes its cache falls back to a slow engine
    options.log_errors = False
    patterns = re2.Set.SearchSet(options)
    for family in Family:
        patterns.Add(_TRIGGERS[family])
    patterns.Compile()
    return patterns


_SET = _compiled()


def families(text: str) -> frozenset[int]:
    """Return the families of detectors worth running. Works on the normal form."""
    return frozenset(_SET.Match(text) or ())
