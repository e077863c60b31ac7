"""What finds a canary: digits that turn up in an identifier by chance are none, and the same digits beside it are."""

from __future__ import annotations

import pytest

from tests.bypass.canary import IDENTIFIERS, PATIENT, found

# Each is an identifier the gateway could make: one of some hundred thousand has a canary's ZIP code in it.
OURS = ["0a949310-7b1c-4d2e-9f3a-5b6c7d8e9f0a", "0a1b2c3d-7b1c-4d2e-9f3a-5b6c794931f0"]


@pytest.mark.parametrize("identifier", OURS)
def test_digits_in_an_identifier_are_no_canary(identifier: str) -> None:
    told = f"denied by rule access; session {identifier}".encode()

    assert found(told) == []
    assert found(told + b" ZIP " + PATIENT["zip"].encode()) == ["zip"]
    assert found(told, ("931",)) == []
    assert found(told + b", 931 rows", ("931",)) == ["part '931'"]


def test_an_identifier_that_is_a_canary_is_found() -> None:
    assert found(str(IDENTIFIERS["device"]).encode()) == ["device"]
