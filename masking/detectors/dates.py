"""Dates of every common form, and ages over 89 (45 CFR 164.514(b)(2)(i)(C)).

A year alone may stay. A relative time ("last month", "three weeks ago") says when only once the text tells whom or
where: those come from `relative`, which the caller uses when something else was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from masking.detectors.spans import Span
from masking.detectors.watch import Hits, watch

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR = r"(?:(?:1[89]|2[01])\d\d|'\d\d)"
_TIME = r"(?:,?[T\s]*(?:at\s+)?\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?\s*(?:[ap]\.?m\.?)?(?:Z|\s*UTC|[+-]\d\d:?\d\d)?)?"
_ORDINAL = r"(?:\s?(?:st|nd|rd|th))?"
_WEEKDAY = r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"

_ABSOLUTE = watch(
    rf"(?<![\w])(?:{_WEEKDAY}\.?,?\s+)?(?:"
    rf"{_MONTH}\.?\s*{_DAY}{_ORDINAL}(?:\s*[-/]\s*{_DAY}{_ORDINAL})?(?:\s*,?\s*(?:of\s+)?{_YEAR})?"  # March 3rd, 2023
    rf"|(?:the\s+)?{_DAY}{_ORDINAL}(?:\s+of)?[\s-]+{_MONTH}\.?(?:[\s,-]+{_YEAR})?"  # 3rd of March 2023, 3-Mar-2023
    rf"|(?:early|mid|late)?[\s-]?{_MONTH}\.?,?\s*(?:of\s+)?{_YEAR}"  # March 2023
    rf"|{_YEAR}[\s-]{_MONTH}[\s-]{_DAY}"  # 2023-Mar-03
    rf")(?!\w){_TIME}",
    re.IGNORECASE,
)
_NUMERIC = watch(
    rf"(?<![\w/.-])(?:"
    rf"(?:1[6-9]|2[01])\d\d\s?([-/.])\s?(?:0?[1-9]|1[0-2])\s?\1\s?{_DAY}"  # 2023-03-05
    rf"|(?:0?[1-9]|[12]\d|3[01])\s?([-/.])\s?(?:0?[1-9]|[12]\d|3[01])\s?\2\s?(?:(?:1[6-9]|2[01])\d\d|'?\d\d)"  # 3/5/23
    rf"|(?:0?[1-9]|1[0-2])/(?:1[89]|2[01])\d\d"  # 03/2023
    rf"|(?:1[89]|2[01])\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:T?\d{{4,6}}Z?)?"  # 20230305
    rf")(?!(?!T\d)\w|[-/.]\d){_TIME}",
    re.IGNORECASE,
)
# A month and day without a year is a date only where one is expected: 3/5 is as often a strength or a score.
_SHORT = watch(
    r"\b(?:on|dated?|dob|d\.o\.b\.|born|since|until|admitted|discharged|seen|visit(?:ed)?|appointment|follow-up)"
    r"(?:\s+(?:on|of|is))?[:\s]+((?:0?[1-9]|1[0-2])[/-](?:0?[1-9]|[12]\d|3[01]))(?![\w/-])",
    re.IGNORECASE,
)
# "the March 2020 NICE guideline": when a document appeared, not when somebody was seen.
_MONTH_AND_YEAR = re.compile(rf"{_MONTH}\.?,?\s*(?:of\s+)?{_YEAR}", re.IGNORECASE)
_OF_A_DOCUMENT = re.compile(
    r"\s+(?:[A-Z][\w/-]*\s+){0,3}(?:guidelines?|guidance|recommendations?|consensus|updates?\s+(?:of|on|to)"
    r"|draft|edition|statement)\b"
)
_UNIT = r"(?:days?|weeks?|months?|years?|fortnights?)"
_COUNT = r"(?:\d{1,3}|a|an|one|two|three|four|five|six|seven|eight|nine|ten|several|few|a few|couple of|a couple of)"
_RELATIVE = watch(
    rf"\b(?:(?:late|early|mid)[\s-]+)?(?:last|next|this|past|previous|earlier this)\s+(?:{_WEEKDAY}\b|{_MONTH}\b"
    r"|week(?:end)?|month|year|spring|summer|fall|autumn|winter|night|quarter|christmas|thanksgiving|easter)\b"
    rf"|\b(?:{_COUNT})\s+{_UNIT}\s+(?:ago|earlier|prior|back)\b"
    rf"|\b(?:yesterday|tomorrow|today|(?:sun|mon|tues|wednes|thurs|fri|satur)day)\b"
    rf"|\b(?:in|on|since|during|of|last seen|early|mid|late)[\s-]+(?P<bare>{_MONTH})\b(?!\s+(?:be|have|not)\b)"
    r"|\b(?:new year'?s(?: eve| day)?|christmas(?: eve| day)?|thanksgiving|easter|labor day|memorial day|halloween)\b",
    re.IGNORECASE,
)
_AGE = watch(
    r"(?<![\w.])(?:aged?\s*(?:of|is|:)?\s*)?((?:9\d|1[0-3]\d))\s*-?\s*(?:years?|yrs?|y)\b[\s.-]*"
    r"(?:old|o(?:ld)?\b|/o|of age)?"
    r"|(?<![\w.])((?:9\d|1[0-3]\d))\s*-?\s*(?:yo|y/o|y\.o\.|yr old|years? young)(?!\w)"
    r"|\bage[ds]?\s*(?:of|is|:|=)?\s*((?:9\d|1[0-3]\d))(?![\w.%])"
    r"|\b(ninet(?:y|ies)(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|(?:one )?hundred)[- ]years?[- ]old\b"
    r"|\b(nonagenarian|centenarian)\b",
    re.IGNORECASE,
)


def absolute(text: str, hits: Hits) -> Iterator[Span]:
    for pattern in (_ABSOLUTE, _NUMERIC):
        for match in pattern.finditer(text, hits):
            if not _is_of_a_document(text, match):
                yield _trimmed(text, match.start(), match.end())
    for match in _SHORT.finditer(text, hits):
        yield Span(match.start(1), match.end(1), "date", 0.7)


def _is_of_a_document(text: str, match: re.Match[str]) -> bool:
    return (
        _MONTH_AND_YEAR.fullmatch(match[0].strip(" ,")) is not None
        and _OF_A_DOCUMENT.match(text, match.end()) is not None
    )


def relative(text: str, hits: Hits) -> Iterator[Span]:
    for match in _RELATIVE.finditer(text, hits):
        start = match.start("bare") if match["bare"] else match.start()
        yield Span(start, match.end(), "date", 0.5)


def ages(text: str, hits: Hits) -> Iterator[Span]:
    for match in _AGE.finditer(text, hits):
        yield _trimmed(text, match.start(), match.end(), cls="age", score=0.9)


def _trimmed(text: str, start: int, end: int, *, cls: str = "date", score: float = 0.95) -> Span:
    found = text[start:end]
    return Span(start + len(found) - len(found.lstrip()), start + len(found.rstrip(" ,")), cls, score)
