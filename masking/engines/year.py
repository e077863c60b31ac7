"""Technique `year`: dates become 1 January of their year, ages over 89 become 90 (45 CFR 164.514(b)(2)(i)(C)).

A year that tells an age over 89 is itself an identifier, so no year before `this_year - 90` is ever shown: earlier
ones (BC included) become that year. A time with an offset shows its year in UTC, at +00, in text as in binary: the
offset tells summer from winter, and with a `TimeZone` of the asker's own (`AAA0BBB-1,J1,J182`) any day from any other.

Infinities and whatever is not understood turn into NULL, or the redaction constant in a text column. Dates in text form
are read as ISO 8601 (`DateStyle = ISO`); with another style a date column is NULL.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from masking.engines.hash import integer_of
from masking.engines.redact import compile_redact
from masking.engines.types import OLDEST_SHOWN_AGE, REDACTED, Family, MaskOptions, MaskValue, Target, text_of

_DASH = 0x2D
_EPOCH = date(2000, 1, 1)
_EPOCH_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ISO = re.compile(
    rb"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    rb"(?P<time>[ T](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d+)?)?)?"
    rb"(?P<zone>Z| ?UTC|(?P<sign>[+-])(?P<hours>\d{2,3})(?::?(?P<minutes>\d\d)(?::?(?P<seconds>\d\d))?)?)?(?P<bc> BC)?"
)
_PARTS = ("year", "month", "day", "hour", "minute", "second")
_US = re.compile(rb"\d{1,2}[/.-]\d{1,2}[/.-](?P<year>\d{4})")
_COMPACT = re.compile(rb"(?P<year>(?:18|19|20|21)\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")


def compile_year(target: Target, options: MaskOptions) -> MaskValue:
    floor = options.oldest_shown_year
    if target.family in (Family.DATE, Family.TIMESTAMP):
        return _binary_year(target, floor) if target.binary else _text_form_year(floor)
    if target.family is Family.INTEGER:
        return _integer_year(target, floor)
    if target.family is Family.TEXT:
        return _free_text_year(target, floor)
    return compile_redact(target, options)


def generalise_number(number: int, floor: int) -> int | None:
    """An age or a year as shown; None when the number is neither."""
    if 0 <= number < OLDEST_SHOWN_AGE:
        return number
    if number <= 150:
        return OLDEST_SHOWN_AGE if number > 0 else None
    if 1800 <= number <= 2200:
        return max(number, floor)
    return None


def _binary_year(target: Target, floor: int) -> MaskValue:
    is_date = target.family is Family.DATE

    def mask(value: bytes | None) -> bytes | None:
        if value is None or len(value) != target.width:
            return None
        year = _year_of_days(value) if is_date else _year_of_microseconds(value)
        if year is None:
            return None
        shown = max(year, floor)
        if is_date:
            return struct.pack("!i", (date(shown, 1, 1) - _EPOCH).days)
        return struct.pack("!q", (datetime(shown, 1, 1, tzinfo=UTC) - _EPOCH_TIME) // _MICROSECOND)

    return mask


def _year_of_days(value: bytes) -> int | None:
    (days,) = struct.unpack("!i", value)
    if days in (2**31 - 1, -(2**31)):
        return None  # infinity, -infinity
    try:
        return (_EPOCH + timedelta(days=days)).year
    except OverflowError:
        return 0 if days < 0 else None  # BC, or past 9999


def _year_of_microseconds(value: bytes) -> int | None:
    (micros,) = struct.unpack("!q", value)
    if micros in (2**63 - 1, -(2**63)):
        return None
    try:
        return (_EPOCH_TIME + timedelta(microseconds=micros)).year
    except OverflowError:
        return 0 if micros < 0 else None


def _text_form_year(floor: int) -> MaskValue:
    plain_year = _plain_years(floor)

    def mask(value: bytes | None) -> bytes | None:
        return None if value is None else plain_year(value) or _iso_year(value, floor)

    return mask


def _plain_years(floor: int) -> Callable[[bytes], bytes | None]:
    """`_iso_year` of a date without a time, each year once; None for anything else."""
    known: dict[bytes, bytes] = {}

    def shown(value: bytes) -> bytes | None:
        if len(value) != 10 or value[4] != _DASH or value[7] != _DASH:
            return None
        year = value[:4]
        if not (year + value[5:7] + value[8:]).isdigit():
            return None
        try:
            return known[year]
        except KeyError:
            return known.setdefault(year, b"%04d-01-01" % max(int(year), floor))

    return shown


def _iso_year(value: bytes, floor: int) -> bytes | None:
    match = _ISO.fullmatch(value)
    if match is None:
        return None
    year = 0 if match["bc"] else _year_in_utc(match) if match["sign"] else int(match["year"])
    if year is None:
        return None
    time = b"" if match["time"] is None else match["time"][:1] + b"00:00:00"
    zone = b"+00" if match["sign"] else match["zone"] or b""
    return b"%04d-01-01" % max(year, floor) + time + zone


def _year_in_utc(match: re.Match[bytes]) -> int | None:
    """Of a moment with an offset; 0 before the year 1, None past 9999 and where there is no such moment."""
    offset = timedelta(
        hours=int(match["hours"]), minutes=int(match["minutes"] or 0), seconds=int(match["seconds"] or 0)
    )
    year, month, day, hour, minute, second = (int(match[part] or 0) for part in _PARTS)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    try:
        return (moment + offset if match["sign"] == b"-" else moment - offset).year
    except OverflowError:
        return 0 if match["sign"] == b"+" else None


def _integer_year(target: Target, floor: int) -> MaskValue:
    def mask(value: bytes | None) -> bytes | None:
        number = integer_of(value, target)
        shown = None if number is None else generalise_number(number, floor)
        if shown is None:
            return None
        return shown.to_bytes(target.width, "big") if target.binary else str(shown).encode()

    return mask


def _free_text_year(target: Target, floor: int) -> MaskValue:
    plain_year = _plain_years(floor)

    def mask(value: bytes | None) -> bytes | None:
        if value is None:
            return None
        plain = plain_year(value)
        if plain is not None:
            return plain
        text = text_of(value, target)
        return REDACTED if text is None else _shown_text(text.strip().encode("utf-8"), floor)

    return mask


def _shown_text(value: bytes, floor: int) -> bytes:
    if value.isdigit() and len(value) <= 4:
        shown = generalise_number(int(value), floor)
        return REDACTED if shown is None else str(shown).encode()
    iso = _iso_year(value, floor)
    if iso is not None:
        return iso
    match = _US.fullmatch(value) or _COMPACT.fullmatch(value)
    return REDACTED if match is None else b"%04d" % max(int(match["year"]), floor)
