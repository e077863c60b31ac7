"""The compiled forms of masks and the Python masks they stand for: the same bytes for usual, odd and random values."""

from __future__ import annotations

import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masking.detectors.scan import Depth, compile_scan
from masking.detectors.structured import detect_structured
from masking.engines.registry import compile_mask
from masking.engines.types import MaskOptions, Target, target_for
from tests.masking.test_engines_shortcuts import values
from tests.masking.test_structured import PLANTED
from tests.turn import examples

fast = pytest.importorskip("masking.engines._fast", reason="no C compiler or no Cython on this machine")

OPTIONS = MaskOptions(data_class="ssn", keep=4, this_year=2026, key=b"k" * 32)
TEXT, PADDED = target_for(type_oid=25, binary=False), target_for(type_oid=1042, binary=False)
DATE, TIME = target_for(type_oid=1082, binary=False), target_for(type_oid=1184, binary=False)
BINARY_DATE, BINARY_TIME = target_for(type_oid=1082, binary=True), target_for(type_oid=1114, binary=True)
INT4, INT8 = target_for(type_oid=23, binary=False), target_for(type_oid=20, binary=False)
BINARY_INT4, BINARY_INT8 = target_for(type_oid=23, binary=True), target_for(type_oid=20, binary=True)
UUID, BINARY_UUID = target_for(type_oid=2950, binary=False), target_for(type_oid=2950, binary=True)

# technique, encoding, a usual value, which has to be masked by the compiled form itself
FORMS = [
    ("partial", TEXT, b"541-82-6637"),
    ("partial", PADDED, b"541-82-6637   "),
    ("zip3", TEXT, b"02139"),
    ("zip3", TEXT, b"03601-1234"),
    ("zip3", PADDED, b"02139 "),
    ("year", TEXT, b"1950-03-07"),
    ("year", DATE, b"1850-03-07"),
    ("year", TIME, b"1950-03-07 12:34:56.789-05"),
    ("year", TIME, b"1950-03-07 12:34:56+05:30"),
    ("year", BINARY_DATE, struct.pack("!i", -18_000)),
    ("year", BINARY_TIME, struct.pack("!q", -1)),
    ("hash", TEXT, b"541-82-6637"),
    ("hash", PADDED, b"541-82-6637   "),
    ("hash", INT4, b"-4711"),
    ("hash", INT8, b"0"),
    ("hash", BINARY_INT4, struct.pack("!i", -4711)),
    ("hash", BINARY_INT8, struct.pack("!q", -(2**63))),
    ("hash", UUID, b"6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    ("hash", BINARY_UUID, uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8").bytes),
]
DAYS = (0, -1, 58, 59, 60, 365, 366, -730_119, -730_120, 2_921_939, 2_921_940, 2**31 - 1, -(2**31))
MICROSECONDS = (0, -1, 1, 86_399_999_999, 86_400_000_000, 2**63 - 1, -(2**63), -63_082_281_600_000_000)
EDGES = [
    *(struct.pack("!i", days) for days in DAYS),
    *(struct.pack("!q", since) for since in MICROSECONDS),
    b"1950-03-07 12:34:56", b"1950-03-07T12:34:56Z", b"1950-03-07 12:34", b"1950-03-07 12:34:56.",
    b"1950-03-07 12:34:56.1234567890123456", b"1950-03-07 12:34:56+05:30:15", b"1950-03-07 12:34:56+0530",
    b"1950-03-07 12:34:56.5+05 BC", b"1950-03-07 12:34:5a+05", b"1950-03-07X12:34:56", b"9999-12-31", b"infinity",
    b"-0", b"00", b"+5", b" 5", b"1_0", b"9223372036854775808", b"12345678901234567890", b"-", b"",
    b"6BA7B810-9DAD-11D1-80B4-00C04FD430C8", b"6ba7b8109dad11d180b400c04fd430c8",
    b"{6ba7b810-9dad-11d1-80b4-00c04fd430c8}", b"6ba7b810-9dad-11d1-80b4-00c04fd430cg",
    b"02139 1234", b"02139_1234", b"02139-123x", "José".encode(), b"    ", b"x" * 300,
]  # fmt: skip


@pytest.mark.parametrize(("technique", "target", "usual"), FORMS)
def test_compiled_form_says_what_its_mask_says(technique: str, target: Target, usual: bytes) -> None:
    mask = compile_mask(technique, target=target, options=OPTIONS)
    assert isinstance(mask, fast.FastMask)

    for value in (None, usual, *EDGES, *values()):
        assert mask(value) == mask.ordinary(value), value


@settings(max_examples=examples(300), deadline=None)
@given(
    form=st.sampled_from(FORMS),
    value=st.binary(max_size=40)
    | st.from_regex(rb"\A[0-9 -]{0,12}\Z")
    | st.from_regex(rb"\A[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9:.]{0,9}([+-][0-9:]{0,6})?)?( BC)?\Z")
    | st.integers(-(2**31), 2**31 - 1).map(struct.Struct("!i").pack)
    | st.integers(-(2**63), 2**63 - 1).map(struct.Struct("!q").pack)
    | st.uuids().map(lambda one: one.bytes)
    | st.uuids().map(lambda one: str(one).encode()),
)
def test_compiled_form_says_what_its_mask_says_of_anything(form: tuple[str, Target, bytes], value: bytes) -> None:
    mask = compile_mask(form[0], target=form[1], options=OPTIONS)

    assert mask(value) == mask.ordinary(value)  # type: ignore[attr-defined]


def test_every_year_has_its_first_day() -> None:
    mask = compile_mask("year", target=BINARY_DATE, options=MaskOptions(data_class="", this_year=91))

    for days in (*range(-730_119, 2_921_939, 97), *range(-1_200, 1_200)):
        value = struct.pack("!i", days)
        assert mask(value) == mask.ordinary(value), days  # type: ignore[attr-defined]


@pytest.mark.parametrize(("technique", "target", "usual"), FORMS)
def test_usual_values_need_no_python(technique: str, target: Target, usual: bytes) -> None:
    """Without this the others would pass where nothing is compiled."""
    form = type(compile_mask(technique, target=target, options=OPTIONS))
    asked: list[bytes | None] = []
    own = _remade(form, target, asked)

    own(usual)
    assert asked == []
    own(b"\xff")
    assert asked == [b"\xff"]


def _remade(form: type, target: Target, asked: list[bytes | None]):
    """The same form in front of a mask that tells what it is asked."""
    digests = pytest.importorskip("audit.domain._openssl").Labelled(b"k" * 32, b"label")
    more = {
        "FastPartial": {"keep": 4, "padded": target.blank_padded},
        "FastYear": {"floor": 1936},
        "FastBinaryYear": {"floor": 1936, "width": target.width},
        "FastToken": {"digests": digests, "padded": target.blank_padded},
        "FastIntegerToken": {"digests": digests, "binary": target.binary, "width": target.width},
        "FastUuidToken": {"digests": digests, "binary": target.binary},
    }
    return form(asked.append, **more.get(form.__name__, {}))


@pytest.mark.parametrize(
    "options",
    [
        MaskOptions(data_class="ssn", this_year=2026, key=b"k" * 65),
        MaskOptions(data_class="s" * 300, this_year=2026, key=b"k" * 32),
        MaskOptions(data_class="ssn", this_year=2026, key=b""),
    ],
)
def test_what_a_compiled_form_has_no_room_for_is_python_s(options: MaskOptions) -> None:
    mask = compile_mask("hash", target=TEXT, options=options)

    assert not isinstance(mask, fast.FastMask)
    assert mask(b"541-82-6637") not in (None, b"541-82-6637")


def untouched(value: str) -> bool:
    """Whether the compiled search lets a value pass without asking."""
    asked: list[bytes | None] = []
    scan = fast.FastScan(asked.append)
    rows = pytest.importorskip("gateway.protocols.postgres._fast")
    raw = value.encode()
    body = struct.pack("!HI", 1, len(raw)) + raw
    row = b"D" + struct.pack("!I", len(body) + 4) + body
    shown = rows.mask_rows(row, 0, len(row), width=1, masks=[(0, scan, True)], counts=[0])[2]
    assert asked or shown == row
    return not asked


LETTERS = st.text("abcdefwxWXMRNSsn*#-./ '", max_size=45)
DIGITS = st.text("0123456789-./, ", max_size=16) | st.text("0123456789-./, *xXSsNMRn#aAwcCoilt", max_size=20)
NEAR = st.from_regex(r"\A(SSN|SS#|Social Security|MRN|NPI|[A-Z]{2}|[X*]{3}-?|www|MR#)?[ :.#-]?[0-9 -]{1,9}[A-Z]{0,4}\Z")


@settings(max_examples=examples(1000), deadline=None)
@given(value=LETTERS | DIGITS | NEAR | st.text(max_size=45) | st.sampled_from(sorted(PLANTED.values())))
def test_nothing_is_found_in_what_the_compiled_search_lets_pass(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    if untouched(value):
        assert detect_structured(value, bare_digits=True) == []
        assert detect_structured(value) == []


@pytest.mark.parametrize("value", PLANTED.values())
def test_the_compiled_search_asks_about_every_planted_identifier(value: str) -> None:
    assert not untouched(value)
    mask = compile_scan(TEXT, Depth.STORED)
    assert mask is not None
    assert mask(value.encode()) != value.encode()


@pytest.mark.parametrize(
    "value",
    [
        "Boston",
        "metoprolol",
        "Blue Harbor Health",
        "active",
        "",
        "City 12",
        "10 mg",
        "status 1",
        "2024-01-02",
        "02139",
        "17.50",
    ],
)
def test_the_compiled_search_lets_words_and_small_numbers_pass(value: str) -> None:
    assert untouched(value)
