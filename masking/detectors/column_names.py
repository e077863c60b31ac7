"""What a column's name says about its values."""

from __future__ import annotations

import re

# How a number is called, and words that say whose it is. A blank of a pattern is one that names leave out
# (`dateofbirth`); where it must stand, because `hotel` is no `tel` and `capacity` no `city`, it is written `\s`.
_NO = r"(?: (?:number|no|num|nbr|nr|id|identifier))"
_WHOSE = (
    r"(?:(?:patients?|pt|pat|person|member|subscriber|insured|guarantor|contact|emergency contact|next of kin|nok)\s)?"
)
_ANY = r"(?:.*\s)?"
_BIRTH = r"births?|birth ?day|b ?date|geburtsdatum|fecha(?: de)? nacimiento|date(?: de)? naissance"

# (class, whole words of a column name split at "_" and capitals). The first match wins.
_CLASSES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (cls, re.compile(pattern.replace(" ", " ?")))
    for cls, pattern in (
        (
            "ssn",
            rf"{_WHOSE}(?:ssn(?: ?(?:\d|last ?\d|no|number))?|last ?\d ssn|soc(?:ial)? sec(?:urity)?{_NO}?"
            rf"|ss(?: number| no)|tax(?:payer)?{_NO}|i?tin|fiscal code|national{_NO}(?: no)?|national insurance{_NO}"
            rf"|nino|sin|bsn|cpf|curp|pesel|aadhaar{_NO}?|personnummer)",
        ),
        (
            "mrn",
            rf"{_ANY}mrn{_NO}?|med(?:ical)? rec(?:ord)?{_NO}|pubpid|pid|chart{_NO}|(?:patient|pat|pt)"
            rf" (?:number|no|num|nbr|identifier)|nhs{_NO}|chi{_NO}|hospital{_NO}|e?mpi{_NO}?|unit (?:number|no)",
        ),
        (
            "health_plan",
            rf"{_ANY}(?:mbi|hicn?)|{_ANY}(?:member|policy|subscriber|beneficiary|insured|insurance|group|plan|medicare"
            rf"|medicaid|health card|insurance policy){_NO}",
        ),
        ("email", rf"{_ANY}e ?mail(?: addr(?:ess)?)?(?: ?\d)?"),
        ("fax", rf"{_ANY}fax{_NO}?(?: ?\d)?"),
        (
            "phone",
            rf"{_ANY}(?:phone|telephone|mobile|cell|cell phone|mobile phone|home phone|work phone|tel|pager|msisdn)"
            rf"(?: (?:number|no|num|nbr|nr))?(?: ?\d)?|(?:home|work) ph|contact (?:number|no)",
        ),
        ("zip", rf"{_ANY}(?:zip|zip code|postal(?: (?:code|cd))?|post code)(?: ?\d)?"),
        ("ip", rf"{_ANY}ip(?: address| addr)?"),
        ("mac", r"mac(?: (?:address|addr))?"),
        (
            "location",
            rf"{_ANY}(?:address|street|addr|city|county|town|latitude|longitude|lat|lon|lng)(?: ?(?:line )?\d)?"
            r"|street name|(?:house|street) (?:number|no)|p ?o box|birth place|place of birth|residence",
        ),
        (
            "date",
            rf"{_WHOSE}(?:dob(?: (?:dt|date))?|date of death|(?:date of )?(?:{_BIRTH})(?: (?:dt|date))?|birth year"
            r"|year of birth|yob)"
            r"|(?:born|died|deceased|admitted|discharged)(?: (?:on|at|dt|date))?|.*\s(?:dt|date|dttm)"
            r"|(?:admit|admission|discharge|death|deceased|birth)(?: (?:dt|date))?",
        ),
        ("age", rf"{_WHOSE}age(?: years|\sat\s.*)?"),
        (
            "name",
            r"(?:f|l|m|first|last|middle|full|given|family|sur|maiden|preferred|nick|mother|father|patient|pat|pt"
            r"|guarantor|provider|physician|spouse|contact|guardian|insured|next of kin|nok|emergency contact"
            r"|subscriber)s? names?"
            r"|(?:attending|referring|ordering|rendering|primary(?: care)?)\s(?:physician|provider|doctor)"
            r"|.*\s(?:physician|provider|guardian|maiden) name|middle initial|alias|provider|guarantor|guardian"
            r"|mother(?:\s.*)?|emergency contact|next of kin|nok",
        ),
        (
            "account",
            rf"{_ANY}(?:account|acct|iban|card|credit card|cc){_NO}|{_ANY}(?:account|acct|iban|card|bank account)"
            r"|routing (?:number|no)|claim (?:number|no|num|nbr)",
        ),
        (
            "licence",
            rf"{_ANY}npi{_NO}?|dea{_NO}?|{_ANY}licen[cs]e{_NO}?|driver'?s? licen[cs]e{_NO}?|dl{_NO}"
            rf"|{_ANY}passport{_NO}?|upin",
        ),
        ("vehicle", rf"vin|(?:licen[cs]e )?plate{_NO}?"),
        ("device", rf"udi|imei|(?:.*\s)?serial{_NO}?|device serial{_NO}?|device id"),
        ("url", r"url|web site|home page"),
        (
            "photo",
            rf"{_ANY}(?:photo(?:graph)?|picture|portrait)(?:\surl)?|(?:face\s)?image|fingerprint|biometric|signature",
        ),
        ("note", r"(?:.*\s)?(?:notes?|comments?|narrative|free text|remarks?|history|summary)"),
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
