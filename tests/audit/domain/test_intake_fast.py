"""The compiled way of a batch into the log and the Python one: the same objects, the same rows, the same refusals."""

from __future__ import annotations

import mmap
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.domain.append import box_rows_python, joined_cells, leaf_rows_python
from audit.domain.canonical import CanonicalBody, draft
from audit.domain.chain import Leaf, Prepared, link_entries_python
from audit.domain.entry import Entry
from audit.domain.journal import JournalCorrupt
from audit.domain.journal_follow import read_record_python
from audit.domain.journaled import Reading, pack, unpack_with_python
from audit.domain.links import Links, LinksPython
from audit.domain.merkle import GENESIS, Frontier
from audit.domain.projection import Records, fold_python
from audit.domain.statement_rows import CHANGES, HEAD, Said, change_of, copied, rows_to_copy_python
from tests.turn import examples

intake = pytest.importorskip("audit.domain._intake", reason="no C compiler or no Cython on this machine")

WORDS = st.text(st.sampled_from('ab\x00"\\\u00e9\ud800\U0001f600'), max_size=5) | st.sampled_from(["x" * 70, "é" * 64])
KINDS = st.sampled_from(
    [
        *("statement.held", "statement.authorised", "statement.denied", "statement.completed", "statement.subjects"),
        *("session.opened", "session.closed", "config.changed", ""),
    ]
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "subject": WORDS | st.none(),
        "connection": WORDS,
        "rows": st.integers(-5, 2**40) | st.booleans() | WORDS,
        "status": st.sampled_from(["completed", "failed", ""]),
        "review": st.sampled_from(["", "r1"]),
        "classes": st.lists(WORDS, max_size=2),
        "masked": st.lists(st.dictionaries(WORDS, st.integers(0, 9), max_size=1), max_size=2),
        "complete": st.booleans(),
        "risk": st.integers(0, 9),
    },
)


@st.composite
def batches(draw: st.DrawFn) -> list[Prepared]:
    """Entries of few sessions and statements, in any order; some share their bodies, as those of a journal do."""
    bodies = draw(st.lists(BODIES, min_size=1, max_size=3))
    shared = [CanonicalBody(body) for body in bodies]
    ids = draw(st.lists(WORDS, min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(0, 8))):
        body = draw(st.sampled_from([*bodies, *shared]))
        entry = Entry(
            draw(KINDS),
            body,
            draw(st.sampled_from(["", *ids])),
            draw(st.sampled_from(["", *ids])),
            at_us=draw(st.integers(1 - 2**53, 2**53 - 1)),
        )
        gateway = draw(WORDS)
        box = draw(st.binary(max_size=12))
        made.append(Prepared(entry, gateway, draft(entry, gateway=gateway, commitment=box[:32]), box))
    return made


def linked(prepared: list[Prepared]) -> list[Leaf]:
    return link_entries_python(GENESIS, 0, (), prepared)[0]


def outcome(function: Any, *arguments: Any) -> Any:
    """What comes of a call, or what kind of refusal."""
    try:
        return function(*arguments)
    except (ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
        return type(error)


@settings(max_examples=examples(300), deadline=None)
@given(prepared=batches(), before=st.integers(0, 40), prev=st.binary(min_size=32, max_size=32))
def test_leaves_and_the_tree_grow_alike(prepared: list[Prepared], before: int, prev: bytes) -> None:
    nodes = Frontier().extend(bytes([number]) * 32 for number in range(before)).nodes

    found = intake.link_entries(prev, before, nodes, prepared)

    assert found == link_entries_python(prev, before, nodes, prepared)
    assert all(type(leaf) is Leaf for leaf in found[0])


@settings(max_examples=examples(300), deadline=None)
@given(prepared=batches())
def test_rows_of_leaves_and_boxes_are_alike(prepared: list[Prepared]) -> None:
    leaves = linked(prepared)

    for compiled, python, more in (
        (intake.leaf_rows, leaf_rows_python, [joined_cells]),
        (intake.box_rows, box_rows_python, []),
    ):
        for _ in range(2):  # the second time bodies remember their columns
            assert compiled(b"head", leaves, prepared, *more) == python(b"head", leaves, prepared, *more)
        with pytest.raises(ValueError, match="zip"):
            compiled(b"head", [*leaves, Leaf(1, b"", b"", b"")], prepared, *more)


class Empty:
    """What `Records` has before anything is said."""

    def __init__(self) -> None:
        self.begun: dict[str, list[Said]] = {}
        self.outcomes: dict[str, list[Said]] = {}
        self.counts: dict[str, Any] = {}


@settings(max_examples=examples(500), deadline=None)
@given(prepared=batches())
def test_batches_are_folded_and_spelled_alike(prepared: list[Prepared]) -> None:
    leaves = linked(prepared)
    ours, theirs = Empty(), Empty()

    left = [
        fold(records, leaves, prepared, CHANGES, change_of)
        for fold, records in ((intake.fold, ours), (fold_python, theirs))
    ]

    assert left[0] == left[1]
    for name in ("begun", "outcomes", "counts"):
        assert list(getattr(ours, name).items()) == list(getattr(theirs, name).items())
    assert all(type(said) is Said for entries in ours.begun.values() for said in entries)
    known = list(theirs.begun)[:1]
    for passed_over in ([], known, frozenset(known)):
        arguments = (HEAD, theirs.begun, passed_over, copied)
        assert outcome(intake.rows_to_copy, *arguments) == outcome(rows_to_copy_python, *arguments)


def test_records_use_the_compiled_way(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr("audit.domain.projection.fold", lambda *given: called.append(given) or [])

    Records([], [])

    assert len(called) == 1


@settings(max_examples=examples(300), deadline=None)
@given(prepared=batches())
def test_what_was_packed_is_unpacked_alike(prepared: list[Prepared]) -> None:
    ours, theirs = Reading(), Reading()

    for item in prepared:
        found, expected = (
            intake.unpack_with(ours, pack(item)),
            unpack_with_python(theirs, pack(item)),
        )

        assert found == expected
        assert (type(found), type(found.draft), type(found.entry)) == (Prepared, type(expected.draft), Entry)
        assert type(found.entry.body) is CanonicalBody
        assert found.entry.durability == expected.entry.durability
    assert ours.kept == theirs.kept


PIECES = st.sampled_from(
    [
        *(b'{"at_us":', b',"body":', b',"commitment":"', b',"statement":', b',"v":', b',"v":1}', b'"session":"s"'),
        *(
            b'","gateway":"g","kind":"k","prev":',
            b"{}",
            b'"',
            b"\\",
            b",",
            b"{",
            b"}",
            b"1",
            b"-",
            b" 7 ",
            b"\0",
            b"\xff",
            b"",
        ),
    ]
)


@settings(max_examples=examples(600), deadline=None)
@given(parts=st.tuples(st.lists(PIECES, max_size=9), st.lists(PIECES, max_size=6)))
def test_what_only_looks_like_an_entry_is_refused_alike(parts: tuple[list[bytes], list[bytes]]) -> None:
    head, tail = map(b"".join, parts)
    payload = struct.pack("!II", len(head), len(tail)) + head + tail

    assert outcome(intake.unpack_with, Reading(), payload) == outcome(unpack_with_python, Reading(), payload)


@settings(max_examples=examples(400), deadline=None)
@given(
    payload=st.binary(min_size=1, max_size=60),
    at=st.integers(-3, 130),
    place=st.integers(0, 60),
    flip=st.none() | st.integers(0, 127),
    length=st.none() | st.sampled_from([0, 1, 2**31, 2**32 - 1]),
)
def test_records_are_read_alike(payload: bytes, at: int, place: int, flip: int | None, length: int | None) -> None:
    links, chain = Links(b"k"), bytes(16)
    link = LinksPython(b"k").link(chain, payload)
    view = mmap.mmap(-1, 128)
    record = struct.pack("!I", len(payload) if length is None else length) + link + payload
    view[place : min(128, place + len(record))] = record[: 128 - place]
    if flip is not None:
        view[flip] = view[flip] ^ 1

    for where in (at, place):
        assert read(intake.read_record, view, where, links, chain) == read(
            read_record_python, view, where, links, chain
        )


def read(function: Any, view: mmap.mmap, at: int, links: Links, chain: bytes) -> Any:
    try:
        return function(view, at, links, chain, 7)
    except JournalCorrupt as corrupt:
        return str(corrupt)
    finally:
        view.seek(0)  # nothing holds on to it
