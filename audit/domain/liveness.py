"""Which data-plane processes live: each holds a database lock of its own as long as its writer is connected."""

from __future__ import annotations

import hashlib

from django.db import connection


def liveness_key(gateway_id: str) -> int:
    """The advisory lock (a signed 64-bit number) of one gateway process."""
    return int.from_bytes(hashlib.sha256(b"hoopweb gateway\x00" + gateway_id.encode()).digest()[:8], "big", signed=True)


def is_alive(gateway_id: str) -> bool:
    """Whether a writer of that process is connected. Needs session locks: no transaction-pooling proxy between."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [liveness_key(gateway_id)])
        (taken,) = cursor.fetchone()
        if taken:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [liveness_key(gateway_id)])
    return not taken
