"""Dataclasses that are made in one step: the same values, the same refusals as those `dataclasses` makes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import statement
from analysis.scope import Questions, Reading
from analysis.statement import Analysis, Facts, Statement

making = pytest.importorskip("analysis._making", reason="no C compiler or no Cython on this machine")


def _each(decorate: Callable[[type], type]) -> list[type]:
    """The same classes, made in one step or not."""

    @decorate
    @dataclass(frozen=True, slots=True, order=True)
    class Plain:
        first: object
        second: object = "second"
        third: object = field(default_factory=list)

    @dataclass(slots=True, kw_only=True)
    class Above:
        named: object = 0

    @decorate
    @dataclass(slots=True)
    class Below(Above):
        first: object
        later: object = field(init=False)
        kept: object = field(init=False, default="kept")
        second: object = None

    return [Plain, Below]


MADE, USUAL = _each(making.quickly_made), _each(lambda cls: cls)
NAMES = st.sampled_from(["first", "second", "third", "named", "later", "kept", "other"])


def _outcome(make: Callable[[], Any]) -> Any:
    try:
        made = make()
    except TypeError as error:
        return str(error)
    return [getattr(made, each.name, "not there") for each in fields(made)]


@given(st.sampled_from([0, 1]), st.lists(st.integers(), max_size=4), st.dictionaries(NAMES, st.integers(), max_size=4))
def test_a_call_makes_the_same_or_is_refused_in_the_same_words(which, placed, named):
    made, usual = (_outcome(lambda cls=cls: cls[which](*placed, **named)) for cls in (MADE, USUAL))

    assert made == usual


@given(st.sampled_from([0, 1]), st.dictionaries(NAMES, st.integers(), max_size=3))
def test_a_copy_with_other_values_is_the_one_replace_makes(which, changes):
    made, usual = MADE[which](1, named=2) if which else MADE[0](1, third=2), USUAL[which](1)
    held = sys.getrefcount(made)

    with_changes = _outcome_of(lambda: making.remade(made, **changes)), _outcome_of(lambda: replace(made, **changes))

    assert with_changes[0] == with_changes[1]
    assert sys.getrefcount(made) == held
    assert _outcome_of(lambda: making.remade(usual, **changes)) == _outcome_of(lambda: replace(usual, **changes))


def _outcome_of(make: Callable[[], Any]) -> Any:
    """Of `replace`, which also raises ValueError, and TypeError in words of the class's `__init__`."""
    try:
        made = make()
    except (TypeError, ValueError) as error:
        return str(error)
    return [getattr(made, each.name, "not there") for each in fields(made)]


def test_names_are_found_whoever_spelled_them():
    spelled = "".join(["fi", "rst"])

    made = MADE[0](**{spelled: 1})

    assert (made.first, made.second, made.third) == (1, "second", [])
    assert MADE[0](1).third is not made.third


def test_what_was_frozen_stays_frozen_and_is_replaced_and_compared_as_ever():
    made = MADE[0](1, third=())

    with pytest.raises(FrozenInstanceError):
        made.first = 2
    assert replace(made, second="other") == MADE[0](1, "other", ())
    assert made < replace(made, first=2)
    assert {made: "found"}[MADE[0](1, "second", ())] == "found"


def test_a_subclass_is_made_its_own_way():
    class Counted(MADE[1]):
        def __init__(self, first: object) -> None:
            super().__init__(first, second="set")
            self.more = "more"

    counted = Counted(1)

    assert (counted.first, counted.second, counted.kept, counted.more) == (1, "set", "kept", "more")


def test_nothing_is_kept_alive_and_nothing_freed_too_early():
    value = object()
    held = sys.getrefcount(value)
    for _ in range(100):
        MADE[0](value, second=value, third=[value])
        MADE[1](value, named=value)
        with pytest.raises(TypeError):
            MADE[0](value, first=value)
        with pytest.raises(TypeError):
            MADE[0](second=value)

    assert sys.getrefcount(value) == held
    cycle: list[object] = [value]
    cycle.append(MADE[0](cycle))
    del cycle
    gc.collect()
    assert sys.getrefcount(value) == held


@pytest.mark.parametrize("named", [{"__post_init__": lambda self: None}, {"__new__": lambda cls, first: None}])
def test_a_class_that_does_more_than_keep_its_fields_is_refused(named):
    cls = dataclass(slots=True)(type("More", (), {"__annotations__": {"first": int}, **named}))

    with pytest.raises(TypeError):
        making.quickly_made(cls)


def test_a_class_without_slots_is_refused():
    cls = dataclass(type("Loose", (), {"__annotations__": {"first": int}}))

    with pytest.raises(TypeError):
        making.quickly_made(cls)


def test_the_vocabulary_of_analysis_is_made_so():
    stated = {"statement": Statement("SELECT 1"), "kind": "SELECT", "fingerprint": "f", "complete": True}

    assert Analysis(**stated) == type.__call__(Analysis, **stated)
    assert Analysis(**stated).facts == Facts()
    assert Analysis.__init__ is not object.__init__
    assert is_dataclass(statement.Analysis)
    assert Reading(catalogue=None).predicates == Questions().predicates == set()  # type: ignore[arg-type]
    assert not hasattr(Reading(None), "outputs_of")  # type: ignore[arg-type]
