"""How much of the time the log may take to follow the journals, so that sessions are served first.

Entries in the journal are safe and nobody waits for them, but taking them in and serving statements want the same
cores. While sessions are busy it gets a tenth of the time, and when the burst is over a quarter and then all. A backlog
that grows on all the same gets half, and then all.
"""

from __future__ import annotations

# The journal grows by more entries a second than this: a burst.
BUSY_PER_S = 1_000
# Entries behind from which a burst gets less room: half of the time from the first on, none from the second.
SMOOTH_BEHIND, ALL_BEHIND = 100_000, 150_000
# Pauses, in times of what the last batch took.
BUSY_PAUSE, HALF_PAUSE, CALM_PAUSE = 9.0, 1.0, 3.0


class Pace:
    """Told what the journal has come to and when; keeps no clock of its own."""

    def __init__(self) -> None:
        self._grown = 0
        self._at_s = 0.0
        self._was_busy = self._busy = False

    def look(self, grown: int, at_s: float) -> bool:
        """Whether sessions are busy: `grown` entries were ever journaled until the moment `at_s`."""
        elapsed_s = at_s - self._at_s
        self._was_busy, self._busy = self._busy, grown - self._grown > BUSY_PER_S * elapsed_s
        self._grown, self._at_s = grown, at_s
        return self._busy

    def pause(self, behind: int) -> float:
        """How long to leave the machine to the sessions, in times of what the last batch took."""
        if behind >= ALL_BEHIND:
            return 0.0
        if behind >= SMOOTH_BEHIND:
            return HALF_PAUSE
        if self._busy:
            return BUSY_PAUSE
        return CALM_PAUSE if self._was_busy else 0.0
