"""What a column's name says about its values."""

from __future__ import annotations

import re

# (class, whole words of a column name split at "_" and capitals). The first match wins.
_CLASSES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
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

# Columns of text whose short values are names and places, which only the full detectors can tell.
_TELLING_CLASSES = frozenset({"name", "location", "note"})
_SIGNED = re.compile(
    r"author|(?:signed|created|entered|ordered|performed|verified|reviewed|dictated|seen|referred) by|attending"
    r"|clinician|nurse|recipient|(?:emergency )?contact|next of kin|employer|(?:hospital|facility|clinic)(?: name)?"
)
_CODED = re.compile(
    r"(?:.* )?(?:codes?|snomed|sctid|concept(?: id)?|ndc|loinc|icd\d*(?: .*)?|cpt|hcpcs|rxnorm|rxcui|drg|version"
    r"|checksum|hash)"
)

# The system's own relations hold comments and descriptions of tables, not of patients.
_SYSTEM = r"(?!(?:pg_catalog|information_schema|pg_toast)\.)"
# Said anywhere at the end of a name (`dischargesummary`), or only as a word of its own (`context` is no `text`).
_ENDINGS = (
    r"notes?|comments?|narratives?|remarks?|transcripts?|transcriptions?|memos?|impressions?|findings?|dictations?"
    r"|free_?text|summary|summaries"
)
_WORDS = (
    r"texts?|body|contents?|messages?|msg|history|histories|reports?|instructions?|complaints?|hpi|subjective|details?"
    r"|observations?|letters?|documents?|conversation|chat|(?:clinical|case|incident|injury|symptom)_description"
)
FREE_TEXT = re.compile(
    rf"{_SYSTEM}[^.]+\.[^.]+\.(?:.*[._])?(?:\w*(?:{_ENDINGS})|{_WORDS})(?:_?(?:text|txt|body|contents?|html|xml|json|raw|\d+))?\Z"
)


def class_of_name(name: str) -> str | None:
    """Return the class a bare column name speaks of: `PatientEmail`, `home_phone`, `DOB`."""
    words = _spoken(name)
    return next((cls for cls, pattern in _CLASSES if pattern.fullmatch(words)), None)


def speaks_of_people_or_places(name: str) -> bool:
    """Whether the values of a column called this are read with every detector, however short they are."""
    return class_of_name(name) in _TELLING_CLASSES or _SIGNED.fullmatch(_spoken(name)) is not None


def speaks_of_codes(name: str) -> bool:
    """Whether bare digits in it are codes of a terminology (SNOMED CT has nine of them as often as an SSN)."""
    return _CODED.fullmatch(_spoken(name)) is not None


def _spoken(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\W]+", " ", name).strip().lower()
