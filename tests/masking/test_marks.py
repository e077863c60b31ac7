from __future__ import annotations

import pytest

from masking.detectors.scan import compile_scan
from masking.engines.marks import carries_mask
from masking.engines.registry import compile_mask
from masking.engines.types import MaskOptions, target_for

TEXT = target_for(type_oid=25, binary=False)
JSON = target_for(type_oid=114, binary=False)
OPTIONS = MaskOptions(data_class="ssn", key=b"k" * 32, this_year=2026)
ORIGINALS = ["541-82-6637", "maria.garcia@example.org", "MRN0012345"]


@pytest.mark.parametrize("original", ORIGINALS)
@pytest.mark.parametrize("technique", ["redact", "partial", "hash", "whole"])
def test_masked_text_is_told_in_a_literal_and_in_a_parameter(technique: str, original: str) -> None:
    mask = compile_mask(technique, target=TEXT, options=OPTIONS)
    masked = mask(original.encode())
    assert masked is not None

    assert carries_mask(f"UPDATE patients SET ssn = '{masked.decode()}' WHERE id = 1")
    assert carries_mask("UPDATE patients SET ssn = $1", (b"1", None, masked))
    assert not carries_mask(f"UPDATE patients SET ssn = '{original}'", (original.encode(),))


def test_masked_note_and_document_are_told() -> None:
    scan = compile_scan(TEXT)
    whole = compile_mask("whole", target=JSON, options=OPTIONS)
    assert scan is not None

    assert carries_mask("UPDATE n SET note = $1", (scan(b"Dr. Okonkwo saw her on 03/05/2023 in Tulsa"),))
    assert carries_mask("UPDATE n SET doc = $1", (whole(b"{}"),))


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE t SET a = b[1], c = d[id], e = '[x]'",
        "UPDATE t SET a = '***'",
        "UPDATE t SET a = 2 ** 4 ** 2",
        "/**** header ****/ UPDATE t SET a = 1",
        "UPDATE t SET token = 'tok_short', stars = '*****'",
        "UPDATE t SET note = 'see [1] and [Fig. 2]'",
    ],
)
def test_ordinary_writes_carry_no_mask(text: str) -> None:
    assert not carries_mask(text)
