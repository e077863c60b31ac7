"""Places no list knows, told by what is said around them: "seen at Maplewood", "a resident of Tupelo"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from masking.detectors import lexicon
from masking.detectors.place_words import MEDICAL_KIND, RUN, STATE, STRONG
from masking.detectors.spans import Span
from masking.detectors.watch import Hits, watch

_CARED_FOR = (
    "seen|treated|admitted|evaluated|examined|hospitali[sz]ed|transferred|referred|presented|diagnosed|discharged|managed"
    "|followed|consulted|monitored|assessed|screened|operated|care|surgery|tested|enrolled|checked|appointment|visit"
    "|registered|recorded|records?|received?|staying|stay"
)
_LIVING = "based|located|resid(?:es|ing|ent)|liv(?:es|ed|ing)|born|moved|works?|employed"
_PEOPLE = "patient|male|female|man|woman|doctor|physician|team|unit|staff"
_VISITED = "visited|visiting|visits|attended|attending|attends|left"
_OURS = r"(?:(?:the|our|my|their|his|her)\s+)?"
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_GOES_ON = (
    "on|in|at|for|with|since|last|and|who|by|this|was|is|after|during|under|phone|tel|MRN|SSN|email|fax|but|has|had|where|when"
    "|as|from|to|via|through|due|using|presenting|until|if|whose|regarding|about|dated|meeting|team|records?|chart"
    "|clinic|hospital|office|branch|location|site|area|region|district|suburbs?|neighbou?rhood"
)
_KIND = r"(?:\s+(?:clinic|hospital|office|branch|location|site))?"
_CONTEXT = watch(
    rf"(?:\b(?i:{_CARED_FOR}|{_LIVING}|{_PEOPLE})\s+(?:\w+\s+)?(?:at|in|to|from|by|near|into|outside|with|@)\s+{_OURS}"
    rf"|\b(?i:{_VISITED})\s+{_OURS}"
    rf"|(?<=[\w,.)]\s)(?:at|from)\s+{_OURS}"
    r"|\b(?i:resident|native|city|town|village|suburb)\s+of\s+)"
    rf"(?P<place>{RUN}(?:\s+{STRONG})?(?:,\s*{STATE})?)"
    rf"(?=\s*(?:[,.;:?!()\[\]/]|$|\s(?:(?:{_GOES_ON})\b|{_MONTHS}|\d)|\s-)){_KIND}"
)
# "in" leads to diseases and peoples as often as to towns: one or two words, right before a date or a bracket.
_IN_TOWN = watch(
    rf"(?<=[\w,.)]\s)in\s+(?P<place>[A-Z][a-z]{{2,}}(?:\s[A-Z][a-z]+)?)"
    rf"(?=\s+on\s+(?:\d|{_MONTHS})|\s*\((?:MRN|SSN|[Pp]hone|[Ee]mail)|\s+for\s+treatment)"
)


def find(text: str, hits: Hits) -> Iterator[Span]:
    for pattern in (_CONTEXT, _IN_TOWN):
        for match in pattern.finditer(text, hits):
            if _is_place(text, match):
                yield Span(match.start("place"), match.end(), "location", 0.5)


def _is_place(text: str, match: re.Match[str]) -> bool:
    place = match["place"]
    words = [word.strip(".,").lower() for word in place.split()]
    if words[0] in lexicon.not_names() and (len(words) == 1 or words[1] in lexicon.not_names()):
        return False
    if words[0] in lexicon.words("acronyms.txt") or re.fullmatch(STATE, place):
        return False
    if words[0].removesuffix("'s") in lexicon.eponyms() and len(words) == 1:
        return False
    return MEDICAL_KIND.match(text, match.end("place")) is None
