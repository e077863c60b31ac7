"""Settings that a client may change and that change what a statement says: how literals are read and texts written.

`'02/03/2020'::date` is two days, `now()::date` is two dates, `interval '-1 2:03'` two spans (PostgreSQL manual, 19.11.2
and 8.5), and `price::text = '0.3'` is true or not by `extra_float_digits`. An approval is good only for the values it
was given under.
"""

from __future__ import annotations

from collections.abc import Sequence

MEANINGFUL = (
    *("DateStyle", "IntervalStyle", "TimeZone", "lc_monetary", "lc_numeric", "lc_time", "xmloption"),
    *("bytea_output", "extra_float_digits", "xmlbinary"),
)


def settings_text(values: Sequence[str]) -> str:
    """The values of MEANINGFUL, in its order, as one line that people can read."""
    return "; ".join(f"{name} {value}" for name, value in zip(MEANINGFUL, values, strict=True))
