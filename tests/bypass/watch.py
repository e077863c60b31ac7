"""What the product leaves behind while it is attacked: every Redis command, mail, log lines, stored rows."""

from __future__ import annotations

import base64
import re
import subprocess
import threading
from pathlib import Path

import redis

from hoopweb.embedded.postgres import postgres_binaries

_BODY = re.compile(rb'body\\?": \\?"([A-Za-z0-9+/=]{16,})')


class RedisWatch:
    """Records every command any process sends to Redis (MONITOR): task arguments, channel messages, keys."""

    def __init__(self, url: str) -> None:
        self.lines: list[bytes] = []
        self._client = redis.Redis.from_url(url)
        self._stop = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(60), "Redis did not start to report its commands"

    def _run(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self._started.set()
            for command in monitor.listen():
                self.lines.append(str(command["command"]).encode("utf-8", "replace"))
                if self._stop.is_set():
                    return

    def seen(self) -> bytes:
        """Everything so far, Celery's base64 message bodies decoded beside it."""
        raw = b"\n".join(self.lines)
        return raw + b"\n".join(base64.b64decode(body + b"===") for body in _BODY.findall(raw))

    def close(self) -> None:
        self._stop.set()
        self._client.ping()  # one more command, so that the listener wakes up
        self._thread.join(5)
        self._client.close()


def dump(dsn: str) -> bytes:
    """Every row of a database as text (pg_dump)."""
    done = subprocess.run([str(postgres_binaries() / "pg_dump"), dsn], capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def contents(directory: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())
