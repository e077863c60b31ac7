"""Technique `partial`: the last `keep` characters, never more than half of the value, behind a fixed run of stars.

The run has the same length for every value, so that the length of what is hidden is hidden too. Types other than text
have no "last characters" that stay valid: they are redacted.
"""

from __future__ import annotations

from masking.engines.redact import compile_redact
from masking.engines.types import REDACTED, Family, MaskOptions, MaskValue, Target, text_of

_STARS = b"****"


def compile_partial(target: Target, options: MaskOptions) -> MaskValue:
    """Keep the last `options.keep` characters, and never more than half of them; other types than text are redacted."""
    if target.family is not Family.TEXT:
        return compile_redact(target, options)
    keep, plain = max(options.keep, 0), not target.blank_padded

    def partial(value: bytes | None) -> bytes | None:
        if value is None:
            return None
        if plain and value.isascii():  # a character is a byte
            return _STARS + value[len(value) - min(keep, len(value) // 2) :]
        text = text_of(value, target)
        if text is None:
            return REDACTED
        kept = min(keep, len(text) // 2)
        return _STARS + text[len(text) - kept :].encode("utf-8")

    return partial
