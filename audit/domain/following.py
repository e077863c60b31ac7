"""Following stored entries along their chain: how many of a page plainly stand where they say, and the head after them.

Every entry that was written plainly stands behind the one before: what is asked before each signing is asked of nearly
all of them here, and what does not is looked at again by `integrity`, which says what is wrong with it. The compiled
twin does not hold the interpreter meanwhile: the check runs beside the event loop of a gateway.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from audit.domain.chain import Head
from audit.domain.findings import stands_behind
from audit.domain.merkle import Frontier, leaf_hash

Row = tuple[int, bytes, bytes, bytes]  # of the log's table: seq, leaf, prev, canonical


def follow(rows: Sequence[Row], head: Head) -> tuple[int, Head]:
    """How many of `rows`, one behind the other from `head` on, plainly stand there; and the head with them."""
    taken, leaf, nodes = follow_rows(rows, head.leaf, head.size, head.frontier.nodes)
    return taken, Head(Frontier(head.size + taken, nodes), leaf) if taken else head


def follow_rows(
    rows: Sequence[Row], leaf: bytes, size: int, nodes: tuple[bytes, ...]
) -> tuple[int, bytes, tuple[bytes, ...]]:
    """The same of a head's parts: its newest leaf's hash, how many entries it has, and its frontier's nodes."""
    leaves: list[bytes] = []
    for expected, (seq, stored, prev, canonical) in enumerate(rows, size + 1):
        if (seq, prev) != (expected, leaf) or not stands_behind(canonical, seq=seq, prev=prev):
            break
        if leaf_hash(canonical) != stored:
            break
        leaf = stored
        leaves.append(stored)
    return len(leaves), leaf, Frontier(size, nodes).extend(leaves).nodes


follow_rows_python = follow_rows
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._following import follow_rows
