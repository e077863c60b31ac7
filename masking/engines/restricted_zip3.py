"""Three-digit ZIP prefixes whose areas hold 20,000 people or fewer: shown as 000 (45 CFR 164.514(b)(2)(i)(B)).

Two published readings of the census disagree; the default is their union, so that neither reader finds a prefix shown.
"""

from __future__ import annotations

AS_OF = "2000 census, tables compared 2026-11-20"

_CENSUS_2000 = "036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893"
_LATER_READING = "036 059 102 202 203 204 205 369 556 692 753 772 821 823 878"
RESTRICTED = frozenset(_CENSUS_2000.split()) | frozenset(_LATER_READING.split())
