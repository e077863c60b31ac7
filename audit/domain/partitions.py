"""Sealed texts and the index of subjects lie in partitions by place in the log, so that a purge empties whole ones.

Deleting millions of rows writes each of them once more, and leaves their pages to a vacuum; emptying a partition
unlinks a file. What is in a partition that is over (the log has gone past it) therefore waits for the last of it to be
due, but no longer than `WAIT`. Partitions hold about a month of entries and are made ahead; what finds none goes into a
default partition, so that no append ever fails for want of one. Names in the SQL below are our tables' own.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction

from audit.domain.exclusive import alone
from audit.domain.head import stated_size
from audit.domain.places import place_about
from audit.models import LogEntry

logger = logging.getLogger(__name__)

SEALED, SIGHTINGS = "audit_sealedtext", "audit_subjectsighting"
TABLES = (SEALED, SIGHTINGS)
WAIT = timedelta(days=31)
SPAN = timedelta(days=30)  # of entries in one partition, by how many there were lately
FEW = 10  # a tenth of a partition may be written once more to empty the rest at once
LEAST, MOST, STEP = 100_000, 20_000_000, 10_000
_BOUND = re.compile(r"FROM \((?:MINVALUE|'?(\d+)'?)\) TO \('?(\d+)'?\)")
_LOCK = 0x686F6F70_726F6F6D
AGAIN_S = 900.0  # after one could not be made: whoever reads for long, as a dump does, has appends wait for each try
_PATIENCE = "SET LOCAL lock_timeout = '2s'"  # nobody who appends may wait behind us


@dataclass(frozen=True, slots=True)
class Partition:
    """The rows of entries `low` up to, not including, `high`."""

    table: str
    low: int
    high: int


def partitions(parent: str) -> list[Partition]:
    """Those of a table that have bounds, oldest first."""
    found = [(name, _BOUND.search(bound)) for name, bound in partition_bounds(parent)]
    parts = [Partition(name, int(bound[1] or 0), int(bound[2])) for name, bound in found if bound is not None]
    return sorted(parts, key=lambda part: part.low)


def partition_bounds(parent: str) -> list[tuple[str, str]]:
    """Names of a table's partitions and their bounds, as PostgreSQL spells them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits"
            " JOIN pg_class AS c ON c.oid = inhrelid WHERE inhparent = %s::regclass",
            [parent],
        )
        return list(cursor.fetchall())


class _Refused:
    """When this process last could not make a partition, by a clock that nobody sets."""

    at_s = float("-inf")


def extend_partitions() -> int:
    """Make what the next weeks need. Returns how many were made; one that cannot be made now is made another time.

    Asked for every few seconds: a log that grows fast goes past what was made ahead in less than a minute, and what
    finds no partition makes the next one dear, because the default one is read whole for it while nobody appends.
    """
    if time.monotonic() - _Refused.at_s < AGAIN_S:
        return 0
    with alone(_LOCK) as mine:
        return sum(_extend(table) for table in TABLES) if mine else 0


def _extend(parent: str) -> int:
    size, width = stated_size(), _width()
    high = max((part.high for part in partitions(parent)), default=0)
    if high > size + width:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT coalesce(max(seq), 0) FROM {parent}_rest")  # noqa: S608
        (strayed,) = cursor.fetchone()
    # Where rows had to go into the default partition, the next one begins well behind them.
    low = high if strayed < high else size + LEAST
    made = attach_partition(parent, f"{parent}_p{low}", f"FROM ({low}) TO ({low + 2 * width})")
    if not made:
        _Refused.at_s = time.monotonic()
    return int(made)


def attach_partition(parent: str, table: str, bounds: str) -> bool:
    """Make one more partition. Says whether it did: nobody who appends waits for it."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_PATIENCE)
            cursor.execute(f"CREATE TABLE {table} (LIKE {parent} INCLUDING ALL)")
            cursor.execute(f"ALTER TABLE {parent} ATTACH PARTITION {table} FOR VALUES {bounds}")
    except OperationalError:
        logger.warning("partition not made now: table=%s", table)
        return False
    return True


def _width() -> int:
    """How many entries a span of time had lately, within bounds."""
    entries = stated_size() - place_about(datetime.now(UTC) - SPAN)
    return min(MOST, max(LEAST, -(-entries // STEP) * STEP))


def purge_place(up_to: int, *, until: datetime) -> int:
    """How far a purge goes that could go to `up_to`: not into a partition that is soon due as a whole."""
    size = stated_size()
    for part in partitions(SEALED):
        if part.low <= up_to < part.high - 1 and part.high <= size:
            first = LogEntry.objects.filter(seq__gte=part.low).order_by("seq").values_list("at", flat=True).first()
            if first is not None and first >= until - WAIT:
                return max(0, part.low - 1)
    return up_to


def empty_partition(part: Partition, *, stays: str, values: Sequence[Any]) -> bool:
    """Empty it unless one of its rows (`t`) `stays`. Says whether it did; a reader who is slow makes it a no."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_PATIENCE)
            cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {part.table} AS t WHERE {stays})", values)  # noqa: S608
            if cursor.fetchone()[0]:
                return False
            cursor.execute(f"TRUNCATE TABLE ONLY {part.table}")
    except OperationalError:
        logger.warning("partition not emptied now: table=%s", part.table)
        return False
    return True


def empty_but_for(table: str, *, kept: str, values: Sequence[Any]) -> bool:
    """Empty a partition but for rows (`t`) that are `kept`, if these are few: they are written once more.

    Says whether it did; a reader who is slow makes it a no.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_PATIENCE)
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            cursor.execute(f"SELECT count(*), count(*) FILTER (WHERE {kept}) FROM {table} AS t", values)  # noqa: S608
            every, staying = cursor.fetchone()
            if not every or staying * FEW > every:
                return False
            copied = f"SELECT t.* FROM {table} AS t WHERE {kept}"  # noqa: S608
            cursor.execute(f"CREATE TEMP TABLE staying ON COMMIT DROP AS {copied}", values)
            cursor.execute(f"TRUNCATE TABLE ONLY {table}")
            cursor.execute(f"INSERT INTO {table} SELECT * FROM staying")  # noqa: S608
            cursor.execute("DROP TABLE staying")
    except OperationalError:
        logger.warning("partition not emptied now: table=%s", table)
        return False
    return True


def drop_empty(parent: str) -> None:
    """Drop partitions the log has left behind that hold nothing. One that is in use is dropped another time."""
    size = stated_size()
    for part in partitions(parent):
        if part.high <= size:
            drop_if_empty(part.table)


def drop_if_empty(table: str) -> None:
    """Drop a partition that holds nothing, unless it is in use."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_PATIENCE)
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {table})")  # noqa: S608
            if not cursor.fetchone()[0]:
                cursor.execute(f"DROP TABLE {table}")
    except OperationalError:
        logger.warning("partition not dropped now: table=%s", table)
