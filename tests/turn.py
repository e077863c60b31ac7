"""Which part of a long list a run of `make test` plays: another one each run. `make soak` plays the whole list.

Of a property's examples a run tries a quarter of what soaking does; the turn seeds which (tests/conftest.py).

A run draws its turn once, for all its processes, and says it at its end; HOOPWEB_TURN plays the same parts again.
"""

from __future__ import annotations

import os
import random

_NAME = "HOOPWEB_TURN"
SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
# Workers of pytest-xdist, and the gate's second run, inherit what the first process drew.
TURN = int(os.environ.setdefault(_NAME, str(random.SystemRandom().randrange(1 << 31))))
SAID = f"turn {TURN}: {_NAME}={TURN} plays the same part of what only `make soak` plays whole"


def examples(most: int) -> int:
    """How many examples a property is tried on in this run: `most` of them where it soaks."""
    return most if SOAKING else most // 4
