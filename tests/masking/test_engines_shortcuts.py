"""Techniques take a short way for the usual value; what it gives is what the long one says, for odd values too."""

from __future__ import annotations

import base64
import random
import uuid

import pytest

from masking.engines.hash import digest
from masking.engines.registry import compile_mask
from masking.engines.types import REDACTED, MaskOptions, Target, target_for
from masking.engines.year import _iso_year, _shown_text
from masking.engines.zip3 import shown_prefix

OPTIONS = MaskOptions(data_class="ssn", keep=4, this_year=2026, key=b"k" * 32)
FLOOR = 2026 - 90
TEXT = target_for(type_oid=25, binary=False)
ODD = [
    b"", b" ", b"0", b"02139", b"02139 ", b"2139", b"00501", b"03601", b"203-5", b"02139-1234", b"0213\xd9\xa3",
    b"1950-03-07",
    b"1950-3-007", b"1950-03-07 ", b" 1950-03-07", b"19500-3-07", b"195a-03-07", b"1950-03-0b", b"0000-00-00",
    b"1850-01-01",
    b"2199-99-99", b"1950_03-07", b"1950-03_07", b"1950-03-07 BC", b"+950-03-07", b"1 50-03-07", "José".encode(),
    "07-03-195\u0660".encode(), b"\xff\xfe", b"abc\x00", b"87",
]  # fmt: skip


def values() -> list[bytes]:
    chance = random.Random(6)
    pieces = [b"19", b"50", b"-", b"0", b"1", b"9", b" ", b"/", "é".encode(), b"\xff", b"036", b"X"]
    return [*ODD, *(b"".join(chance.choices(pieces, k=chance.randint(1, 9))) for _ in range(4000))]


def decoded(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def hashed(value: bytes) -> bytes:
    text = decoded(value)
    if text is None:
        return REDACTED
    raw = digest(options=OPTIONS, kind="text", value=text.encode())[:16]
    return b"tok_" + base64.b32encode(raw).rstrip(b"=").lower()


def partial(value: bytes) -> bytes:
    text = decoded(value)
    return REDACTED if text is None else b"****" + text[len(text) - min(4, len(text) // 2) :].encode()


def prefix(value: bytes) -> bytes:
    text = decoded(value)
    shown = None if text is None else shown_prefix(text.strip())
    return REDACTED if shown is None else shown.encode()


def year(value: bytes) -> bytes:
    text = decoded(value)
    return REDACTED if text is None else _shown_text(text.strip().encode(), FLOOR)


@pytest.mark.parametrize(
    ("technique", "expected"), [("hash", hashed), ("partial", partial), ("zip3", prefix), ("year", year)]
)
def test_text_is_masked_as_the_long_way_does(technique: str, expected) -> None:
    mask = compile_mask(technique, target=TEXT, options=OPTIONS)

    for value in values():
        assert mask(value) == expected(value), value
        assert mask(value) == expected(value), value  # what is remembered is the same


def test_dates_are_masked_as_the_long_way_does() -> None:
    mask = compile_mask("year", target=target_for(type_oid=1082, binary=False), options=OPTIONS)

    assert [mask(value) for value in values()] == [_iso_year(value, FLOOR) for value in values()]


def test_the_short_ways_are_taken() -> None:
    """Without this the others would pass where nothing is short."""
    plain = [b"1950-03-07", b"1850-12-31", b"02139", b"03601"]

    assert [compile_mask("year", target=TEXT, options=OPTIONS)(value) for value in plain[:2]] == [
        b"1950-01-01",
        b"1936-01-01",
    ]
    assert [compile_mask("zip3", target=TEXT, options=OPTIONS)(value) for value in plain[2:]] == [b"021", b"000"]


def test_padding_is_no_part_of_the_last_characters() -> None:
    padded = Target(TEXT.family, blank_padded=True)

    assert compile_mask("partial", target=padded, options=OPTIONS)(b"123456789   ") == b"****6789"


def test_numbers_and_uuids_have_the_tokens_of_the_digest() -> None:
    number = compile_mask("hash", target=target_for(type_oid=20, binary=False), options=OPTIONS)
    original = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    raw = bytearray(digest(options=OPTIONS, kind="uuid", value=original.bytes)[:16])
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80

    expected = int.from_bytes(digest(options=OPTIONS, kind="integer", value=b"4711")[:8], "big") & (1 << 63) - 1
    assert number(b"4711") == str(expected).encode()
    assert compile_mask("hash", target=target_for(type_oid=2950, binary=True), options=OPTIONS)(
        original.bytes
    ) == bytes(raw)
