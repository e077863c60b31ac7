"""The database's clock, read when it is used: a lock waited for must not lengthen an expiry."""

from __future__ import annotations

from django.db.models import DateTimeField, Func


class ClockTimestamp(Func):
    """PostgreSQL's clock_timestamp(); `now()` stands still at the transaction's start."""

    function = "clock_timestamp"
    output_field = DateTimeField()
