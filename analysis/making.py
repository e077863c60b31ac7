"""Dataclasses with slots that are made by the dozen for every statement, in one compiled step each.

What `dataclasses` writes for a frozen class stores every field by a call that looks it up by name, and a call with
names makes a dictionary of them first: some thousand instructions a field, for hundreds of fields a statement.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any, TypeVar

T = TypeVar("T")


def quickly_made(cls: type[T]) -> type[T]:
    """The same dataclass, as frozen as it was, made faster where this is compiled. It has slots, no `__post_init__`."""
    return cls


def remade(value: T, /, **changes: Any) -> T:
    """`dataclasses.replace`, in one step where this is compiled."""
    return replace(value, **changes)  # type: ignore[type-var]


with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from analysis._making import quickly_made, remade  # noqa: F401, for the others
