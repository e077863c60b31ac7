"""The processor's cores a process runs on: a gateway worker stays on one, what it starts does not.

Workers that the kernel moves between cores leave behind what the caches hold of their interpreter and their sessions.
As many as there are cores are therefore dealt one each; fewer or more are left to the kernel, which knows what else
runs.
"""

from __future__ import annotations

import os
from collections.abc import Collection

_before: frozenset[int] | None = None  # those this process began with


def dealt(workers: int) -> list[int | None]:
    """The core of each of so many workers; None: whichever is free."""
    cores = sorted(usable())
    return list(cores) if len(cores) == workers > 1 else [None] * workers


def stay_on(core: int) -> None:
    """Keep this thread, and those it starts from now on, on one core. Raises OSError where it may not run there."""
    global _before  # noqa: PLW0603  of the process, like what it changes
    before = usable()
    os.sched_setaffinity(0, {core})
    _before = before


def usable() -> frozenset[int]:
    """The cores this process may use, whichever it stays on."""
    return _before if _before is not None else frozenset(os.sched_getaffinity(0))


def use(cores: Collection[int]) -> None:
    """Run on any of these from now on: for a process that was started by one that stays on a core."""
    global _before  # noqa: PLW0603
    os.sched_setaffinity(0, cores)
    _before = None
