"""Random statements, two oracles that know nothing of SQL.

*Differential*: what betrays a canary directly must not betray it through the gateway. *Two worlds*: the protected
values are changed behind the gateway's back, order and equality kept; the answers must not change, whatever was asked.
The second oracle also sees channels nobody thought of, because it looks for no pattern at all.
"""

from __future__ import annotations

import os

import pytest

from tests.bypass.attack import Arena, Mode, attack, describe, play
from tests.bypass.canary import found
from tests.bypass.grammar import statement
from tests.bypass.test_inference import visible
from tests.bypass.wire import Answer, Wire

# `make test` runs a bounded sample, `make soak` (HOOPWEB_SOAK) the long list.
COUNT = 3000 if os.environ.get("HOOPWEB_SOAK") else 120
SEEDS = range(20_261_120, 20_261_120 + COUNT)
MODES = (Mode.SIMPLE, Mode.EXTENDED_TEXT, Mode.EXTENDED_BINARY)

# The other world: every value differs in its last place only, so that no order and no equality among rows changes.
# Columns whose rule keeps something (year, zip3, token) are left alone: they may differ, by the rule's own word.
OTHER_WORLD = (
    "UPDATE attack_identifiers SET national_id = 1836311904, account = 7540113804746346430, "
    "score = 83177254.9319, balance = 61803.5, admitted = '1951-11-24', seen = '2021-07-20 00:00:00+00', "
    "device = 'c0ffee51-7a2b-4d19-9b3e-5d41ca11ab1f', origin = '203.113.77.42', "
    'payload = \'{"name": "Vexilloryz"}\', '
    "tags = ARRAY['Brontolimay', 'x'], photo = 'Cryptozenitj', code = 'KZWX7QJW' WHERE id = 1"
)
THIS_WORLD = (
    "UPDATE attack_identifiers SET national_id = 1836311903, account = 7540113804746346429, "
    "score = 83177254.9318, balance = 61803.39887498949, "
    "admitted = '1951-11-23', seen = '2021-07-19 04:41:53.271828+00', "
    "device = 'c0ffee51-7a2b-4d19-9b3e-5d41ca11ab1e', origin = '203.113.77.41', "
    'payload = \'{"name": "Vexilloryx"}\', '
    "tags = ARRAY['Brontolimax', 'x'], photo = 'Cryptozenith', code = 'KZWX7QJV' WHERE id = 1"
)


@pytest.mark.e2e
@pytest.mark.timeout(3600)
def test_random_statements_never_disclose_what_they_disclose_directly(arena: Arena) -> None:
    leaked_directly, failures = 0, []
    for seed in SEEDS:
        sql, mode = statement(seed), MODES[seed % 3]
        direct = play(arena.direct, attack("random", sql), mode, rehearsal=True)
        leaked_directly += bool(found(direct.received))
        answer = play(arena.gateway, attack("random", sql), mode, rehearsal=False)
        if leaks := found(answer.received):
            failures.append(f"seed {seed} ({mode}): {leaks}: {sql}")

    assert failures == []
    assert leaked_directly > COUNT // 4, "too few statements leak directly for the test to mean anything"


@pytest.mark.e2e
@pytest.mark.timeout(3600)
def test_random_statements_cannot_tell_two_worlds_apart(arena: Arena) -> None:
    this = answers_in_world(arena, THIS_WORLD)
    try:
        other = answers_in_world(arena, OTHER_WORLD)
    finally:
        with Wire(arena.owner) as owner:
            owner.simple(THIS_WORLD)

    told_apart = [
        f"seed {seed}: {describe(this[seed][1])} / {describe(other[seed][1])}: {statement(seed)}"
        for seed in this
        if visible(this[seed][1]) != visible(other[seed][1]) and not (this[seed][1].refused and other[seed][1].refused)
    ]
    assert told_apart == []
    control = [seed for seed in this if visible(this[seed][0]) != visible(other[seed][0])]
    assert len(control) > len(this) // 8, "directly the worlds look alike, so the test proves nothing"


def answers_in_world(arena: Arena, world: str) -> dict[int, tuple[Answer, Answer]]:
    """For every seed that touches the changed table: what is said directly, and through the gateway."""
    with Wire(arena.owner) as owner:
        changed = owner.simple(world)
    assert changed.tags == ["UPDATE 1"]
    mine = [seed for seed in SEEDS if "attack_identifiers" in statement(seed)]
    return {
        seed: (
            play(arena.direct, attack("world", statement(seed)), Mode.SIMPLE, rehearsal=True),
            play(arena.gateway, attack("world", statement(seed)), Mode.SIMPLE, rehearsal=False),
        )
        for seed in mine
    }
