"""The database's clock, read when it is used: a lock waited for must not lengthen an expiry.

Nor must a clock that was ahead and was set right: what began by it would last for as long as it had been ahead.
"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import DateTimeField, Func, Q

AHEAD = timedelta(minutes=1)  # clocks of hosts differ


class ClockTimestamp(Func):
    """PostgreSQL's clock_timestamp(); `now()` stands still at the transaction's start."""

    function = "clock_timestamp"
    output_field = DateTimeField()


def begun(field: str) -> Q:
    """The moment in `field` is not of the future."""
    return Q(**{f"{field}__lte": ClockTimestamp() + AHEAD})
