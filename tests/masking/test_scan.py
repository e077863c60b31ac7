from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking.detectors.document import mask_json
from masking.detectors.scan import compile_scan
from masking.engines.types import MaskValue, target_for

TEXT, JSON = 25, 114  # OIDs
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["Maria Garcia", "123-45-6789", "call 555-123-4567", 'a "quoted" John Smith', "back\\slash"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def scan(type_oid: int, *, binary: bool = False) -> MaskValue:
    mask = compile_scan(target_for(type_oid=type_oid, binary=binary))
    assert mask is not None
    return mask


def test_untouched_value_is_the_same_object() -> None:
    value = b"no acute distress"

    assert scan(TEXT)(value) is value
    assert scan(TEXT)(None) is None


def test_text_that_is_not_utf8_is_not_shown() -> None:
    assert scan(TEXT)(b"Jos\xe9 123-45-6789") == b"[REDACTED]"


def test_what_is_found_is_masked_where_it_stands() -> None:
    assert scan(TEXT)(b"SSN 123-45-6789, stable") == b"SSN [SSN], stable"


def test_json_key_is_a_cue_for_its_value() -> None:
    masked = json.loads(mask_json('{"mrn": "12345", "dose": "12345", "patient_name": "Zbigniew Oyelaran"}'))

    assert masked == {"mrn": "[MRN]", "dose": "12345", "patient_name": "[NAME]"}


def test_json_numbers_are_masked_into_strings() -> None:
    assert json.loads(mask_json('{"ssn": 123456789, "age": 54, "value": 7.25}')) == {
        "ssn": "[SSN]",
        "age": 54,
        "value": 7.25,
    }


def test_json_keys_and_escapes_are_read() -> None:
    masked = json.loads(mask_json(r'{"Maria Garcia": "Mar\u0069a Garc\u0069a said \"hi\""}'))

    assert masked == {"[NAME]": '[NAME] said "hi"'}


@given(document=JSON_VALUES)
def test_masked_json_is_valid_json_of_the_same_shape(document: object) -> None:
    masked = json.loads(mask_json(json.dumps(document)))

    assert type(masked) is type(document) or isinstance(masked, str)
    assert "123-45-6789" not in json.dumps(masked)
    assert "Garcia" not in json.dumps(masked)


def test_jsonb_binary_keeps_its_version_byte() -> None:
    assert scan(3802, binary=True)(b'\x01{"ssn": "123-45-6789"}') == b'\x01{"ssn": "[SSN]"}'
    assert scan(3802, binary=True)(b'\x01{"a": 1}') == b'\x01{"a": 1}'
    assert scan(3802, binary=True)(b'\x02{"a": 1}') is None


def test_json_that_is_not_utf8_is_null() -> None:
    assert scan(JSON)(b'"\xff"') is None


@pytest.mark.parametrize("value", [b"{Maria Garcia}", b'(7,"SSN 123-45-6789")'])
def test_unknown_type_with_a_finding_is_null(value: bytes) -> None:
    assert scan(99_999)(value) is None


def test_unknown_type_without_a_finding_passes() -> None:
    assert scan(99_999)(b"happy") == b"happy"


def test_bytea_is_read_through_its_hexadecimal_form() -> None:
    assert scan(17)(b"\\x" + b"SSN 123-45-6789".hex().encode()) is None
    assert scan(17)(b"\\x00ff00") == b"\\x00ff00"
    assert scan(17, binary=True)(b"SSN 123-45-6789") is None
