from __future__ import annotations

import struct
import uuid
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking.engines.registry import TECHNIQUES, compile_mask
from masking.engines.restricted_zip3 import RESTRICTED
from masking.engines.types import Family, MaskOptions, MaskValue, target_for

KEY = b"k" * 32
TEXT, INT2, INT4, INT8, DATE, TIMESTAMP, TIMESTAMPTZ, UUID, BPCHAR, JSONB = (
    25,
    21,
    23,
    20,
    1082,
    1114,
    1184,
    2950,
    1042,
    3802,
)


def mask_of(
    technique: str, type_oid: int = TEXT, *, binary: bool = False, keep: int = 4, key: bytes = KEY, cls: str = "c"
) -> MaskValue:
    return compile_mask(
        technique,
        target=target_for(type_oid=type_oid, binary=binary),
        options=MaskOptions(data_class=cls, keep=keep, this_year=2026, key=key),
    )


@pytest.mark.parametrize("technique", sorted(set(TECHNIQUES) - {"whole"}))
@pytest.mark.parametrize("type_oid", [TEXT, INT4, DATE, UUID, JSONB])
def test_null_stays_null(technique: str, type_oid: int) -> None:
    assert mask_of(technique, type_oid)(None) is None


@pytest.mark.parametrize("technique", sorted(TECHNIQUES))
@given(value=st.binary(max_size=40))
def test_no_technique_raises_whatever_the_bytes(technique: str, value: bytes) -> None:
    for type_oid in (TEXT, INT2, INT4, INT8, DATE, TIMESTAMP, TIMESTAMPTZ, UUID, BPCHAR, JSONB, 99_999):
        for binary in (False, True):
            masked = mask_of(technique, type_oid, binary=binary)(value)
            assert masked is None or isinstance(masked, bytes)


@pytest.mark.parametrize("technique", ["redact", "whole"])
@given(value=st.text(min_size=1).map(str.encode))
def test_redact_and_whole_do_not_depend_on_the_value(technique: str, value: bytes) -> None:
    assert mask_of(technique)(value) == b"[REDACTED]"


@pytest.mark.parametrize(
    ("value", "keep", "shown"),
    [
        (b"123-45-6789", 4, b"****6789"),
        (b"1234567", 4, b"****567"),  # never more than half
        (b"ab", 4, b"****b"),
        (b"a", 4, b"****"),
        (b"", 4, b"****"),
        (b"12345678", 0, b"****"),
        ("Łódź-Żółć".encode(), 2, "****łć".encode()),
        (b"\xff\xfe", 4, b"[REDACTED]"),
    ],
)
def test_partial_keeps_the_end(value: bytes, keep: int, shown: bytes) -> None:
    assert mask_of("partial", keep=keep)(value) == shown


def test_partial_ignores_the_padding_of_bpchar() -> None:
    assert mask_of("partial", BPCHAR)(b"AB1234" + b" " * 10) == b"****234"


@given(value=st.text(min_size=1, max_size=60), keep=st.integers(0, 16))
def test_partial_never_shows_more_than_half(value: str, keep: int) -> None:
    masked = mask_of("partial", keep=keep)(value.encode("utf-8", "surrogatepass")) or b""

    assert masked == b"[REDACTED]" or len(masked.decode()) - 4 <= len(value) / 2


def test_hash_is_stable_and_bound_to_class_and_key() -> None:
    value = b"123-45-6789"
    token = mask_of("hash")(value)

    assert token == mask_of("hash")(value)
    assert token != mask_of("hash")(b"123-45-6780")
    assert token != mask_of("hash", cls="other")(value)
    assert token != mask_of("hash", key=b"j" * 32)(value)
    assert token is not None
    assert len(token) == len("tok_") + 26  # 128 bits in base32


def test_hash_of_padded_and_plain_text_agree() -> None:
    assert mask_of("hash", BPCHAR)(b"AB12   ") == mask_of("hash")(b"AB12")


def test_hash_without_a_key_masks_whole() -> None:
    assert mask_of("hash", key=b"")(b"123-45-6789") == b"[REDACTED]"
    assert mask_of("hash", INT4, key=b"")(b"42") is None


@pytest.mark.parametrize(("type_oid", "width"), [(INT4, 4), (INT8, 8)])
@given(number=st.integers(-(2**31), 2**31 - 1))
def test_hash_of_integers_agrees_in_both_formats_and_is_positive(type_oid: int, width: int, number: int) -> None:
    text = mask_of("hash", type_oid)(str(number).encode())
    binary = mask_of("hash", type_oid, binary=True)(number.to_bytes(width, "big", signed=True))

    assert text is not None
    assert binary is not None
    assert int(text) == int.from_bytes(binary, "big", signed=True)
    assert 0 <= int(text) < 1 << (8 * width - 1)


def test_hash_of_uuid_agrees_in_both_formats() -> None:
    original = uuid.uuid4()

    text = mask_of("hash", UUID)(str(original).encode())
    binary = mask_of("hash", UUID, binary=True)(original.bytes)

    assert text is not None
    assert binary is not None
    hashed = uuid.UUID(text.decode())
    assert hashed.bytes == binary
    assert hashed != original
    assert (hashed.version, hashed.variant) == (8, uuid.RFC_4122)


@pytest.mark.parametrize("type_oid", [16, 17, INT2, 701, DATE, 1700, 869])
def test_hash_of_other_types_is_null(type_oid: int) -> None:
    assert mask_of("hash", type_oid)(b"1") is None


@pytest.mark.parametrize(
    ("type_oid", "value", "shown"),
    [
        (DATE, b"1987-11-23", b"1987-01-01"),
        (DATE, b"1936-02-01", b"1936-01-01"),
        (DATE, b"1901-02-01", b"1936-01-01"),  # over 89: the year of the 90th
        (DATE, b"0044-03-15 BC", b"1936-01-01"),
        (DATE, b"infinity", None),
        (DATE, b"-infinity", None),
        (DATE, b"23/11/1987", None),  # another DateStyle
        (TIMESTAMP, b"1987-11-23 13:14:15.5", b"1987-01-01 00:00:00"),
        (TIMESTAMPTZ, b"1987-11-23 13:14:15+02", b"1987-01-01 00:00:00+00"),  # an offset tells summer from winter
        (TIMESTAMPTZ, b"1987-11-23 13:14:15+05:30", b"1987-01-01 00:00:00+00"),
        (TIMESTAMPTZ, b"1987-11-23 13:14:15+167:30:15", b"1987-01-01 00:00:00+00"),
        (TIMESTAMPTZ, b"1987-12-31 23:30:00-05", b"1988-01-01 00:00:00+00"),  # as in binary
        (TIMESTAMPTZ, b"1988-01-01 01:29:59.5+01:30", b"1987-01-01 00:00:00+00"),
        (TIMESTAMPTZ, b"1988-01-04 00:00:00+99", b"1987-01-01 00:00:00+00"),
        (TIMESTAMPTZ, b"0001-01-01 00:00:00+01", b"1936-01-01 00:00:00+00"),
        (TIMESTAMPTZ, b"9999-12-31 23:30:00-01", None),
        (TIMESTAMPTZ, b"0044-03-15 12:00:00+00 BC", b"1936-01-01 00:00:00+00"),
        (TEXT, b"1987-11-23T13:14:15Z", b"1987-01-01T00:00:00Z"),
        (TEXT, b"1987-06-23T13:14:15-0400", b"1987-01-01T00:00:00+00"),
        (TEXT, b"1987-13-23T13:14:15-0400", b"[REDACTED]"),
        (INT4, b"42", b"42"),
        (INT4, b"89", b"89"),
        (INT4, b"90", b"90"),
        (INT4, b"103", b"90"),
        (INT4, b"1950", b"1950"),
        (INT4, b"1901", b"1936"),
        (INT4, b"19500607", None),
        (INT4, b"-3", None),
        (TEXT, b"1987-11-23", b"1987-01-01"),
        (TEXT, b"1901-11-23", b"1936-01-01"),
        (TEXT, b"11/23/1987", b"1987"),
        (TEXT, b"19871123", b"1987"),
        (TEXT, b"95", b"90"),
        (TEXT, b"1987", b"1987"),
        (TEXT, b"born in May", b"[REDACTED]"),
        (TEXT, b"1234567890", b"[REDACTED]"),
        (16, b"t", None),
    ],
)
def test_year(type_oid: int, value: bytes, shown: bytes | None) -> None:
    assert mask_of("year", type_oid)(value) == shown


@given(
    day=st.dates(date(1, 1, 9), date(9999, 12, 23)) | st.sampled_from([date(2023, 12, 31), date(2024, 1, 1)]),
    second=st.integers(0, 86_399),
    offset=st.integers(-167 * 3600, 167 * 3600) | st.just(3600),
)
def test_no_offset_changes_the_year(day: date, second: int, offset: int) -> None:
    """A `TimeZone` of the asker's own moves every moment by up to a week."""
    moment = datetime.combine(day, time.min, tzinfo=UTC) + timedelta(seconds=second)
    there = (moment + timedelta(seconds=offset)).isoformat(" ", "seconds").removesuffix("+00:00")
    minutes, seconds = divmod(abs(offset), 60)
    zone = f"{'-' if offset < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"

    shown = mask_of("year", TIMESTAMPTZ)(f"{there}{zone}".encode())

    assert shown == b"%04d-01-01 00:00:00+00" % max(day.year, 1936)


@given(day=st.dates(date(1, 1, 1), date(9999, 12, 31)))
def test_year_of_binary_dates_and_timestamps(day: date) -> None:
    days = (day - date(2000, 1, 1)).days
    expected = date(max(day.year, 1936), 1, 1)

    shown = mask_of("year", DATE, binary=True)(struct.pack("!i", days))
    stamp = mask_of("year", TIMESTAMP, binary=True)(struct.pack("!q", days * 86_400_000_000 + 1))

    assert shown is not None
    assert stamp is not None
    assert date(2000, 1, 1) + timedelta(days=struct.unpack("!i", shown)[0]) == expected
    assert date(2000, 1, 1) + timedelta(microseconds=struct.unpack("!q", stamp)[0]) == expected


@pytest.mark.parametrize("extreme", [2**31 - 1, -(2**31)])
def test_year_of_binary_infinity_is_null(extreme: int) -> None:
    assert mask_of("year", DATE, binary=True)(struct.pack("!i", extreme)) is None


def test_year_of_a_binary_date_before_christ_is_the_oldest_shown() -> None:
    shown = mask_of("year", DATE, binary=True)(struct.pack("!i", -800_000))

    assert shown == struct.pack("!i", (date(1936, 1, 1) - date(2000, 1, 1)).days)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"90210", b"902"),
        (b"90210-1234", b"902"),
        (b"902101234", b"902"),
        (b"2139", b"021"),  # lost its zero
        (b"21391234", b"021"),
        (b"03601", b"000"),
        (b"3601", b"000"),
        (b"20201", b"000"),
        (b"36901", b"000"),
        (b"K1A 0B1", b"[REDACTED]"),
        (b"", b"[REDACTED]"),
        ("９０２１０".encode(), b"[REDACTED]"),  # noqa: RUF001 - full width
    ],
)
def test_zip3(value: bytes, shown: bytes) -> None:
    assert mask_of("zip3")(value) == shown


@pytest.mark.parametrize("prefix", sorted(RESTRICTED))
def test_zip3_never_shows_a_restricted_prefix(prefix: str) -> None:
    assert mask_of("zip3")(f"{prefix}01".encode()) == b"000"
    assert mask_of("zip3", INT4)(str(int(f"{prefix}01")).encode()) == b"0"


def test_zip3_of_an_integer_column_is_an_integer() -> None:
    assert mask_of("zip3", INT4)(b"2139") == b"21"
    assert mask_of("zip3", INT4, binary=True)((90210).to_bytes(4, "big")) == (902).to_bytes(4, "big")


def test_unknown_technique_masks_whole() -> None:
    assert mask_of("from-the-future")(b"123-45-6789") == b"[REDACTED]"


@pytest.mark.parametrize("name", ["STRING", "string", "INT64", "DATE", "GEOGRAPHY"])
def test_types_by_name(name: str) -> None:
    family = target_for(type_oid=25, binary=False, type_name=name).family

    assert family == {"STRING": Family.TEXT, "INT64": Family.INTEGER, "DATE": Family.DATE}.get(
        name.upper(), Family.UNKNOWN
    )
