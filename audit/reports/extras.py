"""Files that go along with a report: what an app above this one can make of the same period."""

from __future__ import annotations

from collections.abc import Callable

from audit.domain.reports import Period

EXTRAS: dict[str, dict[str, Callable[[Period], str]]] = {}


def register_extra(report: str, file_name: str, write: Callable[[Period], str]) -> None:
    EXTRAS.setdefault(report, {})[file_name] = write
