"""Bulk statements of the log, sent as PostgreSQL takes them best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from django.db import connection

from audit.domain.copy_rows import document

# From so many entries on, one COPY a table is cheaper than one prepared INSERT, which needs fewer round trips.
BULK = 64


def send(query: str, columns: Sequence[object], *, prepare: bool = True) -> None:
    """Run `query` in the transaction under way, its values sent apart from it and bytes as they are.

    Django's own cursors write values into the text of a query: every byte of an entry would be spelled in hexadecimal,
    and the query planned anew every time.
    """
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(query, columns, prepare=prepare)


@contextmanager
def one_round_trip() -> Iterator[None]:
    """What is sent within is answered at the end, where its errors are raised. Not for COPY."""
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


def copy(table: str, columns: str, rows: Iterable[bytes]) -> None:
    """Put rows made with `copy_rows` into `table`, in the transaction under way."""
    query = f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)"
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor, cursor.copy(query) as door:
        door.write(document(rows))


def known_ids(table: str, ids: Sequence[str]) -> frozenset[str]:
    """Which of these ids `table` has."""
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(f"SELECT id FROM {table} WHERE id = ANY(%s)", [list(ids)])  # noqa: S608
        return frozenset(row[0] for row in cursor.fetchall())
