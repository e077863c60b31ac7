"""Which data-plane processes live: each holds a database lock of its own for as long as it is connected.

It holds it twice, shared: over its writer's connection, which notices only with its next commit that the database was
away, and over the one that looks at checkpoints every second. A quiet process would pass for dead otherwise.

A machine that loses its power lets go of nothing. The database asks after two hours of silence by itself; over these
connections it asks after one minute, and takes silence for the end within two.
"""

from __future__ import annotations

import hashlib

from django.db import connection

# What a client leaves that is gone is over within two minutes, whether the server waits for it or has sent something.
SILENCE = (
    "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 15; SET tcp_keepalives_count = 4;"
    "SET tcp_user_timeout = 120000"
)


def liveness_key(gateway_id: str) -> int:
    """The advisory lock (a signed 64-bit number) of one gateway process."""
    return int.from_bytes(hashlib.sha256(b"hoopweb gateway\x00" + gateway_id.encode()).digest()[:8], "big", signed=True)


def is_alive(gateway_id: str) -> bool:
    """Whether that process is connected. Needs session locks: no transaction-pooling proxy between."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [liveness_key(gateway_id)])
        (taken,) = cursor.fetchone()
        if taken:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [liveness_key(gateway_id)])
    return not taken


def show_alive(gateway_id: str) -> None:
    """Hold that process's lock for as long as the calling thread's connection lasts: `audit.domain.startup` asks."""
    with connection.cursor() as cursor:
        cursor.execute(SILENCE)
        cursor.execute("SELECT pg_advisory_lock_shared(%s)", [liveness_key(gateway_id)])


class SignOfLife:
    """Of one process, over the calling thread's own connection. Shows nothing for a process without a name."""

    def __init__(self, gateway_id: str) -> None:
        self._gateway_id = gateway_id
        self._shown_over: object = None

    def show(self) -> None:
        """Show it, unless this very connection does so already."""
        connection.ensure_connection()
        if not self._gateway_id or connection.connection is self._shown_over:
            return
        show_alive(self._gateway_id)
        connection.close_at = None  # never for its age alone: between two connections nobody would be seen to live
        self._shown_over = connection.connection
