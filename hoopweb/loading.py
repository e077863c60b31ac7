"""Loading the product without looking for garbage in between, which took a sixth of every program's start, and leaving
it without a look through all of it, which took as much processor time as loading a third of it.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_thrown_away() -> Iterator[None]:
    """Modules and classes stay to the end: looks for garbage neither interrupt this block nor go through it later.

    The interpreter's last look, when it ends, finds nothing to go through either: the system takes the memory whole.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.unregister(gc.freeze)
        atexit.register(gc.freeze)
