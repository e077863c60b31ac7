"""The compiled spelling of entries and the Python one: the same bytes, the same refusals."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.domain.append import leaf_row_python
from audit.domain.canonical import draft
from audit.domain.chain import Prepared
from audit.domain.commitment import commitment_to
from audit.domain.entry import Entry
from audit.domain.journal import put_record_python
from audit.domain.journaled import pack, split_entry_python, unpack
from audit.domain.template import spell_entry_python

fast = pytest.importorskip("audit.domain._fast", reason="no C compiler or no Cython on this machine")
intake = pytest.importorskip("audit.domain._intake", reason="no C compiler or no Cython on this machine")

BYTES = st.binary(max_size=80)
PARTS = st.lists(BYTES, min_size=1, max_size=5)


@given(
    body=PARTS,
    values=PARTS,
    at_us=st.integers(-(2**53), 2**53),
    pieces=st.tuples(BYTES, BYTES, BYTES, st.text(max_size=20), BYTES, BYTES),
)
def test_entries_are_spelled_alike(body, values, at_us, pieces):
    fitting = (values * len(body))[: len(body) - 1]
    arguments = (tuple(body), tuple(fitting), at_us, *pieces)

    assert fast.spell_entry(*arguments) == spell_entry_python(*arguments)


@pytest.mark.parametrize("spell", [fast.spell_entry, spell_entry_python])
@pytest.mark.parametrize("values", [(), (b"1", b"2")])
def test_values_without_a_place_are_refused(spell, values):
    with pytest.raises(ValueError, match="blanks"):
        spell((b"a", b"b"), values, 1, b"", b"", b"", "s", b"", b"")


@given(plaintext=st.binary(max_size=300), salt=st.binary(max_size=64))
def test_commitments_are_alike(plaintext, salt):
    assert fast.commitment_to(plaintext, salt) == commitment_to(plaintext, salt)


def test_long_salt_is_refused():
    with pytest.raises(ValueError, match="no more than 64"):
        fast.commitment_to(b"text", bytes(65))


@given(place=st.integers(0, 60), chain=st.binary(min_size=16, max_size=16), payload=st.binary(max_size=80))
def test_records_are_put_alike_and_only_where_they_fit(place, chain, payload):
    ours, theirs = mmap.mmap(-1, 128), mmap.mmap(-1, 128)
    fits = place + 20 + len(payload) <= 128

    for put, view in ((fast.put_record, ours), (put_record_python, theirs)):
        if fits:
            put(view, place, chain, payload)
            continue
        with pytest.raises((ValueError, IndexError)):
            put(view, place, chain, payload)

    assert ours[:] == theirs[:]
    assert fits == (ours[:] != bytes(128)) or not any(payload + chain)


def test_link_of_another_length_is_refused():
    with pytest.raises(ValueError, match="16 bytes"):
        fast.put_record(mmap.mmap(-1, 128), 0, b"short", b"payload")


IDS = st.one_of(st.text(max_size=80), st.just("nul\x00"), st.just("lone\ud800"), st.just("x" * 70))


@given(
    numbers=st.tuples(st.integers(0, 2**62), st.integers(-(2**53), 2**53)),
    pieces=st.tuples(BYTES, BYTES, BYTES),
    ids=st.tuples(IDS, IDS),
    around=st.tuples(BYTES, BYTES),
)
def test_rows_of_leaves_are_alike(numbers, pieces, ids, around):
    head, shared = around

    assert intake.leaf_row(head, *numbers, *pieces, *ids, shared) == leaf_row_python(
        head, *numbers, *pieces, *ids, shared
    )


# What a client chooses may look like the members around it.
TEXTS = st.one_of(st.text(max_size=30), st.sampled_from(['","v":1', ',"commitment":"', ',"body":', '","statement":"x']))


@given(texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), at_us=st.integers(1 - 2**53, 2**53 - 1), box=BYTES)
def test_entries_are_taken_apart_alike_and_as_they_were(texts, at_us, box):
    kind, gateway, session, statement, value = texts
    entry = Entry(kind, {"a": value, value: [kind]}, session, statement, at_us=at_us)
    prepared = Prepared(entry, gateway, draft(entry, gateway=gateway, commitment=bytes(32)), box)

    payload = pack(prepared)

    assert intake.split_entry(payload) == split_entry_python(payload)
    assert unpack(payload) == prepared


@pytest.mark.parametrize("split", [intake.split_entry, split_entry_python])
@pytest.mark.parametrize("payload", [b"", bytes(7), bytes(8), b"\x00\x00\x00\x09" + bytes(4), b"\xff" * 30])
def test_what_is_no_entry_is_refused(split, payload):
    with pytest.raises(ValueError, match=r"packed|found"):
        split(payload)
