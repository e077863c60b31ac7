"""Names of people: titles, given and family names, initials, and capitalised words where a person is expected.

Diseases, signs and scores carry people's names ("Wilson's disease", "Gleason score"): an eponym is a person only with
a title, a given name or an initial of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from masking.detectors import lexicon
from masking.detectors.spans import Span
from masking.detectors.watch import Hits, any_of, watch

_CAP = r"(?:(?:Mc|Mac|O'|D'|De|La|Le|Van|Von|St\.\s)?[A-Z][a-z]+(?:[-'][A-Z]?[a-z]+)*)"
_ALL_CAPS = r"[A-Z]{2,}(?:[-'][A-Z]+)*"
_INITIAL = r"[A-Z]\."
_PARTICLE = r"(?:de\s+la|de\s+los|de|del|van\s+der|van\s+den|van|von|der|den|da|dos|di|la|le|el|al|bin|ibn|ter)"
_SUFFIX = r"(?:,?\s+(?:Jr|Sr|II|III|IV|MD|M\.D|RN|PhD|DO|NP|PA-C|DDS|Esq)\b\.?)*"
_TITLE = (
    r"(?:(?i:dr|drs|doctor|mr|mrs|ms|mx|miss|mister|prof|professor|rev|reverend|fr|father|sister|sr|sra|srta|señora?|nurse"
    r"|capt|sgt|lt|col|judge|hon)\b\.?)"
)
_TITLED = watch(
    rf"(?<![\w.]){_TITLE}\s*(?P<name>(?:(?:{_CAP}|{_ALL_CAPS}|{_INITIAL}|[A-Z]\b)(?:\s+{_PARTICLE})?[\s.]*){{1,4}})",
)
_LOWER_TITLED = watch(r"(?<![\w.])(?:dr|mr|mrs|ms)\.?\s+(?P<name>[a-z]{2,}(?:\s+[a-z]{2,})?)", re.IGNORECASE)
_PAIR = watch(
    rf"(?<![\w'/-])(?P<first>{_CAP}|{_ALL_CAPS})"
    rf"(?P<middle>(?:\s+(?:{_INITIAL}|[A-Z](?=\s)|\"[A-Z]\w+\"|\([A-Z]\w+\)|{_PARTICLE}))*)"
    rf"\s+(?P<last>(?:{_PARTICLE}\s+)?(?:{_CAP}|{_ALL_CAPS})(?:[\s-]{_CAP})?)(?P<suffix>{_SUFFIX})(?![\w])"
)
_WITH_INITIAL = watch(rf"(?<![\w'/-])(?P<first>{_CAP})\s*(?P<initials>(?:[A-Z]\.?[\s-]?){{1,3}})(?!\w)")
_LEADING_INITIAL = watch(rf"(?<![\w.])(?:{_INITIAL}\s?){{1,3}}\s*(?P<last>{_CAP})(?!\w)")
_ONLY_INITIALS = watch(
    r"(?i:\b(?:patient|pt|male|female|man|woman|mr|ms|mrs|named?|initials|for|subject)\b)[\s,:(]+(?P<name>(?:[A-Z]\.\s?){2,3}|[A-Z]\.(?=[,\s)]))(?!\w)"
)
# Somebody is said to be there, so the words that follow are a name whatever else they may mean.
_PERSON = (
    r"(?:\b(?i:males?|females?|man|woman|gentleman|lady|boy|girl|child|infant|patient|pt|yo|y/o|old)"
    r"|\b\d{1,3}\s?[MF])(?:\s+(?i:patient|pt))?"
)
_INTRODUCED_PERSON = watch(
    rf"(?:{_PERSON}\s*[,(]|\b(?i:named|names?\s+is|name:|pts?'?s?\s+name))\s*(?P<name>(?P<first>{_CAP})"
    rf"(?:\s+(?:{_INITIAL}|{_PARTICLE}))?(?:\s+(?P<last>{_CAP})|\s+[A-Z]\b\.?))(?!\w)"
)
# "in Gurpreet's notes": what is kept about somebody.
_OWNER = watch(
    rf"(?<![\w'/-])(?P<name>{_CAP})'s?\s+(?i:notes?|chart|records?|file|case|labs?|history|medications?|prescriptions?"
    r"|appointment|visit|family|wife|husband|mother|father|daughter|son)\b"
)
_COMMA_NAME = watch(
    rf"(?<!\w)(?P<last>{_CAP}|{_ALL_CAPS}),\s+(?P<first>{_CAP}|{_ALL_CAPS})(?P<middle>(?:\s+[A-Z]\b\.?)?)(?!\w)"
)
_SINGLE = watch(
    rf"(?<![\w'/-])(?P<name>(?:O'|D')?[A-Z][a-z]+|{_ALL_CAPS})(?P<possessive>'s|s')?(?!\w)",
    trigger=rf"(?i:\b(?:{any_of(lexicon.given() | lexicon.family())})\b)",
)


def _pair_of_certain_names(case: Callable[[str], str]) -> str:
    first = any_of(case(name) for name in lexicon.certain("given_names.txt"))
    last = any_of(case(name) for name in lexicon.certain("family_names.txt"))
    return rf"\b(?:{first})\s+(?:[A-Za-z]\.?\s+)?(?:{last})\b"


_LOWER_PAIR = watch(
    r"(?<![\w-])(?P<first>[a-z]{2,})\s+(?:(?P<middle>[a-z])\.?\s+)?(?P<last>[a-z']{2,})(?![\w-])",
    re.IGNORECASE,
    trigger="|".join(_pair_of_certain_names(case) for case in (str.lower, str.upper)),
)
_CUE = re.compile(
    r"(?:(?i:\b(?:patient'?s?\s+name|full\s+name|name|named|called|patient|pt|mother|father|parent|son|daughter|wife|husband|spouse|"
    r"partner|brother|sister|guardian|guarantor|contact|attending|physician|provider|surgeon|doctor|nurse|therapist|signed|dictated|"
    r"referred|seen|examined|treated|evaluated|diagnosed|followed|admitted|client|caregiver|individual|resident|for|by|of|about|regarding|on|re|ref|with|in|and|to|like|considering|especially|including|from|under|mr|gentleman|lady|boy|girl|baby|male|female|man|woman|yo|y/o|old))"
    r"(?:\s+(?i:is|was|by|name|named|called|as|of|for|a|patient|patients?))*\s*[:,(\-]?\s*(?:\"|')?)$"
)
_APPOSITION = frozenset(",(:;-")
_AFTER_NAME = re.compile(
    r"\s*(?:[,(;:?.)\]]|$|\s(?:who|was|is|has|had|seen|admitted|treated|diagnosed|evaluated|living|lives|from|at|with|on|in|aged?|presents|"
    r"presented|presenting|MRN|SSN|DOB|and|should|after|following|for|given|to|recently|visited|undergoing|underwent|currently|reports?|"
    r"scheduled|complain\w*|of|born|whose|by|under|will|today|last|since|that|\d)\b)"
)
# "Harris hip score", "Cox proportional hazards": ordinary words between an eponym and what bears its name.
_NAMED_AFTER = re.compile(
    r"(?:'s)?\s+(?:[a-z]+\s+){1,2}(?:scores?|scale|type|index|criteria|hazards|classification|rules?|test|grade)\b"
)
_INTRODUCED = re.compile(r"'s\b|,?\s+(?:an?|age|aged|who|is|was|has|\d+)\b")
_MEDICAL_NOUN = re.compile(
    r"(?:'s|s'|')?\s*[-/]?\s*(?:(?:and|[A-Z][a-z]+(?:'s)?)[\s-]+){0,3}?"
    r"(?i:disease|syndrome|sign|reflex|scores?|criteria|test|tests|testing|index|scale|trial|study|phenomenon|lymphoma|sarcoma|tumou?r|palsy|"
    r"chorea|contracture|esophagus|oesophagus|thyroiditis|nevus|node|nodes|fracture|procedure|maneuver|manoeuvre|catheter|tube|solution|"
    r"lactate|anemia|anaemia|ataxia|dystrophy|encephalopathy|aphasia|area|law|triad|pentad|cells?|bodies|body|dementia|virus|fever|stain|"
    r"rule|classification|staging|stage|grade|grading|risk|calculator|formula|equation|model|guidelines?|protocol|cyst|ulcer|ring|hernia|"
    r"gland|angina|murmur|breathing|respirations?|exam|examination|monitor|position|operation|repair|shunt|valve|pouch|stent|gait|nephropathy|"
    r"granulomatosis|purpura|vasculitis|arteritis|myopathy|neuropathy|tremor|disorder|deformity|lesion|hemangioma|carcinoma|macroglobulinemia|"
    r"leukemia|myasthenic|tetralogy|anomaly|malformation|type|factor|inventory|questionnaire|assessment|pain|coma|nodules?|spots?|rash|"
    r"thrombosis|duct|canal|pruritus|psychosis|sclerosis|edema|method|technique|approach|incision|diet|therapy|regimen|vaccine|"
    r"infection|bacill\w+|hospital|clinic|medical|center|university|health|street|st\b|ave|avenue|road|drive|park|county|city)\b"
)
_NOT_AN_INITIAL_HOLDER = frozenset(
    [
        "vitamin",
        "hepatitis",
        "group",
        "type",
        "class",
        "stage",
        "factor",
        "grade",
        "influenza",
        "part",
        "phase",
        "vitamins",
        "category",
        "section",
        "appendix",
        "protein",
        "immunoglobulin",
        "complement",
        "interferon",
        "coenzyme",
        "plan",
        "medicare",
        "schedule",
        "botulinum",
        "toxin",
        "model",
        "step",
        "schedule",
        "level",
        "team",
        "unit",
        "ward",
        "bed",
        "room",
        "score",
        "option",
        "study",
        "question",
        "dr",
        "mr",
        "ms",
        "mrs",
        "st",
        "mt",
        "serum",
        "peptide",
        "troponin",
    ]
)
# An out-of-lexicon pair is a name only where one is expected and none of its words belongs to clinical prose.
_ORDINARY_END = re.compile(
    r"(?:ing|tion|sion|ment|ness|itis|osis|emia|aemia|oma|pathy|ectomy|otomy|plasty|scopy|graphy|ology|ine|mab|nib|pril|sartan|statin|olol|azole|cillin|mycin|floxacin|gliptin|gliflozin|glutide|parin|xaban|ide|ate|ic|al|ive|ous|able|ible|ary|ity|ed|ly|ism)$"
)


def find(text: str, hits: Hits) -> Iterator[Span]:
    yield from _titled(text, hits)
    yield from _introduced(text, hits)
    yield from _pairs(text, hits)
    yield from _with_initials(text, hits)
    yield from _comma_names(text, hits)
    yield from _singles(text, hits)
    yield from _lower_case(text, hits)


def _titled(text: str, hits: Hits) -> Iterator[Span]:
    for match in _TITLED.finditer(text, hits):
        end = _end_of_name(match["name"])
        if end:
            yield Span(match.start(), match.start("name") + end, "name", 0.9)
    for match in _LOWER_TITLED.finditer(text, hits):
        kept = [word for word in match["name"].split() if _is_listed(word.lower())]
        if kept and match["name"].lower().startswith(kept[0].lower()):
            yield Span(match.start(), match.start("name") + len(" ".join(kept)), "name", 0.7)


def _introduced(text: str, hits: Hits) -> Iterator[Span]:
    for match in _INTRODUCED_PERSON.finditer(text, hits):
        words = [word for word in (match["first"], match["last"]) if word]
        medical = any(_MEDICAL_NOUN.match(text, match.end(group)) for group in ("first", "last") if match[group])
        if not medical and not _is_prose(words[0].lower()) and not all(_ordinary(word.lower()) for word in words):
            yield Span(match.start("name"), match.end("name"), "name", 0.7)
    for match in _OWNER.finditer(text, hits):
        word = match["name"].lower()
        if not _ordinary(word) and word not in lexicon.eponyms():
            yield Span(match.start("name"), match.end("name"), "name", 0.6)


def _end_of_name(words: str) -> int:
    """How much of a titled run is a name: it stops before the first word of ordinary prose."""
    end = 0
    for word in re.finditer(r"[^\s]+", words):
        plain = word[0].strip(".,").lower()
        if plain in lexicon.not_names() and not _is_listed(plain) and len(plain) > 1:
            break
        end = word.end()
    return len(words[:end].rstrip())


def _pairs(text: str, hits: Hits) -> Iterator[Span]:
    position = 0 if _PAIR.hit(hits) else len(text)
    while match := _PAIR.pattern.search(text, position):
        # A rejected pair gives its second word another chance: "Patient Maria Garcia".
        position = match.start("last")
        score = _pair_score(text, match)
        if score:
            yield Span(match.start(), match.end(), "name", score)


def _pair_score(text: str, match: re.Match[str]) -> float:
    """0 for no name; one listed word lowers the demands on the other."""
    first, last = match["first"].lower(), match["last"].split()[-1].lower()
    known_first, known_last = first in lexicon.given(), last in lexicon.family()
    sure_first = first in lexicon.certain("given_names.txt")
    if _is_prose(first) and not (known_first and known_last):
        return 0.0
    if _MEDICAL_NOUN.match(text, match.end()) and not (sure_first and known_last):
        return 0.0
    if known_first and known_last:
        return 0.95
    if any(_is_prose(word) for word in match["last"].lower().split()) or (
        last in lexicon.eponyms() and not known_first
    ):
        return 0.0
    return _half_known_score(text, match, sure_first=sure_first, known_last=known_last)


def _half_known_score(text: str, match: re.Match[str], *, sure_first: bool, known_last: bool) -> float:
    """A pair with at most one listed word: one sure word suffices, none needs a place where people are expected."""
    first, last = match["first"].lower(), match["last"].split()[-1].lower()
    if match["first"].isupper() and not match["last"].isupper():
        return 0.0  # "ADA Standards": an organisation
    if sure_first:
        return 0.8 if not _ordinary(last) or _expected(text, match) else 0.0
    if known_last and last in lexicon.certain("family_names.txt"):
        return 0.7 if not _ordinary(first) or _expected(text, match) else 0.0
    odd = first in lexicon.eponyms() or match["first"].isupper() or match["last"].isupper()
    if odd or (_ordinary(first) and _ordinary(last)):
        return 0.0
    return 0.5 if _expected(text, match) else 0.0


def _is_listed(word: str) -> bool:
    return word in lexicon.given() or word in lexicon.family()


def _is_prose(word: str) -> bool:
    return word in lexicon.not_names()


def _ordinary(word: str) -> bool:
    return _is_prose(word) or _ORDINARY_END.search(word) is not None


def _expected(text: str, match: re.Match[str]) -> bool:
    """Whether a person is expected here: a cue before, or commas and brackets around."""
    return _AFTER_NAME.match(text, match.end()) is not None and _person_before(text, match.start())


def _person_before(text: str, start: int) -> bool:
    before = text[max(start - 60, 0) : start]
    return before.rstrip()[-1:] in _APPOSITION or _CUE.search(before) is not None


def _with_initials(text: str, hits: Hits) -> Iterator[Span]:
    for match in _WITH_INITIAL.finditer(text, hits):
        first = match["first"].lower()
        initials = match["initials"].rstrip(" -")
        if first in _NOT_AN_INITIAL_HOLDER or len(first) < 2:
            continue
        end = match.start("initials") + len(initials)
        known = first in lexicon.given() or first in lexicon.family()
        dotted = "." in initials
        if not text[match.end("first")].isspace() and not dotted:
            continue
        if _is_prose(first) and not (known and dotted):
            continue
        if not dotted and not (known and len(initials) == 1 and _AFTER_NAME.match(text, end)):
            continue
        if known or _reads_as_a_person(text, match, end):
            yield Span(match.start(), end, "name", 0.85 if known else 0.6)
    for match in _LEADING_INITIAL.finditer(text, hits):
        last = match["last"].lower()
        if (
            not _is_prose(last)
            and not _MEDICAL_NOUN.match(text, match.end())
            and (last in lexicon.family() or _expected(text, match))
        ):
            yield Span(match.start(), match.end(), "name", 0.75)
    for match in _ONLY_INITIALS.finditer(text, hits):
        yield Span(match.start("name"), match.start("name") + len(match["name"].rstrip()), "name", 0.6)


def _reads_as_a_person(text: str, match: re.Match[str], end: int) -> bool:
    """Whether an unlisted word with an initial is somebody: "Ottoline B. seen at", not "Botulinum A." or "Wells B."."""
    first = match["first"].lower()
    if first in lexicon.eponyms():
        return False
    if not _mid_sentence(text, match.start()):
        return _INTRODUCED.match(text, end) is not None
    return not _ordinary(first) or (_AFTER_NAME.match(text, end) is not None and _person_before(text, match.start()))


def _mid_sentence(text: str, start: int) -> bool:
    before = text[:start].rstrip()
    return bool(before) and before[-1] not in ".?!\n"


def _comma_names(text: str, hits: Hits) -> Iterator[Span]:
    for match in _COMMA_NAME.finditer(text, hits):
        last, first = match["last"].lower(), match["first"].lower()
        if _is_prose(last) or _is_prose(first) or first not in lexicon.given():
            continue
        # "Blackwell, Anne": an unlisted family name needs a certain given name, and not to start a sentence.
        if last in lexicon.family() or (first in lexicon.certain("given_names.txt") and _may_be_family(text, match)):
            yield Span(match.start(), match.end(), "name", 0.85)


def _may_be_family(text: str, match: re.Match[str]) -> bool:
    return not _ordinary(match["last"].lower()) and _mid_sentence(text, match.start())


def _singles(text: str, hits: Hits) -> Iterator[Span]:
    """A given or family name alone: certain ones anywhere, ambiguous ones only after a cue."""
    for match in _SINGLE.finditer(text, hits):
        word = match["name"].lower()
        sure = word in lexicon.certain("given_names.txt") or word in lexicon.certain("family_names.txt")
        if not (sure or word in lexicon.given() or word in lexicon.family()) or _is_prose(word):
            continue
        if _MEDICAL_NOUN.match(text, match.end("name")) or _NAMED_AFTER.match(text, match.end("name")):
            continue
        if match["name"].isupper() or (word in lexicon.eponyms() and match["possessive"]):
            continue
        # Asking the surroundings is the dear part: only where the word does not settle it.
        settled = sure and len(word) > 2 and word not in lexicon.eponyms()
        if settled or _expected(text, match):
            yield Span(match.start(), match.end("name"), "name", 0.6 if sure else 0.45)


def _lower_case(text: str, hits: Hits) -> Iterator[Span]:
    """Names typed without capitals, or all in capitals: only where both words are certain."""
    position = 0 if _LOWER_PAIR.hit(hits) else len(text)
    while match := _LOWER_PAIR.pattern.search(text, position):
        position = match.start("last")
        first, last = match["first"], match["last"]
        if not ((first.islower() and last.islower()) or (first.isupper() and last.isupper())):
            continue
        if first.lower() in lexicon.certain("given_names.txt") and last.lower() in lexicon.certain("family_names.txt"):
            yield Span(match.start(), match.end(), "name", 0.7)
