"""The pieces place patterns are made of: states, ZIP codes, capitalised runs, words for facilities."""

from __future__ import annotations

import re

STATES = (
    r"(?:Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois"
    r"|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri"
    r"|Montana|Nebraska|Nevada|New\sHampshire|New\sJersey|New\sMexico|New\sYork|North\sCarolina|North\sDakota|Ohio"
    r"|Oklahoma|Oregon|Pennsylvania|Rhode\sIsland|South\sCarolina|South\sDakota|Tennessee|Texas|Utah|Vermont|Virginia"
    r"|Washington|West\sVirginia|Wisconsin|Wyoming|D\.C\.)"
)
CODES = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|PR|RI|S[CD]|T[NX]|UT|V[AIT]"
    r"|W[AIVY])"
)
STATE = rf"(?:{STATES}|{CODES})(?![A-Za-z])"
ZIP = r"\d{5}(?:-\d{4})?(?![\w-])"
WORD = r"(?:(?:St|Mt|Ft|Ste|Sts)\.?|(?:[A-Z]\.){2,3}|Mc[A-Z][a-z]+|O'[A-Z][a-z]+|[A-Z][A-Za-z'&.-]*[A-Za-z]|[A-Z]\.?)"
LINKED = rf"(?:(?:\s+|-)(?:(?:of|and|the|&|de|del|la|los|las|y)\s+){{0,2}}{WORD})"
RUN = rf"{WORD}{LINKED}{{0,6}}?"
PROPER = rf"{WORD}(?:[\s-]+{WORD}){{0,3}}"

STRONG = (
    r"(?:[Hh]ospitals?|[Cc]linics?|[Ii]nfirmary|[Hh]ospice|(?:[Mm]edical|[Hh]ealth|[Cc]ancer|[Ss]urgical|[Ss]urgery|[Hh]eart|"
    r"[Tt]rauma|[Ww]ellness|[Rr]ehab(?:ilitation)?|[Cc]are|[Ss]enior|[Nn]eurology|[Cc]ardiology|[Oo]ncology|[Cc]ommunity|[Dd]ialysis|"
    r"[Ii]maging|[Pp]ain|[Ee]ye|[Dd]ental|[Bb]irth|[Rr]ecovery|[Tt]reatment|[Ff]amily|[Ww]omen's|[Cc]hildren's|[Uu]niversity|Med\.?)"
    r"\s+(?:[Cc]ent(?:er|re)s?|Ctr\.?|[Cc]ampus|[Gg]roup|[Ii]nstitute|[Pp]avilion|[Pp]ractice|[Ff]acility)|Med\.?\s*Ctr\.?|Medical|"
    r"[Hh]ealth\s?[Cc]ent(?:er|re)|[Bb]ranch|[Ll]ocation|[Hh]ealth\s?[Cc]are(?:\s+(?:[Ss]ystem|[Cc]ent(?:er|re)|[Pp]artners))?|"
    r"[Hh]ealth\s+(?:[Ss]ystem|[Ss]ervices|[Nn]etwork|[Pp]artners|[Dd]epartment)|Health|"
    r"[Nn]ursing\s+(?:[Hh]ome|[Ff]acility|[Cc]ent(?:er|re))|[Aa]ssisted\s+[Ll]iving|[Rr]etirement\s+(?:[Hh]ome|[Cc]ommunity)|Manor|"
    r"[Uu]rgent\s+[Cc]are|[Pp]harmacy|[Ss]urgicenter|[Mm]edical\s+[Aa]ssociates|[Aa]ssociates|[Ss]anatorium|[Oo]ffice|[Gg]eneral|"
    r"Med(?:ical)?\s+[Ss]chool|[Mm]emorial|Gen(?:\.|\b)|Hosp\.?|Clin\.|Rehab(?:ilitation)?|Med\b\.?|Ctr\b\.?|"
    r"Center|Centre|Institute|University|College|School|County|Campus|Parish|Township|Village|Borough)"
)
# What is named after a place: "Los Angeles classification", "Edinburgh Postnatal Depression Scale". Words may stand
# between, but none that goes on about somebody ("seen in Boston for a stress test").
_GOES_ON = (
    r"on|in|at|for|with|who|and|or|last|next|seen|to|by|from|of|was|is|has|had|the|an?|patients?|pt|regarding|about|this"
    r"|after|before|during|since|admitted|treated|visited|whose|but|dated|area|where|when|clinic|hospital|office"
)
_GAP = rf"(?:(?!(?i:{_GOES_ON})\b)[A-Za-z-]+\s+)"
MEDICAL_KIND = re.compile(
    rf"(?:\s+(?:Clinic\s+)?{_GAP}{{0,3}}(?:definition|systems?|category|categories|scale|assessment|chromosome|items?"
    r"|rules?|hazards?|criteria|score|index|classification|staging|questionnaire|inventory|nomogram|consensus)\b)"
    r"|\s*(?:'s)?\s*(?:(?:coma|heart|aortic|pain|depression|sleep|activity|risk)\s+)?"
    r"(?:type|classification|criteria|score|scale|staging|stage|protocol|index|sign|test|syndrome|disease|trial|study|"
    r"questionnaire|inventory|formula|rule|virus|fever|guideline|method|loneliness)",
    re.IGNORECASE,
)
