"""Which part of a long list a run of `make test` plays: another one each run. `make soak` plays the whole list.

Of a property's examples a run tries a quarter of what soaking does; the turn seeds which (tests/conftest.py). Of the
cases of a test that is marked `by_turns(parts)` a run plays every second, third, … one: some of each test, always. Of
long tests of one kind that are marked `turn(number, of=count)` it plays one.

A run draws its turn once, for all its processes, and says it at its end; HOOPWEB_TURN plays the same parts again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence

_NAME = "HOOPWEB_TURN"
SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
# Workers of pytest-xdist, and the gate's second run, inherit what the first process drew.
TURN = int(os.environ.setdefault(_NAME, str(random.SystemRandom().randrange(1 << 31))))
SAID = f"turn {TURN}: {_NAME}={TURN} plays the same part of what only `make soak` plays whole"


def examples(most: int) -> int:
    """How many examples a property is tried on in this run: `most` of them where it soaks."""
    return most if SOAKING else most // 4


def has_its_turn(number: int, *, of: int, turn: int = TURN, soaking: bool = SOAKING) -> bool:
    """Whether this run plays the test with this number among so many of its kind."""
    return soaking or turn % of == number


def left_out(tests: Sequence[tuple[str, int]], *, turn: int = TURN, soaking: bool = SOAKING) -> set[int]:
    """Places of what has its turn in another run. Of each case: which test it is of, and how many turns those take."""
    if soaking:
        return set()
    cases, counted = Counter(test for test, _ in tests), Counter[str]()
    places = set()
    for place, (test, parts) in enumerate(tests):
        if (counted[test] + turn) % min(parts, cases[test]) != 0:
            places.add(place)
        counted[test] += 1
    return places
