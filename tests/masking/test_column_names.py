"""What set-up, discovery and coverage make of a column's name, over a list of names as schemas spell them."""

from __future__ import annotations

from pathlib import Path

import pytest

from masking.detectors.column_names import class_of_name

LINES = (Path(__file__).with_name("column_names.txt")).read_text(encoding="utf-8").splitlines()
NAMES = [tuple(line.split()) for line in LINES if line and not line.startswith("#")]


def test_list_is_large_and_holds_ordinary_names_too() -> None:
    told = [name for name, cls in NAMES if cls != "-"]

    assert (len(told) > 200, len(NAMES) - len(told) > 80) == (True, True)
    assert len({name for name, _ in NAMES}) == len(NAMES)


@pytest.mark.parametrize("cls", sorted({cls for _, cls in NAMES}))
def test_every_name_of_the_list_tells_what_it_says(cls: str) -> None:
    wrong = {name: class_of_name(name) for name, told in NAMES if told == cls and (class_of_name(name) or "-") != cls}

    assert wrong == {}
