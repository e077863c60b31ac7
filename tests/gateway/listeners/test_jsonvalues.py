"""Values as JSON for the relay: what JSON cannot say stays text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.listeners.jsonvalues import json_value

JSON, JSONB = 114, 3802


@pytest.mark.parametrize("oid", [JSON, JSONB])
@pytest.mark.parametrize(
    ("text", "value"), [('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}), ("1e3", 1000.0), ('"x"', "x")]
)
def test_documents_are_json(oid: int, text: str, value: Any) -> None:
    assert json_value(text, oid) == value


@pytest.mark.parametrize(
    "text",
    ["1e400", '{"a": -1e999}', "1" + "0" * 5000, "[" * 5000 + "]" * 5000],
    ids=["float", "nested", "digits", "depth"],
)
def test_documents_that_json_readers_cannot_hold_stay_text(text: str) -> None:
    assert json.loads(json.dumps(json_value(text, JSON), allow_nan=False)) == text


def test_what_is_no_document_is_a_mask_or_an_error() -> None:
    assert json_value("[REDACTED]", JSON, masked=True) == "[REDACTED]"
    with pytest.raises(ValueError, match="Expecting"):
        json_value("[REDACTED]", JSON)
