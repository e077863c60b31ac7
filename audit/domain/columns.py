"""What a leaf says, as the columns people browse take it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def text_column(value: object, length: int) -> str:
    """Cut to fit, and without the NUL PostgreSQL refuses."""
    text = str(value or "")
    return (text if text.isascii() else text.encode("utf-8", "replace").decode()).replace("\x00", "")[:length]


def json_column(value: Any) -> str:
    """JSON as jsonb takes it: without NULs and lone surrogates. The leaf keeps them, the record shows them removed."""
    document = json.dumps(value)
    if "\\u0000" in document or "\\ud" in document:  # rare; walking every value would cost a third of an append
        document = json.dumps(_clean(value))
    return document


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return text_column(value, len(value))
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
