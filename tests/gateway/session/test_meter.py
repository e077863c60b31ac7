"""What a data-plane process counts: tallies of remembered statements come to the same as counting each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.session.meter import BUCKETS, Figures, Meter
from gateway.session.permit import Outcome

SESSION = cast("Any", SimpleNamespace(connection=SimpleNamespace(name="clinic"), protocol="postgres"))


@pytest.mark.parametrize("seconds", [0.0, *BUCKETS, BUCKETS[0] * 1.01, BUCKETS[-1] + 1])
def test_a_tally_comes_to_what_counting_each_comes_to(seconds: float) -> None:
    each, tallied = Meter(), Meter()
    for _ in range(3):
        each.completed(SESSION, Outcome("completed", rows=2, bytes=30), seconds, remembered=True)
        tallied.tally(SESSION).ended(2, 30, seconds)

    assert Figures.of(tallied) == Figures.of(each)


def test_what_was_added_up_is_not_added_again_and_counting_goes_on() -> None:
    meter = Meter()
    tally = meter.tally(SESSION)
    for _ in range(2):
        tally.ended(1, 10, 0.001)
        meter.settle()
        meter.settle()

    assert meter.tally(SESSION) is tally
    assert (meter.statements["clinic", "postgres", "completed"], meter.rows["clinic"], meter.bytes["clinic"]) == (
        2,
        2,
        20,
    )


def test_who_counted_nothing_is_not_shown() -> None:
    meter = Meter()
    meter.tally(SESSION)

    assert Figures.of(meter) == Figures.of(Meter())
