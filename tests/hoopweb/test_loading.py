"""Garbage is looked for again once the product is loaded, whether or not it could be; and not when it ends."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from hoopweb.loading import nothing_thrown_away
from tests.stack import PROJECT


def test_garbage_is_left_alone_while_loading_and_only_then() -> None:
    with nothing_thrown_away():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_failed_loading_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), nothing_thrown_away():
        raise ImportError("a module that is not there")

    assert gc.isenabled()


def test_nothing_is_gone_through_at_the_end() -> None:
    ends = """
class Loud:
    def __del__(self):
        print("gone through")

loud = Loud()
loud.itself = loud
gc.disable()
del loud
"""

    def said_by(program: str) -> str:
        done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
        return done.stdout

    loading = "from hoopweb.loading import nothing_thrown_away\nwith nothing_thrown_away():\n    pass\n"

    assert said_by(f"import gc\n{ends}") == "gone through\n"  # what the interpreter does by itself
    assert said_by(f"import gc\n{loading}{ends}") == ""
