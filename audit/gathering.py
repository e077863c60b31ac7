"""How long a sync waits for others to share it: for those whom the last one let go on, and hardly longer than it took.

Sessions that wait for the disk over and over fall into step when the first of them waits for the others: one sync
serves all of them, where they would else go in groups, each waiting for the end of another's. A session that is alone
waits for nobody, and whoever is expected in vain is not expected again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.domain._alarm import Alarm

logger = logging.getLogger(__name__)

MOST_S = 0.002  # however slow the disk
_SMOOTHING = 8  # syncs a new one's length is averaged with


class Gathering:
    """Of one `SharedSync`; `over` is called when those who are there have waited long enough for the others."""

    def __init__(self, over: Callable[[], None]) -> None:
        self.most_s = MOST_S
        self._over = over
        self._expected = 0
        self._took_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._alarm: Alarm | None = None

    def learn(self, *, told: int, waiting: int, took_s: float) -> None:
        """A sync of this length has ended: so many were told, and so many have come meanwhile."""
        self._expected = told + waiting
        self._took_s += (took_s - self._took_s) / _SMOOTHING

    def begin(self, waiting: int) -> int:
        """How many are enough: `over` or `stop` ends it. 0: there is nobody to wait for."""
        moment_s = min(self._took_s, self.most_s)
        if waiting >= self._expected or moment_s <= 0 or not self._has_alarm():
            return 0
        assert self._alarm is not None
        self._alarm.set(moment_s)
        return self._expected

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()

    def close(self) -> None:
        alarm, self._alarm, self.most_s = self._alarm, None, 0.0
        if alarm is not None:
            self._loop.remove_reader(alarm.file)
            alarm.close()

    def _has_alarm(self) -> bool:
        if self._alarm is None and _Alarm is not None:
            try:
                self._alarm = _Alarm()
                self._loop.add_reader(self._alarm.file, self._rings)
            except OSError as error:
                self.most_s = 0.0  # as before there was one: nobody waits for anybody
                logger.warning("syncs are shared by who happens to come together: error=%s", type(error).__name__)
        return self._alarm is not None

    def _rings(self) -> None:
        if self._alarm is not None and self._alarm.rang():
            self._over()


_Alarm: type[Alarm] | None = None
with contextlib.suppress(ImportError):  # nobody compiled it: no timer is as short, and nobody waits for anybody
    from audit.domain._alarm import Alarm as _Alarm
