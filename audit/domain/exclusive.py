"""One process at a time, by an advisory lock of the control database. The lock ends with its connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, connection


@contextmanager
def alone(key: int) -> Iterator[bool]:
    """Whether this process is the one that does the work named by `key` now; nobody waits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
        (mine,) = cursor.fetchone()
        try:
            yield mine
        finally:
            if mine:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [key])


@contextmanager
def in_turn(key: int) -> Iterator[None]:
    """Wait until this process is the one that does the work named by `key`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [key])
        try:
            yield
        finally:
            with suppress(DatabaseError):  # a connection that is lost has let go of it
                cursor.execute("SELECT pg_advisory_unlock(%s)", [key])
