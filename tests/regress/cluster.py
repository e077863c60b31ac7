"""Debian's PostgreSQL 15 in a directory of its own: the same server twice, asked directly and through the gateway."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hoopweb.embedded.ports import free_port

BIN = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "regress-synthetic"
DATABASE = "regression"


@dataclass(frozen=True, slots=True)
class Cluster:
    port: int

    def dsn(self, database: str = DATABASE) -> str:
        return f"host=127.0.0.1 port={self.port} dbname={database} user=postgres password={PASSWORD}"


@contextlib.contextmanager
def cluster(**settings: str) -> Iterator[Cluster]:
    """A fresh server with the database `regression` set up as pg_regress does it."""
    home = Path(tempfile.mkdtemp(prefix="hoopweb-regress-"))
    home.chmod(0o755)
    user = "nobody" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    data, secret = home / "data", home / "secret"
    data.mkdir()
    secret.write_text(PASSWORD, encoding="utf-8")
    if user is not None:
        shutil.chown(data, user)
        shutil.chown(secret, user)
    options = ["-E", "UTF8", "--no-locale", "-A", "scram-sha-256", "-U", "postgres", f"--pwfile={secret}", "--no-sync"]
    subprocess.run([BIN / "initdb", "-D", data, *options], check=True, user=user, stdout=subprocess.DEVNULL)
    port = free_port()
    wanted = {"listen_addresses": "127.0.0.1", "fsync": "off", "max_prepared_transactions": "2", **settings}
    switches = [word for name, value in wanted.items() for word in ("-c", f"{name}={value}")]
    process = subprocess.Popen(
        [BIN / "postgres", "-D", data, "-p", str(port), "-k", str(data), *switches],
        user=user,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running = Cluster(port)
    try:
        _make_database(running)
        yield running
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown: sessions of a gateway may still be there
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


# pg_regress sets these on its database, so that messages and formats do not depend on the machine.
_SETUP = f"""
CREATE DATABASE {DATABASE} TEMPLATE template0;
ALTER DATABASE {DATABASE} SET lc_messages TO 'C';
ALTER DATABASE {DATABASE} SET lc_monetary TO 'C';
ALTER DATABASE {DATABASE} SET lc_numeric TO 'C';
ALTER DATABASE {DATABASE} SET lc_time TO 'C';
ALTER DATABASE {DATABASE} SET bytea_output TO 'hex';
ALTER DATABASE {DATABASE} SET timezone_abbreviations TO 'Default';
"""


def _make_database(running: Cluster) -> None:
    until = time.monotonic() + 30
    while True:
        done = subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", running.dsn("postgres")],
            input=_SETUP,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        assert time.monotonic() < until, done.stderr
        time.sleep(0.1)
