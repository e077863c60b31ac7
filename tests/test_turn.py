"""What is bounded comes round: every part has its turn, and soaking plays them all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bypass.attack import ALL, EXTENDED, SIMPLE_ONLY, attack, by_turns, cases
from tests.turn import SAID, SOAKING, TURN, examples, has_its_turn, left_out


def test_every_attack_is_played_in_every_run_and_in_every_mode_over_three() -> None:
    attacks = [attack(f"attack-{number}", "SELECT 1") for number in range(5)]
    runs = [by_turns(attacks, turn=turn, soaking=False) for turn in range(3)]

    for run in runs:
        assert [each for each, _ in run] == attacks
        assert {mode for _, mode in run} == set(ALL), "a run that speaks one way only"
    assert sorted(case for run in runs for case in run_names(run)) == sorted(run_names(cases(attacks)))


def test_attack_whose_modes_were_chosen_is_played_in_all_of_them() -> None:
    chosen = [attack("one", "SELECT 1", modes=SIMPLE_ONLY), attack("two", "SELECT 1", modes=EXTENDED)]

    assert by_turns(chosen, turn=1, soaking=False) == cases(chosen)


def test_soaking_plays_all() -> None:
    attacks = [attack("each", "SELECT 1")]

    assert by_turns(attacks, turn=1, soaking=True) == cases(attacks)


def test_what_goes_by_turns_is_played_in_one_run_of_so_many_and_no_test_is_left_out() -> None:
    tests = [("whole", 1)] * 2 + [("halves", 2)] * 5 + [("thirds of two", 3)] * 2
    runs = [left_out(tests, turn=turn, soaking=False) for turn in range(2)]

    assert [len(tests) - len(run) for run in runs] == [2 + 3 + 1, 2 + 2 + 1]
    assert runs[0] & runs[1] == set(), "left out by either run"
    assert {0, 1} & (runs[0] | runs[1]) == set(), "no turns were asked for"
    assert left_out(tests, turn=1, soaking=True) == set()


def test_one_of_a_kind_has_its_turn_in_each_run() -> None:
    def played(turn: int) -> list[int]:
        return [number for number in range(3) if has_its_turn(number, of=3, turn=turn, soaking=False)]

    assert [played(turn) for turn in range(4)] == [[0], [1], [2], [0]]
    assert all(has_its_turn(number, of=3, turn=1, soaking=True) for number in range(3))


def test_processes_of_a_run_have_one_turn() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests import turn; print(turn.TURN)"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout) == TURN
    assert str(TURN) in SAID


def test_turn_seeds_the_examples_of_a_property(request: pytest.FixtureRequest) -> None:
    assert request.config.getoption("--hypothesis-seed") is not None, "other examples that nobody can try again"
    assert examples(600) == (600 if SOAKING else 150)


def run_names(run: list[tuple[object, object]]) -> list[tuple[str, str]]:
    return [(getattr(each, "name", ""), str(mode)) for each, mode in run]
