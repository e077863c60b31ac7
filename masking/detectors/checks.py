"""Check digits of published identifiers. A valid one raises confidence; an invalid one never clears a finding."""

from __future__ import annotations

import re

_VIN_VALUES = {**{str(d): d for d in range(10)}, **dict(zip("ABCDEFGH", range(1, 9), strict=True))}
_VIN_VALUES |= {**dict(zip("JKLMN", range(1, 6), strict=True)), "P": 7, "R": 9}
_VIN_VALUES |= dict(zip("STUVWXYZ", range(2, 10), strict=True))
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_MBI = re.compile(
    r"[1-9][AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y]\d[AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y]\d[AC-HJKMNP-RT-Y]{2}\d\d"
)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = int(char) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    return 13 <= len(digits) <= 19 and luhn(digits)


def is_iban(value: str) -> bool:
    """ISO 13616: the rearranged number is 1 modulo 97."""
    compact = re.sub(r"\s", "", value).upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", compact):
        return False
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def is_npi(value: str) -> bool:
    """45 CFR 162.406: Luhn over the prefix 80840 and the ten digits."""
    return bool(re.fullmatch(r"[12]\d{9}", value)) and luhn("80840" + value)


def is_dea(value: str) -> bool:
    """DEA registration numbers: two letters and seven digits, the last a weighted sum of the others."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z9]\d{7}", value):
        return False
    digits = [int(char) for char in value[2:]]
    return (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]


def is_vin(value: str) -> bool:
    """49 CFR 565.15: the ninth character is a weighted sum modulo 11."""
    upper = value.upper()
    if len(upper) != 17 or any(char not in _VIN_VALUES for char in upper):
        return False
    total = sum(_VIN_VALUES[char] * weight for char, weight in zip(upper, _VIN_WEIGHTS, strict=True))
    return upper[8] == ("X" if total % 11 == 10 else str(total % 11))


def is_mbi(value: str) -> bool:
    """CMS: eleven characters C-A-AN-N-A-AN-N-A-A-N-N without S, L, O, I, B, Z."""
    return _MBI.fullmatch(value.replace("-", "").upper()) is not None


def is_issued_ssn(value: str) -> bool:
    """SSA: area not 000, 666 or 9xx, group not 00, serial not 0000."""
    digits = re.sub(r"\D", "", value)
    return not re.match(r"000|666|9", digits) and digits[3:5] != "00" and digits[5:] != "0000"
