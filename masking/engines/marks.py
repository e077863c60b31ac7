"""Tell a masked value when it comes back: an agent that writes `[REDACTED]` over a row destroys what was there.

Only marks that no real value looks like: a year or three digits of a ZIP code cannot be told from data, and neither can
a number's token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FINDINGS = (
    "SSN|NAME|LOCATION|DATE|AGE|PHONE|FAX|EMAIL|URL|IP|MAC|MRN|MBI|HEALTH_PLAN|ACCOUNT|IBAN|CARD|LICENCE|VEHICLE|VIN"
    "|DEVICE|ID"
)
_MARKS = rf"\[(?:REDACTED|{_FINDINGS})\]|(?<![a-z0-9])tok_[a-z2-7]{{26}}(?![a-z0-9])"
_FINDING = re.compile(rf"\[({_FINDINGS})\]")
_IN_TEXT = re.compile(rf"{_MARKS}|'\*\*\*\*[^'*]{{0,16}}'|\"\*\*\*\*[^\"*]{{0,16}}\"")
_IN_VALUE = re.compile(rf"{_MARKS}|\A\*\*\*\*[^*]{{0,16}}\Z".encode())


def classes_marked(text: str) -> list[str]:
    """Return the classes whose marks the detectors left in a text, in order: `[NAME] called` → `["name"]`."""
    return [found.lower() for found in _FINDING.findall(text)]


def carries_mask(text: str, parameters: Iterable[bytes | None] = ()) -> bool:
    """Whether a statement's text, or one of its parameters, holds what a mask of ours left in place of a value."""
    return _IN_TEXT.search(text) is not None or any(
        value is not None and (_IN_VALUE.search(value) is not None or _in_document(value)) for value in parameters
    )


def _in_document(value: bytes) -> bool:
    """A parameter that is a document holds its values as strings."""
    return value[:1] in (b"[", b"{") and _IN_TEXT.search(value.decode("utf-8", "replace")) is not None
