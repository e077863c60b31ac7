"""Garbage is looked for again once the product is loaded, whether or not it could be."""

from __future__ import annotations

import gc

import pytest

from hoopweb.loading import nothing_thrown_away


def test_garbage_is_left_alone_while_loading_and_only_then() -> None:
    with nothing_thrown_away():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_failed_loading_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), nothing_thrown_away():
        raise ImportError("a module that is not there")

    assert gc.isenabled()
