"""The compiled ways of the log over what nobody should hand them: the Python twins say the same of each."""

from __future__ import annotations

import mmap
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit.domain.append import leaf_row_python
from audit.domain.canonical import draft
from audit.domain.chain import Prepared
from audit.domain.commitment import commitment_to as commitment_to_python
from audit.domain.entry import Entry
from audit.domain.journal import put_record_python
from audit.domain.journaled import pack, split_entry_python
from audit.domain.template import spell_entry_python
from tests.turn import examples

fast = pytest.importorskip("audit.domain._fast", reason="no C compiler or no Cython on this machine")
intake = pytest.importorskip("audit.domain._intake", reason="no C compiler or no Cython on this machine")

# Characters that JSON escapes, cuts or refuses, and those beside them.
NAMES = st.text(st.sampled_from('\x00\x01\x1f "\\/\x7f\x80\u00e9\u2028\ud800\udfff\U0001f600abc'), max_size=70)
SIZES = st.sampled_from([0, 1, 7, 8, 9, 60, 2**31 - 1, 2**31, 2**32 - 1])
PIECES = st.sampled_from(
    [
        *(b'{"at_us":', b',"body":', b',"commitment":"', b',"statement":', b',"v":', b',"v":1}', b'"session":'),
        *(b'"', b"\\", b",", b"{", b"}", b"1", b"-", b" 7 ", b"\0", b"\xff", b"\xd9\xa1", b"0x1", b"1_0", b""),
    ]
)


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (ValueError, UnicodeError) as error:
        return type(error)


def entry(statement: str = "s-1", value: str = "v") -> bytes:
    made = Entry("statement.authorised", {"a": value}, "session-1", statement, at_us=1_700_000_000_000_000)
    return pack(Prepared(made, "gateway", draft(made, gateway="gateway", commitment=bytes(32)), b"box"))


@settings(max_examples=examples(600), deadline=None)
@given(
    statement=st.sampled_from(["s-1", "", 'x","v":1', '"statement":']),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 9), PIECES), max_size=3),
    cut=st.none() | st.integers(0, 400),
)
def test_entries_that_were_altered(statement: str, changes: list[tuple[int, int, bytes]], cut: int | None) -> None:
    payload = entry(statement)
    for place, gone, piece in changes:
        at = place % (len(payload) + 1)
        payload = payload[:at] + piece + payload[at + gone :]

    assert outcome(intake.split_entry, payload[:cut]) == outcome(split_entry_python, payload[:cut])


@settings(max_examples=examples(600), deadline=None)
@given(
    sizes=st.none() | st.tuples(SIZES, SIZES),
    parts=st.tuples(st.lists(PIECES, max_size=9), st.lists(PIECES, max_size=6)),
)
@example(sizes=(2**32 - 1, 2**32 - 1), parts=([], []))
def test_what_only_looks_like_an_entry(sizes: tuple[int, int] | None, parts: tuple[list[bytes], list[bytes]]) -> None:
    head, tail = map(b"".join, parts)
    payload = struct.pack("!II", *(sizes or (len(head), len(tail)))) + head + tail

    assert outcome(intake.split_entry, payload) == outcome(split_entry_python, payload)


@settings(max_examples=examples(300), deadline=None)
@given(statement=NAMES, at_us=st.integers(-(2**62), 2**62), values=st.lists(PIECES, max_size=3))
def test_identifiers_nobody_escaped(statement: str, at_us: int, values: list[bytes]) -> None:
    body = tuple([b"x"] * (len(values) + 1))
    arguments = (body, tuple(values), at_us, b"\0\xff", b"around", b"session", statement, b"ending", b"box")

    assert outcome(fast.spell_entry, *arguments) == outcome(spell_entry_python, *arguments)


@settings(max_examples=examples(300), deadline=None)
@given(ids=st.tuples(NAMES, NAMES), seq=st.integers(-(2**63), 2**63 - 1), at_us=st.integers(-(2**61), 2**61))
def test_rows_of_odd_identifiers_and_moments(ids: tuple[str, str], seq: int, at_us: int) -> None:
    arguments = (b"head", seq, at_us, b"d" * 32, b"", b"{}", *ids, b"shared")

    assert outcome(intake.leaf_row, *arguments) == outcome(leaf_row_python, *arguments)


@settings(max_examples=examples(200), deadline=None)
@given(plaintext=st.binary(max_size=9), salt=st.binary(min_size=55, max_size=70))
def test_commitments_about_a_block_long(plaintext: bytes, salt: bytes) -> None:
    found = outcome(fast.commitment_to, plaintext, salt)

    assert found == (ValueError if len(salt) > 64 else commitment_to_python(plaintext, salt))


@settings(max_examples=examples(300), deadline=None)
@given(place=st.integers(-300, 300), chain=st.binary(min_size=14, max_size=18), size=st.integers(0, 140))
def test_records_are_never_put_beside_their_segment(place: int, chain: bytes, size: int) -> None:
    ours, theirs = mmap.mmap(-1, 128), mmap.mmap(-1, 128)
    fits = len(chain) == 16 and place >= 0 and place + 20 + size <= 128

    found = outcome(fast.put_record, ours, place, chain, b"p" * size)

    if fits:
        put_record_python(theirs, place, chain, b"p" * size)
    assert found is (None if fits else ValueError)
    assert ours[:] == theirs[:]
