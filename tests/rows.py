"""What a question costs, in rows: the same on a busy machine as on an idle one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


def rows_read(*tables: str) -> int:
    """Of these tables in this transaction so far, by scans of them and of their indexes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_xact_user_tables"
            " WHERE relname = ANY(%s)",
            [list(tables)],
        )
        return int(cursor.fetchone()[0])


@contextmanager
def reading(*tables: str, most: int) -> Iterator[None]:
    """Fails where more than so many rows of these tables are read within."""
    before = rows_read(*tables)
    yield
    read = rows_read(*tables) - before
    assert read <= most, f"{read} rows were read of {', '.join(tables)}, expected no more than {most}"
