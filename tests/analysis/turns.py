"""How often other threads may have the interpreter while something is done: wherever Python begins to run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def counting_turns(work: Callable[[], T]) -> tuple[T, int]:
    """What `work` returned, and how many functions of Python it called."""
    turns = 0

    def count(_frame: object, event: str, _value: object) -> None:
        nonlocal turns
        turns += event == "call"

    sys.setprofile(count)
    try:
        done = work()
    finally:
        sys.setprofile(None)
    return done, turns
