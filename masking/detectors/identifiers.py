"""Identifiers with a shape (addresses of the network, check digits) or a cue ("MRN", "policy no.") beside them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from masking.detectors.checks import is_card, is_dea, is_iban, is_issued_ssn, is_mbi, is_vin
from masking.detectors.spans import Span
from masking.detectors.watch import Hits, Watched, chosen, relaxed, watch

_SEP = r"[\s.\-/]{0,3}"
# A value after a cue: at least two digits among letters, digits and separators; ends on a letter or digit.
_TWO_DIGITS = r"[#(]?\s*[A-Z\d#./\-]{0,20}\d[A-Z./\-]{0,6}\d"
_VALUE = r"[#(]?\s*(?=[A-Z\d#./\-]{0,20}\d[A-Z./\-]{0,6}\d)[A-Z\d](?:[A-Z\d./\-]{0,28}[A-Z\d])?"
_SPACED_VALUE = r"[#(]?\s*\d(?:[\d -]{2,20}\d)"
_LINK = r"(?:\s*(?:number|numbers|num|no|nr|id|#|code)\b\.?|\s*#)*(?:\s*(?:is|was|of|as|under|with|[:=#,(\-]))*\s*"

_Check = Callable[[str], bool]


# (class, pattern, score, check that raises the score). The whole match is the finding.
_SHAPES: tuple[tuple[str, Watched, float, _Check | None], ...] = (
    (
        "email",
        watch(
            r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}\s?(?:@|\[at\]|\(at\))\s?[\w-]+(?:\s?(?:\.|\[dot\]|\(dot\))\s?[A-Za-z][\w-]*)+"
        ),
        0.95,
        None,
    ),
    ("url", watch(r"\b(?:https?|ftp|sftp|ldaps?|file)://[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+", re.I), 0.95, None),
    (
        "mac",
        watch(r"\b(?:[0-9A-F]{2}([:-])[0-9A-F]{2}(?:\1[0-9A-F]{2}){4}|[0-9A-F]{4}\.[0-9A-F]{4}\.[0-9A-F]{4})\b", re.I),
        0.9,
        None,
    ),
    ("ssn", watch(r"(?<![\w-])\d{3}(?:\s?[-. /]\s?)\d{2}(?:\s?[-. /]\s?)\d{4}(?![\w])"), 0.8, is_issued_ssn),
    ("ssn", watch(r"(?<![\w-])(?:[X*]{3}-?[X*]{2}-?)\d{4}(?!\w)", re.I), 0.8, None),
    (
        "phone",
        watch(
            r"(?<![\w-])(?:\+?1[\s.-]{0,2})?(?:\(\s?\d{3}\s?\)\s?|\d{3}\s?[-./ ]\s?)\d{3}\s?[-./ ]\s?\d{4}"
            r"(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?(?!\w)",
            re.I,
        ),
        0.85,
        None,
    ),
    ("phone", watch(r"(?<![\w])\+\d{1,3}[\s.-]?(?:\(?\d{1,4}\)?[\s.-]?){2,5}\d{2,4}(?!\w)"), 0.85, None),
    ("iban", watch(r"\b[A-Z]{2}\d{2}(?:\s?[A-Z\d]{4}){3,7}(?:\s?[A-Z\d]{1,3})?\b"), 0.6, is_iban),
    (
        "card",
        watch(r"(?<![\w-])(?:\d{4}[\s-]?){3}\d{1,7}(?![\w-])|(?<![\w-])3[47]\d\d[\s-]?\d{6}[\s-]?\d{5}(?![\w-])"),
        0.6,
        is_card,
    ),
    ("mbi", watch(r"\b[1-9][A-Z][A-Z\d]\d-?[A-Z][A-Z\d]\d-?[A-Z]{2}\d\d\b", re.I), 0.7, is_mbi),
    ("vin", watch(r"\b(?=[A-Z]*\d)[A-HJ-NPR-Z\d]{17}\b", re.I), 0.5, is_vin),
    ("id", watch(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I), 0.8, None),
    (
        "id",
        watch(
            r"(?<![\w.,/-])#?(?!(?:MK|LY|ABT|BMS|GSK|AMG|AZD|PF|RG|RO|TAK|JNJ|SAR|NCT|ICD|DSM|HIV|HPV|COVID|SARS|IL|CD|CPT|LOINC|UMIN|ISRCTN|PMID|PMC|DOI)-?\d)[A-Z]{1,6}-\d{4,}(?:-?[A-Z\d]+)*(?![\w])"
        ),
        0.7,
        None,
    ),
    (
        "id",
        watch(r"(?<![\w.,/$-])#?(?!NCT|PMC|PMID|ISRCTN)[A-Z]{1,4}\d{5,}(?:-\d+)*[A-Z]{0,3}(?![\w.,]\d|\w)"),
        0.6,
        None,
    ),
    ("id", watch(r"(?<![\w.,/$-])#?\d{5,}-?[A-Z]{2,4}(?![\w-])(?!\s?/)"), 0.55, None),
    (
        "id",
        watch(r"(?<![\w.,/$+-])#?\d{7,14}(?![\w,-]|\.\d)(?!\s?(?:/|cells|copies|platelets|IU|units))"),
        0.6,
        None,
    ),
    ("id", watch(r"(?<![\w.,/$+-])#?(?=[\d-]*\d{3})\d{2,8}(?:-\d{2,8}){1,4}(?![\w-]|/\d)(?<!-\d\d\d\d-)"), 0.5, None),
    ("id", watch(r"(?<![\w/])#\s?(?=[A-Z\d-]*\d{3})[A-Z\d][A-Z\d-]{3,24}(?!\w)"), 0.6, None),
)


def _words(text: str) -> str:
    """An alternation of words or patterns separated by blanks; `_` stands for white space inside one."""
    return "|".join(word.replace("_", r"\s+") for word in text.split())


_OF_A_PLAN = _words("plan policy member beneficiary subscriber group insurance health")
_PLANS = _words(
    "insurance plan policy member(?:ship)? subscriber beneficiary group HMO PPO HICN? MBI Medicare Medicaid Tricare "
    "payer payor"
)
_ACCOUNTS = _words("account acct a/c routing invoice claim guarantor card credit_card debit_card")
_LICENCES = _words("licen[cs]e certificate certification passport NPI DEA permit")
_CHARTS = _words("hospital unit chart patient clinic case EMR EHR encounter visit CSN FIN pubpid pid")
_UNIQUE = _words(
    "patient site study subject participant enrol+ment employee badge record case sample specimen accession trial "
    "visit encounter order prescription rx reference ref file login user(?:name)? unique identifier identification ID "
    "tracking confirmation room bed student"
)
# A plan's cue must lead to a number: "insurance" alone leads to prose.
_LEADS_TO_A_NUMBER = r"(?=\s*(?:number|no|num|id|#|\bis\b|[:=(]|\s[A-Z#]*[A-Z\d-]*\d{3}))"
_CUES: tuple[tuple[str, str, bool], ...] = (
    # class, cue (a regular expression), whether the cue belongs to the finding
    (
        "ssn",
        r"(?:SSN|SS\s?#|social(?:\s+security)?(?:\s+(?:number|no|num))?)(?:\s*\(?last\s+(?:4|four)(?:\s+digits)?\)?)?",
        False,
    ),
    (
        "mrn",
        r"(?:(?<![a-z])MRN?|MR\s?#|med(?:ical|\.)?\s+rec(?:ord|\.)?s?|chart|record(?=\s*(?:no|num|number|#|id))"
        rf"|(?:{_CHARTS})\s+(?:record|number|no|num|chart|file))",
        False,
    ),
    (
        "health_plan",
        rf"(?:(?:health\s*(?:care)?|medical|dental)?\s*(?:{_PLANS})(?:\s+(?:{_OF_A_PLAN}))*){_LEADS_TO_A_NUMBER}",
        True,
    ),
    ("account", rf"(?:(?:bank|billing|checking|savings|patient|hospital)?\s*(?:{_ACCOUNTS}))", False),
    ("licence", rf"(?:(?:driver'?s?|medical|nursing|state|professional|pharmacy)?\s*(?:{_LICENCES}))", False),
    ("vehicle", r"(?:VIN|vehicle(?:\s+identification)?|license\s+plate|licence\s+plate|plate|registration)", False),
    ("device", r"(?:UDI|IMEI|serial|S/N|device|implant|pacemaker|lot|model\s+(?:no|number)|asset)", False),
    ("fax", r"(?:fax|facsimile|telefax)", False),
    ("phone", r"(?:phone|telephone|tel|cell|mobile|call|contact|pager|beeper|home\s+ph|ph)", False),
    ("id", rf"(?:(?:{_UNIQUE})(?:\s*(?:ID|identifier|number|no|num))?)", True),
)


def _is_spaced(cls: str) -> bool:
    return cls in {"phone", "fax", "ssn"}


def _value_after(cls: str) -> str:
    return _SPACED_VALUE if _is_spaced(cls) else _VALUE


def _least_value_after(cls: str) -> str:
    return _SPACED_VALUE if _is_spaced(cls) else _TWO_DIGITS


_CUED = tuple(
    (
        cls,
        watch(
            rf"(?<![\w])(?P<cue>{cue}){_LINK}(?P<value>{_value_after(cls)})(?!\w)",
            re.IGNORECASE,
            trigger=relaxed(rf"(?<![\w]){cue}{_LINK}{_least_value_after(cls)}", ignore_case=True),
        ),
        whole,
    )
    for cls, cue, whole in _CUES
)
_SHAPES_BY_INDEX = {shape[1].index: shape for shape in _SHAPES}
_CUED_BY_INDEX = {cue[1].index: cue for cue in _CUED}
_IP = watch(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![\w.]\d)"
    r"|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:%\w+)?(?![\w:])"
)
_DEA = watch(r"\b[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}\b")


def shaped(text: str, hits: Hits) -> Iterator[Span]:
    for cls, pattern, score, check in chosen(_SHAPES_BY_INDEX, hits):
        for match in pattern.pattern.finditer(text):
            sure = check is not None and check(match[0].strip("# "))
            yield Span(match.start(), match.end(), cls, 0.99 if sure else score)
    for match in _DEA.finditer(text, hits):
        yield Span(match.start(), match.end(), "licence", 0.99 if is_dea(match[0]) else 0.5)


def cued(text: str, hits: Hits) -> Iterator[Span]:
    for cls, pattern, whole in chosen(_CUED_BY_INDEX, hits):
        for match in pattern.pattern.finditer(text):
            if sum(char.isdigit() for char in match["value"]) >= _fewest_digits(cls) and not _is_year(
                cls, match["value"]
            ):
                yield Span(
                    match.start() if whole else match.start("value"), match.end(), cls, 0.85 if cls == "id" else 0.92
                )


def addresses(text: str, hits: Hits) -> Iterator[Span]:
    """IPv4 and IPv6 addresses, as the standard library's parser understands them."""
    for match in _IP.finditer(text, hits):
        try:
            ipaddress.ip_interface(match[0].split("%")[0])
        except ValueError:
            continue
        if any(char.isalnum() for char in match[0]):
            yield Span(match.start(), match.end(), "ip", 0.97)


def _fewest_digits(cls: str) -> int:
    return {"phone": 7, "fax": 7, "ssn": 4, "id": 3, "device": 4, "account": 4, "licence": 4, "vehicle": 3}.get(cls, 3)


def _is_year(cls: str, value: str) -> bool:
    """Whether a weak cue ("trial 2021") is followed by a year, which may stay."""
    return cls in {"id", "device", "account", "health_plan"} and re.fullmatch(r"(?:19|20)\d\d", value) is not None
