"""Settings that a client may change and that change what a statement says: how its literals are read.

`'02/03/2020'::date` is two days, `now()::date` is two dates, `interval '-1 2:03'` two spans (PostgreSQL manual, 19.11.2
and 8.5). An approval is good only for the values it was given under.
"""

from __future__ import annotations

from collections.abc import Sequence

MEANINGFUL = ("DateStyle", "IntervalStyle", "TimeZone", "lc_monetary", "lc_numeric", "lc_time", "xmloption")


def settings_text(values: Sequence[str]) -> str:
    """The values of MEANINGFUL, in its order, as one line that people can read."""
    return "; ".join(f"{name} {value}" for name, value in zip(MEANINGFUL, values, strict=True))
