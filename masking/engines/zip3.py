"""Technique `zip3`: the first three digits of a US ZIP code, 000 for prefixes of small areas.

Reads ZIP, ZIP+4 with or without the dash, and codes that lost leading zeros in a spreadsheet or an integer column
(`2139` is 02139). Anything else (foreign codes) is redacted.
"""

from __future__ import annotations

import re

from masking.engines.hash import integer_of
from masking.engines.redact import compile_redact
from masking.engines.restricted_zip3 import RESTRICTED
from masking.engines.types import REDACTED, Family, MaskOptions, MaskValue, Target, text_of

_ZIP = re.compile(r"(\d{3,5})(?:[- ](\d{4}))?|(\d{8,9})", re.ASCII)

_SHOWN = {prefix.encode(): b"000" for prefix in RESTRICTED}


def compile_zip3(target: Target, options: MaskOptions) -> MaskValue:
    if target.family is Family.TEXT:
        return _text_zip3(target)
    if target.family is Family.INTEGER and target.width >= 4:
        return _integer_zip3(target)
    return compile_redact(target, options)


def shown_prefix(code: str) -> str | None:
    """Return the three digits that may be shown for a ZIP code as written; None when it is not one."""
    match = _ZIP.fullmatch(code)
    if match is None:
        return None
    prefix = match[3].zfill(9)[:3] if match[3] else match[1].zfill(5)[:3]
    return "000" if prefix in RESTRICTED else prefix


def _text_zip3(target: Target) -> MaskValue:
    def mask(value: bytes | None) -> bytes | None:
        if value is None:
            return None
        if len(value) == 5 and value.isdigit():  # most of them, and what the rest of this would make of them
            return _SHOWN.get(value[:3], value[:3])
        text = text_of(value, target)
        shown = None if text is None else shown_prefix(text.strip())
        return REDACTED if shown is None else shown.encode()

    return mask


def _integer_zip3(target: Target) -> MaskValue:
    def mask(value: bytes | None) -> bytes | None:
        number = integer_of(value, target)
        shown = None if number is None or number < 0 else shown_prefix(str(number))
        if shown is None:
            return None
        return int(shown).to_bytes(target.width, "big") if target.binary else str(int(shown)).encode()

    return mask
