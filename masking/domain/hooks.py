"""What must happen when rules change. Masking cannot know the data path above it, so the data path registers here."""

from __future__ import annotations

from collections.abc import Callable

_listeners: list[Callable[[], object]] = []


def register(listener: Callable[[], object]) -> None:
    """Have `listener` called inside the transaction of every change of masking configuration."""
    if listener not in _listeners:
        _listeners.append(listener)


def rules_changed() -> None:
    for listener in _listeners:
        listener()
