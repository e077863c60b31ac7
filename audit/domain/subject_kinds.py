"""Which kinds of subjects connections declare. The declarations are above this app, which only shows their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Declared = Callable[[], Iterable[str]]
_declared: list[Declared] = []


def register(declared: Declared) -> None:
    """Called once by the app that holds the declarations."""
    _declared[:] = [declared]


def subject_kinds() -> tuple[str, ...]:
    """The declared kinds, sorted; `patient` where nothing says otherwise."""
    names = {name for declared in _declared for name in declared()}
    return tuple(sorted(names)) or ("patient",)
