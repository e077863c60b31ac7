"""Paths of the service's API: what is quoted, and what is never asked for."""

from __future__ import annotations

import pytest

from gateway.upstreams.bigquery_api import path_of
from gateway.upstreams.registry import UpstreamFailed


def test_segments_are_quoted_whole() -> None:
    assert path_of("projects", "p", "datasets", "a/../b?x#y") == "/projects/p/datasets/a%2F..%2Fb%3Fx%23y"


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_dot_segments_name_nothing(segment: str) -> None:
    """An HTTP client resolves them: `datasets/d/tables/..` would describe the dataset."""
    with pytest.raises(UpstreamFailed):
        path_of("projects", "p", "datasets", "d", "tables", segment)
