"""Geography smaller than a state: facilities, street addresses, cities, ZIP codes; states and countries may stay."""

from __future__ import annotations

import re
from collections.abc import Iterator

from masking.detectors import lexicon
from masking.detectors.spans import Span

_STATES = (
    r"(?:Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois"
    r"|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri"
    r"|Montana|Nebraska|Nevada|New\sHampshire|New\sJersey|New\sMexico|New\sYork|North\sCarolina|North\sDakota|Ohio"
    r"|Oklahoma|Oregon|Pennsylvania|Rhode\sIsland|South\sCarolina|South\sDakota|Tennessee|Texas|Utah|Vermont|Virginia"
    r"|Washington|West\sVirginia|Wisconsin|Wyoming|D\.C\.)"
)
_CODES = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|PR|RI|S[CD]|T[NX]|UT|V[AIT]"
    r"|W[AIVY])"
)
_STATE = rf"(?:{_STATES}|{_CODES})(?![A-Za-z])"
_ZIP = r"\d{5}(?:-\d{4})?(?![\w-])"
_WORD = r"(?:(?:St|Mt|Ft|Ste|Sts)\.?|(?:[A-Z]\.){2,3}|Mc[A-Z][a-z]+|O'[A-Z][a-z]+|[A-Z][A-Za-z'&.-]*[A-Za-z]|[A-Z]\.?)"
_LINKED = rf"(?:(?:\s+|-)(?:(?:of|and|the|for|at|&|de|del|la|los|las|y)\s+){{0,2}}{_WORD})"
_RUN = rf"{_WORD}{_LINKED}{{0,6}}?"
_PROPER = rf"{_WORD}(?:[\s-]+{_WORD}){{0,3}}"

_STRONG = (
    r"(?:[Hh]ospitals?|[Cc]linics?|[Ii]nfirmary|[Hh]ospice|(?:[Mm]edical|[Hh]ealth|[Cc]ancer|[Ss]urgical|[Ss]urgery|[Hh]eart|"
    r"[Tt]rauma|[Ww]ellness|[Rr]ehab(?:ilitation)?|[Cc]are|[Ss]enior|[Nn]eurology|[Cc]ardiology|[Oo]ncology|[Cc]ommunity|[Dd]ialysis|"
    r"[Ii]maging|[Pp]ain|[Ee]ye|[Dd]ental|[Bb]irth|[Rr]ecovery|[Tt]reatment|[Ff]amily|[Ww]omen's|[Cc]hildren's|[Uu]niversity|Med\.?)"
    r"\s+(?:[Cc]ent(?:er|re)s?|Ctr\.?|[Cc]ampus|[Gg]roup|[Ii]nstitute|[Pp]avilion|[Pp]ractice|[Ff]acility)|Med\.?\s*Ctr\.?|Medical|"
    r"[Hh]ealth\s?[Cc]are(?:\s+(?:[Ss]ystem|[Cc]ent(?:er|re)|[Pp]artners))?|[Hh]ealth\s+(?:[Ss]ystem|[Ss]ervices|[Nn]etwork|[Pp]artners|[Dd]epartment)|Health|"
    r"[Nn]ursing\s+(?:[Hh]ome|[Ff]acility|[Cc]ent(?:er|re))|[Aa]ssisted\s+[Ll]iving|[Rr]etirement\s+(?:[Hh]ome|[Cc]ommunity)|Manor|"
    r"[Uu]rgent\s+[Cc]are|[Pp]harmacy|[Ss]urgicenter|[Mm]edical\s+[Aa]ssociates|[Aa]ssociates|[Ss]anatorium|[Oo]ffice|[Gg]eneral|"
    r"Med(?:ical)?\s+[Ss]chool|[Mm]emorial|Gen(?:\.|\b)|Hosp\.?|Clin\.|Rehab(?:ilitation)?|Med\b\.?|Ctr\b\.?|Center|Centre|Institute|University|College|School|County|Campus|Parish|Township|Village|Borough)"
)
_FACILITY = re.compile(
    rf"(?<![\w'])(?:the\s+)?(?P<name>(?:(?:Dr|Drs|Mr|Ms)\.?\s+)?{_WORD}(?:{_LINKED}){{0,6}}?)\s+(?P<kind>{_STRONG}(?:\s+{_STRONG}){{0,3}})(?![\w'])"
    rf"(?P<tail>(?:\s+(?:of|at|for)\s+(?:the\s+)?{_PROPER})?(?:(?:,|\s+in|\s+at|\s*-|\s+of)?\s+\(?{_PROPER}(?:,\s*{_STATE})?\)?)?)"
)
_SAINT = re.compile(
    rf"(?<!\w)(?:St|Saint|Mt|Mount|Our\s+Lady)\.?\s+(?:of\s+)?[A-Z][a-z]+(?:'s|s')?(?:\s+{_STRONG})?(?!\w)"
)
_STREET = re.compile(
    r"(?<![\w.])(?:P\.?\s?O\.?\s?Box\s+\d+"
    r"|\d{1,6}(?:-\d{1,4})?[A-Za-z]?\s+(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.?\s+)?(?:[A-Z0-9][\w'.-]*\s+){1,5}?"
    r"(?i:st|street|ave?|avenue|rd|road|blvd|boulevard|dr|drive|ln|lane|ct|court|way|pl|place|pkwy|parkway|ter|terrace|cir|circle"
    r"|hwy|highway|sq|square|trail|trl|loop|run|row|alley|plaza|pike|crescent|close|broadway)(?![\w])\.?"
    r"|\d{1,6}\s+(?:Broadway|Park\sAve(?:nue)?))"
    r"(?:,?\s+(?i:apt|apartment|suite|ste|unit|floor|fl|room|rm|#)\.?\s*#?\s*[\w-]+)?"
    rf"(?:,?\s+(?:in\s+)?{_PROPER})?(?:,\s*{_STATE})?(?:,?\s+{_ZIP})?"
)
_CITY_STATE = re.compile(rf"(?<!\w)(?P<city>{_PROPER}),\s*(?P<state>{_STATE})(?:,?\s+{_ZIP})?")
_ZIP_CUED = re.compile(
    rf"(?:\b(?i:zip|zip\s?code|postal(?:\s?code)?|postcode)(?:\s+(?:is|of))?\W{{0,3}}|\b{_STATE},?\s+)({_ZIP})"
)
_UK_POSTCODE = re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}\b")
_COORDINATES = re.compile(r"(?<![\d.])[-+]?\d{1,2}\.\d{4,},?\s+[-+]?\d{1,3}\.\d{4,}(?![\d.])")
_LIVES = re.compile(
    rf"\b(?:(?i:seen|treated|admitted|evaluated|examined|hospitali[sz]ed|transferred|referred|presented|diagnosed|discharged|managed|"
    rf"followed|consulted|monitored|assessed|screened|visited|visiting|visits|attended|attending|attends|operated|underwent\s[\w\s]{{1,30}}|care|surgery|"
    rf"tested|based|located|located|resid(?:es|ing|ent)|liv(?:es|ed|ing)|born|moved|works?|employed|enrolled|checked|appointment|visit|"
    rf"registered|recorded|records?|stay(?:ing|ed)?|received?|patient|male|female|man|woman|doctor|physician|team|unit|staff)\s+(?:\w+\s+)?(?:at|in|to|from|by|near|into|outside|with)\s+(?:the\s+)?"
    rf"|(?i:visited|visiting|visits|attended|attending|attends|left)\s+(?:the\s+)?|(?<=[a-z,]\s)at\s+(?:the\s+)?|(?<=[a-z,]\s)from\s+)"
    rf"(?P<place>{_RUN}(?:\s+(?:{_STRONG}))?(?:,\s*{_STATE})?)(?=[\s]*(?:[,.;:?!()\[\]/]|$|\s(?:on|in|at|for|with|since|last|and|who|who's|by|this|was|is|after|during|under|\d|phone|tel|MRN|SSN|email|fax|but|has|had|where|when|as|from|to|via|through|due|using|presenting|until|if|whose|regarding|about|dated|clinic|hospital|office)\b|\s-))"
)
_ACRONYM_TOO_COMMON = re.compile(
    r"(?:ICU|ED|ER|OR|PCP|US|USA|UK|EU|FDA|CDC|NIH|WHO|AHA|ACC|ADA|NICE|ESC|IV|OP|PO|CT|MRI|EHR|EMR|OPD|NICU|PACU|CCU|LTC|SNF|A&E|GP|OB|ENT|BMI|COPD|CHF|T2DM|DM|HTN|CKD|MI|PE|DVT|AFib|HIV|TB|UTI|GERD|RA|SLE|MS|ALS|PAD|CAD|NSTEMI|STEMI|TIA|NYHA|GFR|eGFR|INR|LDL|HDL|A1C|PTSD|ADHD|OCD|GAD|MDD)"
)
_MEDICAL_KIND = re.compile(
    r"\s*(?:'s)?\s*(?:type|classification|criteria|score|scale|staging|stage|protocol|index|sign|test|syndrome|disease|trial|study|"
    r"questionnaire|inventory|formula|rule|virus|fever|guideline|method|loneliness)",
    re.IGNORECASE,
)
_GENERIC_NAME = frozenset(
    ["the", "a", "an", "of", "and", "at", "in", "to", "for", "my", "our", "your", "their", "his", "her", "this", "that", "any", "each", "every", "no", "all", "some", "general", "local", "community", "public", "private", "outpatient", "inpatient", "university", "city", "county", "state", "regional", "national", "memorial", "primary", "urgent", "emergency", "family", "medical", "health", "clinical", "women's", "men's", "children's", "mental", "public", "global", "home", "day", "care", "world", "tertiary", "rural", "urban", "academic", "specialty", "department", "nursing", "academy", "association", "society", "college", "foundation", "american", "european", "international", "federal", "british", "canadian", "us"]
)


def _listed(name: str) -> str:
    return "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in lexicon.phrases(name))


_CITY = re.compile(
    rf"(?<![\w-])(?:(?:downtown|north|south|east|west|central|greater)\s+)?(?:{_listed('cities.txt')}|NYC)(?:,?\s+{_STATE})?(?:\s+(?:clinic|hospital|office|area|suburbs?|campus))?(?![\w])(?!'s\s)"
)
_INSTITUTION = re.compile(
    rf"(?<![\w-])(?:{_listed('institutions.txt')})(?![\w])"
    rf"(?:\s+(?:{_STRONG}|{_PROPER}\s+{_STRONG}))?(?:(?:\s+in|,|\s+at|\s+of|\s+-)?\s+\(?(?:{_listed('cities.txt')}|{_PROPER},\s*{_STATE}|{_STATE})\)?)?"
)
_LOWER_CASE = re.compile(
    rf"(?<![\w-])(?:{_listed('institutions.txt')}|{_listed('cities.txt')})(?![\w-])(?:\s+(?:hospital|clinic|medical center|health))?",
    re.IGNORECASE,
)
_LOWER_CASE_SKIP = frozenset(
    ["presbyterian", "methodist", "providence", "beaumont", "kaiser", "mobile", "stanford", "hopkins", "reno", "erie", "paris", "yale", "athens", "lafayette", "emory", "baylor"]
)


def find(text: str) -> Iterator[Span]:
    yield from _facilities(text)
    for pattern, score in ((_STREET, 0.9), (_UK_POSTCODE, 0.6), (_COORDINATES, 0.8)):
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), "location", score)
    for match in _ZIP_CUED.finditer(text):
        yield Span(match.start(1), match.end(1), "location", 0.8)
    for match in _CITY_STATE.finditer(text):
        if match["city"].split()[0].lower() not in lexicon.not_names():
            yield Span(match.start(), match.end(), "location", 0.85)
    for pattern in (_INSTITUTION, _CITY):
        for match in pattern.finditer(text):
            if not _MEDICAL_KIND.match(text, match.end()):
                yield Span(match.start(), match.end(), "location", 0.8)
    for match in _LOWER_CASE.finditer(text):
        if match[0].islower() and match[0] not in _LOWER_CASE_SKIP and not _MEDICAL_KIND.match(text, match.end()):
            yield Span(match.start(), match.end(), "location", 0.6)
    yield from _saints(text)
    yield from _named_by_context(text)


def _facilities(text: str) -> Iterator[Span]:
    for match in _FACILITY.finditer(text):
        start = _first_proper(text, match.start("name"), match.end("name"))
        if start is None:
            continue
        yield Span(start, match.end("kind"), "location", 0.9)
        tail = match["tail"].strip(" ,")
        if tail and not _starts_generic(re.sub(r"^(?:of|at|for|in|the|-)\s+", "", tail)):
            yield Span(start, match.end("tail"), "location", 0.7)


def _first_proper(text: str, start: int, end: int) -> int | None:
    """Where the distinguishing part of a facility's name begins; None for "Emergency Department", "General Hospital"."""
    for word in re.finditer(r"[^\s]+", text[start:end]):
        plain = word[0].strip(".,").lower()
        if plain not in lexicon.not_names() or plain in {
            "mercy",
            "memorial",
            "general",
            "city",
            "mass",
            "new",
            "st",
            "north",
            "south",
            "east",
            "west",
            "northern",
            "southern",
            "eastern",
            "western",
            "white",
            "university",
            "primary",
            "children's",
        }:
            return None if text[start + word.start() : end].lower() in _GENERIC_NAME else start + word.start()
    return None


def _starts_generic(words: str) -> bool:
    first = words.lstrip("(").split()[:1]
    return not first or first[0].lower().strip(",.") in lexicon.not_names() - {"new", "north", "south", "east", "west"}


def _saints(text: str) -> Iterator[Span]:
    for match in _SAINT.finditer(text):
        if not _MEDICAL_KIND.match(text, match.end()):
            yield Span(match.start(), match.end(), "location", 0.7)


def _named_by_context(text: str) -> Iterator[Span]:
    for match in _LIVES.finditer(text):
        place = match["place"]
        words = place.split()
        first = words[0].strip(".,").lower()
        if first in lexicon.not_names() and (len(words) == 1 or words[1].strip(".,").lower() in lexicon.not_names()):
            continue
        if (
            _ACRONYM_TOO_COMMON.fullmatch(words[0])
            or re.fullmatch(_STATE, place)
            or _is_disease(text, match.end("place"), first)
        ):
            continue
        yield Span(match.start("place"), match.end("place"), "location", 0.5)


def _is_disease(text: str, end: int, first: str) -> bool:
    return first.removesuffix("'s") in lexicon.eponyms() or _MEDICAL_KIND.match(text, end) is not None
