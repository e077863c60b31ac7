"""Bulk statements of the log, sent as PostgreSQL takes them best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection

from audit.domain.copy_rows import document

# From so many entries on, one COPY a table is cheaper than one prepared INSERT, which needs fewer round trips.
BULK = 64


# psycopg keeps the plan of what was asked so often, and of what is to be kept from the first time on: only that.
_NEVER_BY_ITSELF = 1 << 30


def keep_plans() -> None:
    """Let this thread's connection keep the plans of what is sent with `prepare`: Django has it keep none."""
    connection.connection.prepare_threshold = _NEVER_BY_ITSELF


def send(query: str, columns: Sequence[object], *, prepare: bool = True) -> None:
    """Run `query` in the transaction under way, its values sent apart from it and bytes as they are.

    Django's own cursors write values into the text of a query: every byte of an entry would be spelled in hexadecimal,
    and the query planned anew every time.
    """
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(query, columns, prepare=prepare)


def ask(query: str, values: Sequence[object] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
    """`send` of a question; within `one_round_trip` its answer is there when that has ended."""
    with connection.wrap_database_errors:
        cursor: psycopg.Cursor[tuple[Any, ...]] = psycopg.Cursor(connection.connection)
        return cursor.execute(query, values, prepare=True)


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
