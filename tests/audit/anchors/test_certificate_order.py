"""Putting a time stamp's certificates in DER's order changes nothing else, whatever the bytes are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.anchors.certificate_order import in_order
from audit.anchors.timestamp import timestamp_query
from tests.audit.anchors.authorities import TimestampAuthority


@pytest.fixture(scope="module")
def reply(tmp_path_factory) -> bytes:
    authority = TimestampAuthority(tmp_path_factory.mktemp("replies") / "tsa", chain=True)
    return authority.answer(timestamp_query("a note"))[2]


def test_certificates_change_places_and_nothing_else(reply):
    ordered = in_order(reply)

    assert ordered != reply
    assert (len(ordered), sorted(ordered)) == (len(reply), sorted(reply))
    assert in_order(ordered) == ordered


@given(st.binary(max_size=64), st.integers(0, 4096), st.integers(0, 255))
def test_any_bytes_keep_their_bytes(reply, more, at, byte):
    changed = bytearray(reply)
    changed[at % len(changed)] = byte

    for data in (bytes(changed), bytes(changed) + more, bytes(changed)[:at], more):
        assert sorted(in_order(data)) == sorted(data)
        assert in_order(in_order(data)) == in_order(data)
