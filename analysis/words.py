"""Word lists as they read best: one string."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())
