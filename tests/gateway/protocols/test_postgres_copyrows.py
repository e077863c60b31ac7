"""COPY rows in the three formats."""

from __future__ import annotations

import struct

import pytest

from gateway.protocols.postgres.copyrows import BinaryCopyMasker, CsvCopyMasker, TextCopyMasker
from gateway.protocols.postgres.frames import ProtocolViolation


def mask(value: bytes | None) -> bytes | None:
    return None if value is None else b"<" + value + b">"


MASKS = [(1, mask, False)]


def test_text_rows_are_unescaped_masked_and_escaped() -> None:
    counts = [0, 0]
    masker = TextCopyMasker(width=2, masks=MASKS, counts=counts)

    assert masker.feed(rb"a\tb" + b"\t" + rb"x\\y\nz" + b"\n") == (rb"a\tb" + b"\t" + rb"<x\\y\nz>" + b"\n", 1)
    assert masker.feed(b"\\N\t\\N\n") == (b"\\N\t\\N\n", 1)
    assert counts == [0, 1]


def test_csv_rows_keep_their_quoting_and_null() -> None:
    masker = CsvCopyMasker(width=2, masks=MASKS, counts=[0, 0], header=True)

    assert masker.feed(b"a,b\n") == (b"a,b\n", 0)
    assert masker.feed(b'"1,""2""","x\n"\n') == (b'"1,""2""","<x\n>"\n', 1)
    assert masker.feed(b'1,""\n') == (b"1,<>\n", 1)
    assert masker.feed(b"1,\n") == (b"1,\n", 1)
    assert masker.feed(b'1,"say ""a,b"""\n') == (b'1,"<say ""a,b"">"\n', 1)


def test_binary_rows_between_header_and_trailer() -> None:
    header = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
    row = struct.pack("!hi1si2s", 2, 1, b"a", 2, b"xy")
    masked = struct.pack("!hi1si4s", 2, 1, b"a", 4, b"<xy>")
    masker = BinaryCopyMasker(width=2, masks=MASKS, counts=[0, 0])

    assert masker.feed(header + row) == (header + masked, 1)
    assert masker.feed(b"\xff\xff") == (b"\xff\xff", 0)


@pytest.mark.parametrize("line", [b"one\n", b"a\tb\tc\n"])
def test_rows_of_another_width_are_never_let_through(line: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        TextCopyMasker(width=2, masks=MASKS, counts=[0, 0]).feed(line)


@pytest.mark.parametrize("line", [b'"open,b\n', b'"a"x,b\n'])
def test_csv_that_cannot_be_told_apart_is_never_let_through(line: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        CsvCopyMasker(width=2, masks=MASKS, counts=[0, 0]).feed(line)
