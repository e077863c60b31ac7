"""Detection inside JSON: strings and long numbers are masked in place, so that the document stays valid JSON.

Each value is read together with its key (`"mrn": "12345"` is a record number only because of its key). Keys are read
too: a document may be keyed by a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from masking.detectors.column_names import speaks_of_people_or_places
from masking.detectors.text import Span, apply, detect

# A string with its escapes, or a number; strings must be matched first so that digits inside are not numbers.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*')
_KEY_FOLLOWS = re.compile(r"\s*:")
_SHORTEST_TELLING_NUMBER = 5


def mask_json(text: str, find: Callable[[str], list[Span]] = detect) -> str:
    """Return the document with what `find` finds replaced; the same object when there was nothing.

    Below a key that speaks of people or places ("patient_name") every detector is used.
    """
    pieces: list[str] = []
    key = ""
    kept_to = 0
    for token in _TOKEN.finditer(text):
        is_key = _KEY_FOLLOWS.match(text, token.end()) is not None and token[0].startswith('"')
        replacement = _masked_token(token[0], "" if is_key else key, find)
        if is_key:
            key = _string(token[0]) or ""
        if replacement is not None:
            pieces += (text[kept_to : token.start()], replacement)
            kept_to = token.end()
    return text if not pieces else "".join(pieces) + text[kept_to:]


def _masked_token(token: str, key: str, find: Callable[[str], list[Span]]) -> str | None:
    """The JSON string to put in a token's place; None to leave it."""
    value = _string(token) if token.startswith('"') else token
    if value is None:
        return '"[REDACTED]"'
    if not value or (value is token and len(value) < _SHORTEST_TELLING_NUMBER):
        return None
    prefix = f"{_spaced(key)}: " if key else ""
    if key and speaks_of_people_or_places(key):
        find = detect
    spans = [_shifted(span, len(prefix)) for span in find(prefix + value) if span.end > len(prefix)]
    return json.dumps(apply(value, spans), ensure_ascii=False) if spans else None


def _shifted(span: Span, by: int) -> Span:
    return Span(start=max(span.start - by, 0), end=span.end - by, cls=span.cls, score=span.score)


def _string(token: str) -> str | None:
    try:
        value = json.loads(token)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _spaced(key: str) -> str:
    """`patientName`, `patient_name` → `patient Name`, `patient name`: keys are cues only as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-.]+", " ", key)
