"""What an attack is, how it is played on a connection, and what counts as a leak.

Every attack is played twice. Directly on the upstream it must betray a canary (the control: without it the test could
pass because the statement is broken). Through the gateway no byte may betray one, whatever the outcome: denied, held
(then cancelled by us, so nobody approves) or answered with masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tests.bypass.canary import found
from tests.bypass.wire import Answer, ConnectionLost, Target, Wire
from tests.turn import SOAKING, TURN


class Mode(StrEnum):
    SIMPLE = "simple"
    EXTENDED_TEXT = "extended-text"
    EXTENDED_BINARY = "extended-binary"


ALL = tuple(Mode)
SIMPLE_ONLY = (Mode.SIMPLE,)
EXTENDED = (Mode.EXTENDED_TEXT, Mode.EXTENDED_BINARY)

Step = str | Callable[[Wire, Mode], Answer]


@dataclass(frozen=True)
class Attack:
    """Steps run in order on one connection; a refused step does not stop an attacker from sending the next.

    `leaks` are needles beyond the canaries (a part of a value, a number computed from it). `transaction` false plays
    the control outside a transaction that is rolled back, for what only happens at commit. `options` go into the
    startup packet. `undo` runs after the control, for what no rollback takes back (sequences).
    """

    name: str
    steps: tuple[Step, ...]
    leaks: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = ALL
    transaction: bool = True
    options: tuple[tuple[str, str], ...] = ()
    copy_in: bytes = b""
    undo: str = ""


def attack(name: str, *steps: Step, **options: object) -> Attack:
    return Attack(name, steps, **options)  # type: ignore[arg-type]


def cases(attacks: list[Attack]) -> list[tuple[Attack, Mode]]:
    """Every attack in every mode it is meant for, named for the test report by `case_id`."""
    names = [each.name for each in attacks]
    assert len(names) == len(set(names)), f"attack named twice: {sorted(n for n in names if names.count(n) > 1)}"
    return [(each, mode) for each in attacks for mode in each.modes]


def by_turns(attacks: list[Attack], *, turn: int = TURN, soaking: bool = SOAKING) -> list[tuple[Attack, Mode]]:
    """Every attack: in one of the modes, another one next time (tests/turn.py), where they were not chosen for it.

    `make soak` plays all of them.
    """
    if soaking:
        return cases(attacks)
    chosen = {each.name: (ALL[(number + turn) % len(ALL)],) for number, each in enumerate(attacks) if each.modes == ALL}
    return [(each, mode) for each, mode in cases(attacks) if mode in chosen.get(each.name, each.modes)]


def turns(attacks: list[Attack]) -> list[tuple[Attack, Mode]]:
    """Each attack in one mode, the modes by turns: what differs is the statements, not the protocol."""
    return [(each, each.modes[number % len(each.modes)]) for number, each in enumerate(attacks)]


def case_id(value: object) -> str:
    return value.name if isinstance(value, Attack) else str(value)


@dataclass(frozen=True)
class Arena:
    """The same database four ways: as the gateway's own upstream user, as its owner, and twice through the gateway.

    `bare` is a connection without any policy, for an agent who has temporary tables: there only the rules hold.
    """

    direct: Target
    owner: Target
    gateway: Target
    bare: Target


# Connections for controls, as they were when they were new: a connection costs the server ten times what it is asked.
_KEPT: dict[Target, Wire] = {}


def play(target: Target, each: Attack, mode: Mode, *, rehearsal: bool) -> Answer:
    """Run the steps; `rehearsal` (the direct control) undoes what they did."""
    if rehearsal and _leaves_nothing(each):
        return _rehearse(target, each, mode)
    try:
        wire = Wire(_with_options(target, each.options))
    except ConnectionLost as lost:
        return Answer(received=bytearray(str(lost).encode()), errors=[{"C": "08004", "M": str(lost)}], lost=True)
    with wire:
        wire.copy_in = each.copy_in
        answer = _steps(wire, each, mode, wrap=rehearsal and each.transaction)
        if rehearsal and each.undo:
            wire.simple(each.undo)
        return answer


def _steps(wire: Wire, each: Attack, mode: Mode, *, wrap: bool) -> Answer:
    answer = wire.greeting
    if wrap:
        wire.simple("BEGIN")
    for step in each.steps:
        answer = answer + send(wire, step, mode)
        if answer.lost:
            break
    if wrap and not answer.lost:
        wire.simple("ROLLBACK")
    return answer


def _leaves_nothing(each: Attack) -> bool:
    """Whether ROLLBACK and DISCARD ALL make a connection as good as new after it."""
    if not each.transaction or each.options or each.copy_in or each.undo:
        return False
    # dblink's own connections outlive DISCARD ALL.
    return all(isinstance(step, str) and "dblink" not in step for step in each.steps)


def _rehearse(target: Target, each: Attack, mode: Mode) -> Answer:
    """The control on a kept connection; one that did not come out of it as it went in is not kept."""
    wire = _KEPT.pop(target, None) or Wire(target)
    answer = _steps(wire, each, mode, wrap=True)
    if not answer.lost and wire.simple("DISCARD ALL").tags == ["DISCARD ALL"]:
        _KEPT[target] = wire
    else:
        wire.close()
    return answer


def close_kept() -> None:
    """Hang up on whom controls were played."""
    while _KEPT:
        _KEPT.popitem()[1].close()


def send(wire: Wire, step: Step, mode: Mode) -> Answer:
    if callable(step):
        return step(wire, mode)
    if mode is Mode.SIMPLE:
        return wire.simple(step)
    return wire.extended(step, binary=mode is Mode.EXTENDED_BINARY)


def assert_contained(arena: Arena, each: Attack, mode: Mode, *, at: Target | None = None) -> Answer:
    """The control leaks; the gateway does not, `at` its ordinary connection or another."""
    control = play(arena.direct, each, mode, rehearsal=True)
    assert found(control.received, each.leaks), f"the control leaks nothing, so it proves nothing: {control.errors}"

    answer = play(at or arena.gateway, each, mode, rehearsal=False)

    assert found(answer.received, each.leaks) == [], describe(answer)
    assert answer.received, "the gateway said nothing at all, expected a row, a denial or a notice"
    return answer


def describe(answer: Answer) -> str:
    return f"tags={answer.tags} errors={answer.errors} rows={answer.rows[:2]} notices={answer.notices[:2]}"


def _with_options(target: Target, options: tuple[tuple[str, str], ...]) -> Target:
    if not options:
        return target
    return Target(target.host, target.port, target.database, target.user, target.password, target.tls, options)
