"""Bulk statements of the log, sent as PostgreSQL takes them best."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from django.db import connection


def send(query: str, columns: Sequence[object]) -> None:
    """Run `query` in the transaction under way, its values sent apart from it and bytes as they are.

    Django's own cursors write values into the text of a query: every byte of an entry would be spelled in hexadecimal.
    """
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(query, columns, prepare=True)
