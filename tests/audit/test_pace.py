"""How much of the time the log takes to follow: counted, with moments the test names."""

from __future__ import annotations

import pytest

from audit.pace import ALL_BEHIND, BUSY_PAUSE, BUSY_PER_S, CALM_PAUSE, HALF_PAUSE, SMOOTH_BEHIND, Pace


def grow(pace: Pace, *per_second: int) -> Pace:
    """As many entries in each second."""
    total = 0
    for at_s, grown in enumerate((0, *per_second)):
        total += grown
        pace.look(total, float(at_s))
    return pace


def test_a_burst_leaves_nine_tenths_of_the_time_to_the_sessions():
    share = 1 / (1 + grow(Pace(), BUSY_PER_S + 1).pause(2_000))

    assert share == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("seconds", "pause"),
    [((0,), 0.0), ((BUSY_PER_S,), 0.0), ((9_000, 0), CALM_PAUSE), ((9_000, 0, 0), 0.0), ((0, 9_000), BUSY_PAUSE)],
)
def test_after_a_burst_the_log_follows_faster_and_then_all_the_time(seconds, pause):
    assert grow(Pace(), *seconds).pause(2_000) == pause


@pytest.mark.parametrize(
    ("behind", "pause"),
    [(SMOOTH_BEHIND - 1, BUSY_PAUSE), (SMOOTH_BEHIND, HALF_PAUSE), (ALL_BEHIND - 1, HALF_PAUSE), (ALL_BEHIND, 0.0)],
)
def test_backlog_that_grows_on_gets_more_and_then_all(behind, pause):
    assert grow(Pace(), 9_000).pause(behind) == pause


def test_growth_is_by_the_second_however_often_it_is_looked_at():
    pace = Pace()

    busy = [pace.look(grown, at_s) for grown, at_s in ((0, 10.0), (100, 10.25), (600, 10.5), (601, 11.5))]

    assert busy == [False, False, True, False]
