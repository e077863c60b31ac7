"""Canonical form: the sorting example of RFC 8785 §3.2.3, and what an entry may not hold."""

from __future__ import annotations

import json

import pytest

from audit.domain.canonical import EntryRefused, canonical, draft
from audit.domain.entry import Entry


def test_members_sort_by_utf16_code_units_as_in_the_rfc():
    names = ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]

    assert list(json.loads(canonical(dict.fromkeys(reversed(names), "")))) == names


def test_text_is_escaped_as_in_the_rfc():
    text = '€$\u000f\nA\'B"\\\\"/'

    assert canonical(text) == b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'


@pytest.mark.parametrize("value", [1.5, 2**53, -(2**53), b"bytes", {"deep": [{"a": 0.0}]}])
def test_what_serialisers_disagree_on_is_refused(value):
    with pytest.raises(EntryRefused):
        canonical({"x": value})


def test_lone_surrogates_cannot_make_an_attempt_unrecordable():
    assert canonical("a\ud800b") == b'"a?b"'


def test_a_placed_draft_is_itself_canonical():
    entry = Entry(kind="session.opened", body={"z": 1, "ä": [True, None]}, session_id="s", at_us=5)

    placed = draft(entry, gateway="g", commitment=b"\x01").at(seq=9, prev=b"\xab" * 32)

    assert placed == canonical(json.loads(placed))
    assert json.loads(placed)["prev"] == "ab" * 32
    assert json.loads(placed)["seq"] == 9
