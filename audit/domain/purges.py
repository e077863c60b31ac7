"""What was purged, as the log's certificates say, and what no hold covers, as SQL says it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from audit.domain.certificates import Certificate, Hold
from audit.domain.keys import log_keys
from audit.domain.stored_certificates import stored_certificates

# Held by a purge alone, and by any number of checks and exports together: what goes while it is looked for would look
# like damage.
_LOCK = 0x686F6F70_70757267


@contextlib.contextmanager
def purging() -> Iterator[None]:
    """Nobody checks or exports meanwhile, and nobody else purges."""
    with _locked(""):
        yield


@contextlib.contextmanager
def nothing_purged() -> Iterator[None]:
    """Nothing is purged meanwhile."""
    with _locked("_shared"):
        yield


@contextlib.contextmanager
def _locked(kind: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock{kind}(%s)", [_LOCK])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_unlock{kind}(%s)", [_LOCK])


def certificates() -> tuple[Certificate, ...]:
    """Every signed certificate in the log, oldest first. Others account for nothing."""
    return tuple(stored_certificates(log_keys())[0])


def kept_since(record_class: str) -> datetime | None:
    """Before this moment the class was purged, but for what was held; None when it never was."""
    found = [certificate.until for certificate in certificates() if certificate.record_class == record_class]
    return max(found, default=None)


def not_held(
    holds: Sequence[Hold], *, table: str = "e", at: str = "at", session: str = "session_id"
) -> tuple[str, list[Any]]:
    """SQL that is true of rows of `table` that no hold covers, and its values."""
    parts: list[str] = []
    values: list[Any] = []
    for hold in holds:
        fits = ["true"]
        for column, value in (("subject", hold.subject), ("connection", hold.connection), (session, hold.session)):
            if value:
                fits.append(f"{table}.{column} = %s")
                values.append(value)
        if hold.since:
            fits.append(f"{table}.{at} >= %s")
            values.append(datetime.fromisoformat(hold.since))
        if hold.until:
            fits.append(f"{table}.{at} < %s")
            values.append(datetime.fromisoformat(hold.until))
        parts.append(f"NOT ({' AND '.join(fits)})")
    return " AND ".join(parts) or "true", values


def certified_gone(record_class: str, *, table: str, at: str, session: str) -> tuple[str, list[Any]]:
    """SQL that is true of rows of `table` (with `last_seq`) whose absence a certificate of the class accounts for."""
    parts: list[str] = []
    values: list[Any] = []
    for certificate in certificates():
        if certificate.record_class == record_class:
            free, held = not_held(certificate.holds, table=table, at=at, session=session)
            parts.append(f"({table}.last_seq <= %s AND {table}.{at} < %s AND {free})")
            values += [certificate.up_to, certificate.until, *held]
    return " OR ".join(parts) or "false", values
