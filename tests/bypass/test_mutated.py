"""Every attack of the catalogue, disguised at random: what leaks directly in its disguise must not leak through it.

`HOOPWEB_BYPASS_SEED` starts elsewhere; a failure names its seed, attack and protocol.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from tests.bypass import test_laundering, test_parser_session, test_shape
from tests.bypass.attack import Arena, Attack, Mode, play
from tests.bypass.canary import found
from tests.bypass.mutate import Disguise

COUNT = 6_000 if os.environ.get("HOOPWEB_SOAK") else 120
FIRST_SEED = int(os.environ.get("HOOPWEB_BYPASS_SEED", "20261120"))

CATALOGUE: list[Attack] = [
    each
    for each in (
        *test_shape.ATTACKS,
        *test_laundering.COPIES,
        *test_laundering.EXISTING,
        *test_laundering.CODE,
        *test_laundering.BODIES,
        *test_parser_session.LEXING,
        *test_parser_session.STACKED,
        *test_parser_session.HIDDEN_SQL,
    )
    if all(isinstance(step, str) for step in each.steps) and each.transaction and not each.copy_in
    # Needles of a few letters ("rel") also stand in the words of an error about a disguised statement.
    if all(len(needle) > 4 for needle in each.leaks)
]


def disguised(seed: int) -> tuple[Attack, Mode]:
    random_ = random.Random(seed)
    each = random_.choice(CATALOGUE)
    steps = Disguise(seed).steps(each.steps)  # type: ignore[arg-type]
    return replace(each, steps=steps), random_.choice(each.modes)


@pytest.mark.e2e
@pytest.mark.timeout(7200)
def test_disguised_attacks_disclose_no_canary(arena: Arena) -> None:
    leaked_directly, failures = 0, []
    for seed in range(FIRST_SEED, FIRST_SEED + COUNT):
        each, mode = disguised(seed)
        control = play(arena.direct, each, mode, rehearsal=True)
        if not found(control.received, each.leaks):
            continue  # the disguise broke it
        leaked_directly += 1
        answer = play(arena.gateway, each, mode, rehearsal=False)
        if leaks := found(answer.received, each.leaks):
            failures.append(f"seed {seed} ({each.name}, {mode}): {leaks}: {each.steps}")

    assert failures == []
    assert leaked_directly > COUNT // 2, "most disguises break their statement, so the test proves little"


def test_disguises_are_many() -> None:
    texts = {disguised(seed)[0].steps for seed in range(FIRST_SEED, FIRST_SEED + 200)}

    assert len(texts) == 200
