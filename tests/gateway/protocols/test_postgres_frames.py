"""Frames and rows: any chunking gives the same events, and nothing is trusted before it is there."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.datarow import count_rows, mask_rows, row_values
from gateway.protocols.postgres.frames import FrameBuffer, ProtocolViolation, frame, split_frames
from gateway.protocols.postgres.server import encode_data_row

BODIES = st.lists(st.tuples(st.sampled_from([b"Q", b"D", b"Z"]), st.binary(max_size=300)), max_size=20)
ROWS = st.lists(st.lists(st.none() | st.binary(max_size=40), min_size=3, max_size=3), max_size=20)


@given(bodies=BODIES, cuts=st.lists(st.integers(1, 50), min_size=1))
@settings(max_examples=100, deadline=None)
def test_any_chunking_gives_the_same_frames(bodies: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(frame(kind, body) for kind, body in bodies)
    buffer, got, at, turn = FrameBuffer(1000), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        got += split_frames(buffer.feed(stream[at : at + size]))
        at, turn = at + size, turn + 1

    assert got == [(kind[0], body) for kind, body in bodies]
    assert len(buffer) == 0


@pytest.mark.parametrize("length", [0, 3, 1001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_absurd_lengths_are_refused_before_a_body_is_kept(length: int) -> None:
    with pytest.raises(ProtocolViolation, match="expected"):
        FrameBuffer(1000).feed(b"Q" + struct.pack("!I", length))


def test_length_at_the_limit_is_taken() -> None:
    message = frame(b"Q", b"x" * 996)

    assert FrameBuffer(1000).feed(message) == message


def shout(value: bytes | None) -> bytes | None:
    return None if value is None else value.upper() + b"!!"


@given(rows=ROWS)
@settings(max_examples=100, deadline=None)
def test_masking_equals_the_plain_definition(rows: list[list[bytes | None]]) -> None:
    data = b"".join(encode_data_row(row) for row in rows)
    counts = [0, 0, 0]

    end, number, masked = mask_rows(
        data, 0, len(data), width=3, masks=[(0, shout, False), (2, lambda _: None, True)], counts=counts
    )

    assert (end, number) == (len(data), len(rows))
    assert [row_values(body) for _, body in split_frames(masked)] == [[shout(a), b, None] for a, b, _ in rows]
    assert counts == [
        sum(a is not None for a, _, _ in rows),
        0,
        sum(c is not None for _, _, c in rows),
    ]


def test_a_run_ends_where_other_frames_begin() -> None:
    data = encode_data_row([b"1"]) * 3 + frame(b"C", b"SELECT 3\0")

    assert count_rows(data, 0, len(data)) == (len(data) - 14, 3)


@pytest.mark.parametrize(
    "row",
    [
        encode_data_row([b"1"]),  # fewer columns than described
        encode_data_row([b"1", b"2", b"3"]),  # more
        frame(b"D", b"\0\2" + struct.pack("!i", 100) + b"1234" + struct.pack("!i", -1)),
        frame(b"D", b"\0\2" + struct.pack("!i", -2) + struct.pack("!i", -1)),
        frame(b"D", b"\0\2" + struct.pack("!ii", -1, -1) + b"rest"),
        frame(b"D", b"\0"),
    ],
)
def test_rows_that_do_not_add_up_are_never_let_through(row: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        mask_rows(row, 0, len(row), width=2, masks=[(0, shout, False)], counts=[0, 0])
