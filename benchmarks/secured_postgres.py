"""A second PostgreSQL that speaks TLS: Debian's, since the embedded one has no OpenSSL. It holds the wide table."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from benchmarks.certificates import Certificates
from benchmarks.world import DATABASE, ROLE, Endpoint
from hoopweb.embedded.ports import free_port

_WITHIN_S = 30.0
_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


def _binaries() -> Path | None:
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)), None)


@contextmanager
def running_secured(certificates: Certificates, password: str, *, fill: str) -> Iterator[Endpoint | None]:
    """Its endpoint inside TLS, with `fill` executed; None when Debian's `postgresql` is not installed."""
    binary = _binaries()
    if binary is None:
        yield None
        return
    home = Path(tempfile.mkdtemp(prefix="hoopweb-secured-"))
    home.chmod(0o755)
    data, account = home / "data", "nobody" if os.geteuid() == 0 else None
    data.mkdir(mode=0o700)
    (home / "password").write_text(password, encoding="utf-8")
    _own(account, data, home / "password")
    initialise = [binary.with_name("initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--no-sync"]
    quiet = {"user": account, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*initialise, f"--pwfile={home / 'password'}"], check=True, **quiet)  # type: ignore[call-overload]
    shutil.copyfile(certificates.chain, data / "server.crt")
    shutil.copyfile(certificates.key, data / "server.key")
    (data / "server.key").chmod(0o600)
    (data / "pg_hba.conf").write_text(_HBA, encoding="ascii")
    _own(account, data / "server.crt", data / "server.key", data / "pg_hba.conf")
    port = free_port()
    command = [binary, "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "ssl=on", "-c", "fsync=off"]
    process = subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        yield _filled(
            Endpoint("direct, TLS", "127.0.0.1", port, DATABASE, ROLE, password, str(certificates.authority)), fill
        )
    finally:
        process.send_signal(signal.SIGINT)  # fast: sessions of the gateway are still open
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


def _own(account: str | None, *paths: Path) -> None:
    for path in paths:
        if account is not None:
            shutil.chown(path, account)


def _filled(endpoint: Endpoint, fill: str) -> Endpoint:
    superuser = replace(endpoint, user="postgres", database="postgres")
    deadline = time.monotonic() + _WITHIN_S
    while True:
        try:
            with psycopg.connect(superuser.dsn(), autocommit=True) as connection:
                connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{endpoint.password}'")
                connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
            break
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise SystemExit("the PostgreSQL with TLS did not start") from None
            time.sleep(0.2)
    with psycopg.connect(endpoint.dsn(), autocommit=True) as connection:
        connection.execute(fill)
        connection.execute("VACUUM ANALYZE")
    return endpoint
