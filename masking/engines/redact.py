"""Technique `redact`: a constant valid for the type; NULL where no value of the type could be told from a real one.

A number, a date or a Boolean has no value that says "hidden" (0 and 1900-01-01 are read as facts), so those are NULL.
"""

from __future__ import annotations

from masking.engines.null import to_null
from masking.engines.types import REDACTED, ConstantMask, Family, MaskOptions, MaskValue, Target

_JSON_REDACTED = b'"' + REDACTED + b'"'


def constant_for(target: Target) -> bytes | None:
    """Return the one value every masked value of this encoding turns into; None is NULL."""
    if target.family is Family.TEXT:
        return REDACTED
    if target.family is Family.JSON:
        return _JSON_REDACTED
    if target.family is Family.JSONB:
        return b"\x01" + _JSON_REDACTED if target.binary else _JSON_REDACTED
    return None


def compile_redact(target: Target, options: MaskOptions) -> MaskValue:
    constant = constant_for(target)
    return to_null if constant is None else ConstantMask(constant, keeps_null=True)
