"""Following a chain of stored entries, compiled and interpreted: how many plainly stand, and the head after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.domain.canonical import canonical_text, draft
from audit.domain.chain import Head, Prepared, link
from audit.domain.entry import Entry
from audit.domain.findings import stands_behind
from audit.domain.following import Row, follow, follow_rows, follow_rows_python
from audit.domain.merkle import GENESIS, Frontier, leaf_hash

MAKES = [follow_rows_python] if follow_rows is follow_rows_python else [follow_rows_python, follow_rows]
EMPTY = Head(Frontier(), GENESIS)


def stored(count: int, behind: Head = EMPTY) -> list[Row]:
    """Entries as they are written; bodies and names hold what looks like an entry's own members."""
    told = 'x,"prev":"","seq":7,"session":"'
    entries = [Entry("statement.denied", {"code": told * (at % 3)}, told, f"s{at}", at_us=at) for at in range(count)]
    made = [Prepared(entry, "g", draft(entry, gateway=canonical_text("g").decode()), b"") for entry in entries]
    return [(leaf.seq, leaf.hash, leaf.prev, leaf.canonical) for leaf in link(behind, made)[0]]


def parts(head: Head) -> tuple[bytes, int, tuple[bytes, ...]]:
    return head.leaf, head.size, head.frontier.nodes


@pytest.mark.parametrize("way", MAKES)
@pytest.mark.parametrize(("before", "count"), [(0, 0), (0, 1), (0, 130), (127, 2), (63, 70)])
def test_what_was_written_stands_whole(way: Callable[..., Any], before: int, count: int) -> None:
    _, head = follow(stored(before), EMPTY)
    rows = stored(count, head)

    taken, leaf, nodes = way(rows, *parts(head))

    assert taken == count
    assert leaf == (rows[-1][1] if rows else head.leaf)
    assert nodes == Frontier().extend([row[1] for row in stored(before)] + [row[1] for row in rows]).nodes


CHANGES: dict[str, Callable[[Row], Row]] = {
    "text": lambda row: (*row[:3], row[3].replace(b"denied", b"failed")),
    "text and its hash": lambda row: (row[0], leaf_hash(b"{}"), row[2], b"{}"),
    "hash": lambda row: (row[0], bytes(32), *row[2:]),
    "short hash": lambda row: (row[0], row[1][:31], *row[2:]),
    "link": lambda row: (*row[:2], bytes(31) + b"\1", row[3]),
    "no link": lambda row: (*row[:2], b"", row[3]),
    "place": lambda row: (row[0] + 1, *row[1:]),
    "place it states": lambda row: restated(row, row[3].replace(b'"seq":%d,' % row[0], b'"seq":%d,' % (row[0] * 10))),
    "link it states": lambda row: restated(row, row[3].replace(row[2].hex().encode(), b"1" * 64)),
    "nothing": lambda row: restated(row, b""),
    "cut in its link": lambda row: restated(row, row[3][: row[3].rindex(b',"prev":"') + 40]),
}


def restated(row: Row, canonical: bytes) -> Row:
    return (row[0], leaf_hash(canonical), row[2], canonical)


@pytest.mark.parametrize("way", MAKES)
@pytest.mark.parametrize("at", [0, 4, 9])
@pytest.mark.parametrize("change", CHANGES)
def test_it_stops_before_the_first_that_does_not_stand(way: Callable[..., Any], change: str, at: int) -> None:
    rows = stored(10)
    changed = CHANGES[change](rows[at])
    assert changed != rows[at]

    taken, leaf, nodes = way([*rows[:at], changed, *rows[at + 1 :]], *parts(EMPTY))

    assert taken == at
    assert leaf == (rows[at - 1][1] if at else GENESIS)
    assert nodes == Frontier().extend(row[1] for row in rows[:at]).nodes


@pytest.mark.skipif(follow_rows is follow_rows_python, reason="nobody compiled it")
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([GENESIS, b"", b"a" * 32, leaf_hash(b"{}")]),
            st.sampled_from([GENESIS, b"", b"a" * 32, leaf_hash(b"{}")]),
            st.lists(st.sampled_from([b',"prev":"', GENESIS.hex().encode(), b'","seq":', b"1", b',"session":"', b"{}"]))
            .map(b"".join),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_both_take_as_many_of_whatever_is_stored(rows: list[Row]) -> None:
    rows = [(seq, leaf_hash(text) if seq == 1 else leaf, prev, text) for seq, leaf, prev, text in rows]

    assert follow_rows(rows, *parts(EMPTY)) == follow_rows_python(rows, *parts(EMPTY))


@pytest.mark.skipif(follow_rows is follow_rows_python, reason="nobody compiled it")
@pytest.mark.parametrize("head", [(b"", 0, ()), (GENESIS, 1, ()), (GENESIS, 1, (b"x",)), (GENESIS, -1, ())])
def test_what_is_no_head_is_refused(head: tuple[bytes, int, tuple[bytes, ...]]) -> None:
    with pytest.raises(ValueError, match="head"):
        follow_rows([], *head)


@pytest.mark.skipif(follow_rows is follow_rows_python, reason="nobody compiled it")
def test_rows_of_other_types_are_refused() -> None:
    (row,) = stored(1)
    for other in ([list(row)], [row[:3]], [(row[0], memoryview(row[1]), *row[2:])], [("1", *row[1:])], [None]):
        with pytest.raises((TypeError, ValueError)):
            follow_rows(other, *parts(EMPTY))


def test_entries_written_here_are_plain() -> None:
    """The control: else every one would be looked at the long way, and nothing above would say so."""
    assert all(stands_behind(row[3], seq=row[0], prev=row[2]) for row in stored(10))
