"""The compiled inner loops and the Python ones: the same bytes, the same counts, the same refusals."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.datarow import count_rows_python, mask_rows_python
from gateway.protocols.postgres.frames import ProtocolViolation, frame, scan_frames_python
from gateway.protocols.postgres.server import encode_data_row

fast = pytest.importorskip("gateway.protocols.postgres._fast", reason="no C compiler or no Cython on this machine")

ROWS = st.lists(st.lists(st.none() | st.binary(max_size=60), min_size=4, max_size=4), max_size=15)
CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4)
MASKS = [(0, lambda value: b"[REDACTED]", False), (3, lambda value: value and value[:2], True)]


def outcome(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    try:
        return function(*args, **keywords)
    except ProtocolViolation:
        return ProtocolViolation


def altered(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, value in changes:
        if changed:
            changed[place % len(changed)] = value
    return bytes(changed)


@settings(max_examples=400, deadline=None)
@given(rows=ROWS, changes=CHANGES, cut=st.integers(0, 2000), tail=st.sampled_from([b"", frame(b"C", b"SELECT 1\0")]))
def test_rows_are_walked_and_masked_alike(
    rows: list[list[bytes | None]], changes: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    data = altered(b"".join(encode_data_row(row) for row in rows), changes) + tail
    end = min(cut, len(data)) if changes else len(data)
    ours, theirs = [0] * 4, [0] * 4

    assert outcome(fast.count_rows, data, 0, end) == outcome(count_rows_python, data, 0, end)
    compiled = outcome(fast.mask_rows, data, 0, end, width=4, masks=MASKS, counts=ours)
    assert compiled == outcome(mask_rows_python, data, 0, end, width=4, masks=MASKS, counts=theirs)
    assert compiled is ProtocolViolation or ours == theirs


@settings(max_examples=400, deadline=None)
@given(bodies=st.lists(st.binary(max_size=40), max_size=10), changes=CHANGES, limit=st.integers(4, 60))
def test_frames_are_scanned_alike(bodies: list[bytes], changes: list[tuple[int, int]], limit: int) -> None:
    data = altered(b"".join(frame(b"D", body) for body in bodies), changes)

    assert outcome(fast.scan_frames, data, limit) == outcome(scan_frames_python, data, limit)


@pytest.mark.parametrize("mask_rows", [fast.mask_rows, mask_rows_python])
def test_mask_without_a_column_is_refused(mask_rows: Callable[..., Any]) -> None:
    data = encode_data_row([b"123-45-6789", b"x"])

    with pytest.raises(ProtocolViolation):
        mask_rows(data, 0, len(data), width=2, masks=[(2, lambda _: None, False)], counts=[0, 0, 0])


@pytest.mark.parametrize("length", [-2, 0x7FFFFFFF, 12])
def test_length_that_points_out_of_its_row_is_refused(length: int) -> None:
    data = frame(b"D", struct.pack("!Hi", 1, length) + b"123-45-6789")

    with pytest.raises(ProtocolViolation):
        fast.mask_rows(data, 0, len(data), width=1, masks=[], counts=[0])


def test_mask_that_fails_passes_on_its_error_and_no_row() -> None:
    def broken(value: bytes | None) -> bytes | None:
        raise RuntimeError

    data = encode_data_row([b"123-45-6789"])

    with pytest.raises(RuntimeError):
        fast.mask_rows(data, 0, len(data), width=1, masks=[(0, broken, False)], counts=[0])
