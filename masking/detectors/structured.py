"""Identifiers that their shape alone tells, for ordinary short values: a payer, a month, a status stay as they are.

Names, places and dates are guesses that need prose around them; in a column of short values they would rewrite honest
answers ("Blue Harbor Health", "2022-05"). Here is only what cannot be a mere word: shapes with a check digit or with
separators in the right places. Prose, and any value in which one of these is found, gets the full detectors.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from masking.detectors.checks import is_card, is_dea, is_iban, is_mbi, is_npi, is_vin
from masking.detectors.normal import normal_form, visible
from masking.detectors.spans import Span, united
from masking.detectors.text import detect
from masking.detectors.watch import Hits, Watch, Watched

_SHORTEST_PROSE = 40
_FEWEST_LOWER_CASE_WORDS = 4
_LOWER_CASE_WORD = re.compile(r"(?<![\w-])[a-z]{2,}(?![\w-])")

# Nearly every value has none of the shapes, which one pass over it tells (see `watch`).
SHAPES = Watch(sets=1)
watch = SHAPES.watch

_Check = Callable[[str], bool]


def _telling_url(url: str) -> bool:
    """Whether an address leads to somebody: a user, a query, or a number in its path."""
    return re.search(r"[?@]|/[^/]*\d{3}|patient|person|member|profile", url.split("://", 1)[-1], re.I) is not None


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_interface(value.split("%", maxsplit=1)[0])
    except ValueError:
        return False
    return any(char.isalnum() for char in value)


# (class, pattern, check that must hold).
_SHAPES: tuple[tuple[str, Watched, _Check | None], ...] = (
    (
        "email",
        watch(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}\s?(?:@|\[at\]|\(at\))\s?[\w-]+(?:\s?\.\s?[A-Za-z][\w-]*)+"),
        None,
    ),
    ("ssn", watch(r"(?<![\w.-])\d{3}(?:\s?[-. /]\s?)\d{2}(?:\s?[-. /]\s?)\d{4}(?![\w-])"), None),
    ("ssn", watch(r"(?<![\w-])(?:[Xx*]{3}-?[Xx*]{2}-?)\d{4}(?!\w)"), None),
    (
        "ssn",
        watch(r"\b(?i:SSN|SS#|social\s+security)\W{0,4}(?:(?i:no|number|is)\W{0,3}){0,2}\d[\d -]{2,11}\d"),
        None,
    ),
    (
        "phone",
        watch(
            r"(?<![\w.-])(?:\+?1[\s.-]{0,2})?(?:\(\s?\d{3}\s?\)\s?|\d{3}\s?[-./ ]\s?)\d{3}\s?[-./ ]\s?\d{4}"
            r"(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?(?![\w-])"
        ),
        None,
    ),
    ("phone", watch(r"(?<!\w)\+\d{1,3}[\s.-]?(?:\(?\d{1,4}\)?[\s.-]?){2,5}\d{2,4}(?!\w)"), None),
    (
        "mrn",
        watch(r"(?<![A-Za-z])(?i:MRN|MR#|medical\s+record(?:\s+(?:no|number))?)[\s:#.-]{0,3}[A-Z]{0,3}\d{4,}"),
        None,
    ),
    (
        "mac",
        watch(
            r"\b(?:[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4})\b"
        ),
        None,
    ),
    (
        "url",
        watch(r"\b(?i:https?|ftp|sftp|ldaps?|file)://[^\s<>\"')\]]+|\b(?i:www)\.[^\s<>\"')\]]+"),
        _telling_url,
    ),
    ("iban", watch(r"\b[A-Z]{2}\d{2}(?:\s?[A-Z\d]{4}){3,7}(?:\s?[A-Z\d]{1,3})?\b"), is_iban),
    (
        "card",
        watch(r"(?<![\w.-])(?:\d{4}[\s-]?){3}\d{1,7}(?![\w.-])|(?<![\w.-])3[47]\d\d[\s-]?\d{6}[\s-]?\d{5}(?![\w.-])"),
        is_card,
    ),
    ("mbi", watch(r"\b[1-9][A-Za-z][A-Za-z\d]\d-?[A-Za-z][A-Za-z\d]\d-?[A-Za-z]{2}\d\d\b"), is_mbi),
    ("licence", watch(r"\b[A-Za-z][A-Za-z9]\d{7}\b"), is_dea),
    ("licence", watch(r"\bNPI\W{0,3}\d{10}\b"), None),
    ("vin", watch(r"\b(?=[A-Z]*\d)[A-HJ-NPR-Z\d]{17}\b"), is_vin),
    (
        "ip",
        watch(
            r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![\w.])"
            r"|(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:%\w+)?(?![\w:.])"
        ),
        _is_address,
    ),
)
_CARD_SHAPE = "card"


def is_prose(text: str) -> bool:
    """Whether a value reads like a sentence, whatever its column is called."""
    return len(text) >= _SHORTEST_PROSE and len(_LOWER_CASE_WORD.findall(text)) >= _FEWEST_LOWER_CASE_WORDS


def detect_structured(text: str, *, bare_digits: bool = False) -> list[Span]:
    """Return disjoint spans in order. `bare_digits`: the value is stored text, so nine digits alone are an SSN.

    Without it digits alone pass: a number cast to text, an epoch, a count.
    """
    if is_prose(text):
        return detect(text)
    seen, kept = visible(text)
    plain = normal_form(seen)
    spans = list(_shaped(plain, SHAPES.hits_of(plain), bare_digits=bare_digits))
    if bare_digits:
        spans += _alone(plain)
    if not spans:
        return []
    if kept is not None:
        spans = [Span(kept[span.start], kept[span.end - 1] + 1, span.cls, span.score) for span in spans]
    # One identifier in it, and the value is no mere label: whatever else stands beside is looked for as well.
    return united([*spans, *detect(text)])


def _shaped(text: str, hits: Hits, *, bare_digits: bool) -> Iterator[Span]:
    if not hits:
        return
    for cls, pattern, check in _SHAPES:
        for match in pattern.finditer(text, hits):
            found = match[0].strip()
            if cls == _CARD_SHAPE and found.isdigit() and not bare_digits:
                continue
            if check is None or check(found):
                yield Span(match.start(), match.end(), cls, 0.95)


def _alone(text: str) -> Iterator[Span]:
    """A value of nothing but digits: nine are an SSN, ten a telephone or (by the check digit) a provider's number."""
    digits = text.strip()
    if not digits.isdigit():
        return
    start = text.index(digits)
    if len(digits) == 9:
        yield Span(start, start + 9, "ssn", 0.6)
    elif len(digits) == 10 and is_npi(digits):
        yield Span(start, start + 10, "licence", 0.8)
    elif len(digits) == 10 and re.fullmatch(r"[2-9]\d{2}[2-9]\d{6}", digits):
        yield Span(start, start + 10, "phone", 0.5)
