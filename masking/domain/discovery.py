"""Propose what columns hold, from their names and a sample of their values. A person confirms; nothing masks before.

A column name alone is enough (a validity check never vetoes a name: hipaa.md), values raise or give the confidence.
Proposals carry no values, only how many of the sample agreed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from masking.detectors.text import detect

_LEAST_SHARE = 0.3  # of the sampled values
_BY_NAME = 0.7
_BY_VALUES = 0.6
_BY_BOTH = 0.95

# (class, whole words of a column name split at "_" and capitals). The first match wins.
_NAMES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (cls, re.compile(pattern))
    for cls, pattern in (
        ("ssn", r"ssn|social security(?: number)?|ss number|tax id|sin"),
        ("mrn", r"mrn|medical record(?: number| no)?|pubpid|pid|chart (?:number|no)|patient (?:number|no|identifier)"),
        ("health_plan", r"mbi|hicn?|(?:member|policy|subscriber|beneficiary|group|insurance|plan)(?: id| number| no)"),
        ("email", r"(?:.* )?e ?mail(?: address)?"),
        ("fax", r"(?:.* )?fax(?: number| no)?"),
        ("phone", r"(?:.* )?(?:phone|telephone|mobile|cell|tel)(?: number| no)?|(?:home|work) ph"),
        ("zip", r"(?:.* )?(?:zip|zip ?code|postal(?: code)?|postcode)"),
        (
            "location",
            r"(?:.* )?(?:address|street|addr|city|county|town|latitude|longitude|lat|lon|lng)(?: ?(?:line )?\d)?",
        ),
        (
            "date",
            r"dob|(?:date of )?birth(?: ?date)?|.* (?:dt|date|dttm)"
            r"|(?:admit|admission|discharge|death|deceased)(?: date)?",
        ),
        ("age", r"age(?: years| at .*)?"),
        (
            "name",
            r"(?:f|l|m|first|last|middle|full|given|family|sur|maiden|mother|father|patient|guarantor|provider|physician"
            r"|spouse|contact|emergency contact|subscriber)s? ?names?|fname|lname|surname|provider|guarantor"
            r"|mother(?: .*)?",
        ),
        ("account", r"(?:.* )?(?:account|acct|iban|card)(?: number| no| id)?|claim (?:number|no)"),
        ("licence", r"npi|dea(?: number)?|(?:.* )?licen[cs]e(?: number| no)?|passport(?: number)?"),
        ("vehicle", r"vin|(?:license )?plate(?: number)?"),
        ("device", r"udi|imei|(?:device )?serial(?: number| no)?|device id"),
        ("ip", r"(?:.* )?ip(?: address| addr)?"),
        ("mac", r"mac(?: address)?"),
        ("url", r"url|web ?site|home ?page"),
        ("photo", r"photo(?:graph)?|picture|image|portrait|fingerprint|biometric"),
        ("note", r"(?:.* )?(?:notes?|comments?|narrative|free text|remarks?|history|summary)"),
    )
)


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


def class_of_name(name: str) -> str | None:
    """Return the class a bare column name speaks of: `PatientEmail`, `home_phone`, `DOB`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\W]+", " ", name).strip().lower()
    return next((cls for cls, pattern in _NAMES if pattern.fullmatch(words)), None)


def _class_of_values(values: Sequence[str]) -> tuple[str | None, int]:
    """The class most values hold, and how many do. A value counts once, whatever it holds."""
    found = Counter(spans[0].cls for value in values if (spans := detect(value)))
    return found.most_common(1)[0] if found else (None, 0)
