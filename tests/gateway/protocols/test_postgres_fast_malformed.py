"""The compiled inner loops over bytes no server and no client would send: the Python twins say the same of each.

`test_postgres_fast` begins with what is sound and alters it. Here nothing is sound to begin with: lengths that lie by
one or by gigabytes, counts without their values, strings that do not end, and cuts at every place.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.client import SYNC_FRAME
from gateway.protocols.postgres.datarow import count_rows_python, mask_rows_python
from gateway.protocols.postgres.express import (
    blank_integers_python,
    read_answer_python,
    read_extended_python,
    read_query_python,
)
from gateway.protocols.postgres.frames import frame, scan_frames_python
from masking.engines.types import ConstantMask
from tests.gateway.protocols.test_postgres_fast import outcome
from tests.turn import examples

fast = pytest.importorskip("gateway.protocols.postgres._fast", reason="no C compiler or no Cython on this machine")

LENGTHS = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
INT32 = LENGTHS.map(lambda number: struct.pack("!I", number))
INT16 = st.sampled_from([0, 1, 2, 3, 255, 32_767, 65_535]).map(lambda number: struct.pack("!H", number))
SOME = st.binary(max_size=6) | st.sampled_from([b"\0", b"\0\0", b"DDDD", b"SELECT 1", b"\xc3\xa9", b"\xff"])
PLACES = st.integers(-3, 90)


def lying(kinds: bytes) -> st.SearchStrategy[bytes]:
    """Pieces that look like frames of these kinds, with lengths of their own."""
    heads = st.tuples(st.sampled_from([bytes([kind]) for kind in kinds]), INT32).map(b"".join)
    true = st.tuples(
        st.sampled_from([bytes([kind]) for kind in kinds]), st.lists(SOME | INT16 | INT32, max_size=5)
    ).map(lambda made: frame(made[0], b"".join(made[1])))
    return st.lists(heads | true | true | INT16 | INT32 | SOME, max_size=9).map(b"".join)


@st.composite
def rows(draw: st.DrawFn) -> bytes:
    """DataRows that are framed well and count their columns well; what is inside lies."""
    width = draw(st.integers(0, 3))
    values = [draw(INT32) + draw(SOME) if draw(st.booleans()) else value(draw(SOME)) for _ in range(width)]
    body = struct.pack("!H", width) + b"".join(values)
    return frame(b"D", body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body)


def value(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


ROWS = st.lists(rows() | SOME, max_size=4).map(b"".join) | lying(b"DC")
MASKS = [
    (0, ConstantMask(b"[REDACTED]", keeps_null=True), False),
    (1, lambda found: found and found[:1] * 300, False),
    (2, lambda found: found, True),
]


@settings(max_examples=examples(500), deadline=None)
@given(
    data=ROWS,
    at=st.integers(0, 20) | st.just(0),
    cut=st.none() | st.integers(0, 90),
    width=st.integers(0, 3),
    masked=st.sets(st.integers(0, 2)),
)
@example(data=b"D\xff\xff\xff\xff", at=0, cut=None, width=0, masked=set())
@example(data=b"D\0\0\0\x06\0\0", at=0, cut=None, width=0, masked=set())
@example(data=b"D\0\0\0\x05\0", at=0, cut=None, width=0, masked=set())
def test_runs_of_rows(data: bytes, at: int, cut: int | None, width: int, masked: set[int]) -> None:
    end = len(data) if cut is None else min(cut, len(data))
    at = min(at, end)
    masks = [MASKS[column] for column in sorted(masked) if column < width]
    ours, theirs = [0] * width, [0] * width

    assert outcome(fast.count_rows, data, at, end) == outcome(count_rows_python, data, at, end)
    found = outcome(fast.mask_rows, data, at, end, width=width, masks=masks, counts=ours)
    assert found == outcome(mask_rows_python, data, at, end, width=width, masks=masks, counts=theirs)
    assert isinstance(found, type) or ours == theirs


@pytest.mark.parametrize("place", [(-1, 3), (0, 8)])
def test_runs_outside_their_bytes_are_refused(place: tuple[int, int]) -> None:
    at, end = place

    assert outcome(fast.count_rows, b"D\0\0\0\x04", at, end).__name__ == "ProtocolViolation"
    assert (
        outcome(fast.mask_rows, b"D\0\0\0\x04", at, end, width=0, masks=[], counts=[]).__name__ == "ProtocolViolation"
    )


@pytest.mark.parametrize("counts", [[], [0]])
def test_counts_that_are_too_few_are_refused_before_one_is_written(counts: list[int]) -> None:
    data = frame(b"D", struct.pack("!H", 2) + value(b"a") + value(b"b"))

    with pytest.raises(ValueError, match="counts"):
        fast.mask_rows(data, 0, len(data), width=2, masks=[(1, lambda _: b"x", False)], counts=counts)


@pytest.mark.parametrize("masked", ["text", 7, bytearray(b"x"), object()])
def test_mask_that_returns_no_bytes_shows_nothing(masked: Any) -> None:
    data = frame(b"D", struct.pack("!H", 1) + value(b"a"))

    with pytest.raises(TypeError):
        fast.mask_rows(data, 0, len(data), width=1, masks=[(0, lambda _: masked, False)], counts=[0])


@settings(max_examples=examples(400), deadline=None)
@given(data=lying(b"DCZ1"), limit=st.sampled_from([4, 5, 60, 2**31, 2**32 - 1]), at=PLACES, stop=st.none() | PLACES)
def test_frames(data: bytes, limit: int, at: int, stop: int | None) -> None:
    def scanned(scan: Any) -> Any:
        try:
            return outcome(scan, data, limit, at, stop)
        except ValueError:  # a place before the data
            return ValueError

    assert scanned(fast.scan_frames) == scanned(scan_frames_python)


@settings(max_examples=examples(600), deadline=None)
@given(data=lying(b"QPX") | st.tuples(INT32, SOME).map(lambda made: b"Q" + made[0] + made[1] + b"\0"))
@example(data=frame(b"Q", b"\0"))
@example(data=frame(b"Q", b"a\0b\0"))
@example(data=frame(b"Q"))
def test_queries(data: bytes) -> None:
    for end in range(len(data) + 1):
        assert fast.read_query(data[:end]) == read_query_python(data[:end])


RUN = b"E\0\0\0\x09\0\0\0\0\0" + SYNC_FRAME
TAIL = b"D\0\0\0\x06P\0" + RUN


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Parse and Bind framed as they are, or nearly; every count and length inside may lie."""
    parsed = b"\0" + draw(SOME) + b"\0" + draw(INT16) + draw(st.lists(INT32, max_size=3).map(b"".join))
    counted = st.tuples(INT16, st.lists(INT16 | INT32 | SOME | SOME.map(value), max_size=4).map(b"".join)).map(b"".join)
    bound = (
        draw(SOME | st.just(b"")) + b"\0" + draw(SOME | st.just(b"")) + b"\0" + b"".join(draw(counted) for _ in "123")
    )
    head = frame(b"P", parsed) if draw(st.booleans()) else b""
    return head + frame(b"B", bound) + draw(st.sampled_from([TAIL, RUN, RUN.replace(b"\x09\0\0", b"\x09\0\xff")]))


@settings(max_examples=examples(600), deadline=None)
@given(
    data=requests()
    | lying(b"PB").map(lambda data: data + TAIL)
    | lying(b"PB").map(lambda data: data + RUN)
    | lying(b"PBDES")
)
@example(data=TAIL)
@example(data=RUN)
@example(data=b"B\0\0\0\x04" + b"\0" * 12 + RUN)
@example(data=b"B\xff\xff\xff\xff" + b"\0" * 12 + RUN)
@example(data=b"P\0\0\0\x04" + TAIL)
@example(data=b"P\xff\xff\xff\xff" + b"\0" * 20 + TAIL)
@example(data=b"B\0\0\0\x04" + b"\0" * 12 + TAIL)
def test_requests(data: bytes) -> None:
    assert fast.read_extended(data) == read_extended_python(data)


@settings(max_examples=40, deadline=None)
@given(data=requests())
def test_requests_cut_anywhere(data: bytes) -> None:
    for end in range(len(data)):
        assert fast.read_extended(data[:end]) == read_extended_python(data[:end])
        for rest in (TAIL, RUN):
            assert fast.read_extended(data[:end] + rest) == read_extended_python(data[:end] + rest)


@settings(max_examples=examples(500), deadline=None)
@given(
    begin=st.sampled_from([frame(b"1") + frame(b"2"), frame(b"2"), frame(b"1"), b""]),
    data=st.tuples(SOME.map(partial(frame, b"T")), ROWS).map(b"".join)
    | st.sampled_from([frame(b"n"), b""])
    | lying(b"TDCZNn"),
    end=st.sampled_from(
        [frame(b"C", b"SELECT 1\0") + frame(b"Z", b"I"), frame(b"s") + frame(b"Z", b"I"), frame(b"Z", b"T"), b""]
    ),
    parsed=st.booleans(),
    bound=st.booleans(),
)
def test_answers(begin: bytes, data: bytes, end: bytes, parsed: bool, bound: bool) -> None:
    whole = begin + data + end
    try:
        expected = read_answer_python(whole, parsed=parsed, bound=bound)
    except struct.error:
        return  # a frame that is not whole, which the relay never hands on

    assert fast.read_answer(whole, parsed=parsed, bound=bound) == expected


TEXTS = st.lists(
    st.sampled_from(
        [*(bytes([byte]) for byte in b"0189=<> (,);\n\r\t\0'\"$.x-"), b"12345678", b"123456789", b"\xd9\xa1"]
    )
    | st.binary(max_size=3),
    max_size=24,
).map(b"".join)


@settings(max_examples=examples(600), deadline=None)
@given(text=TEXTS)
@example(text=b" 1\n")
@example(text=b" 1\n\n")
@example(text=b"=123456789")
@example(text=b"=1234567890")
@example(text=b"1 1 1")
def test_blanked_integers_of_any_bytes(text: bytes) -> None:
    assert fast.blank_integers(text) == blank_integers_python(text)
