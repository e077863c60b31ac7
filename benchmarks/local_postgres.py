"""A PostgreSQL on the gateway's own host that listens on a Unix-domain socket as well as on a port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from benchmarks.world import DATABASE, ROLE, Endpoint
from hoopweb.embedded.account import remove_server_directory, server_account
from hoopweb.embedded.ports import free_port
from hoopweb.embedded.postgres import accepts_login, postgres_binaries, prepare_postgres

_WITHIN_S = 30.0


@contextmanager
def running_local(password: str, *, scale: int) -> Iterator[tuple[Endpoint, Endpoint]]:
    """pgbench's tables in a server of their own, by TCP and by its socket."""
    home = Path(tempfile.mkdtemp(prefix="hoopweb-local-"))
    home.chmod(0o755)
    account, sockets = server_account(), home / "sockets"
    sockets.mkdir()
    account.own(sockets)
    settings = {"unix_socket_directories": str(sockets)}
    server = prepare_postgres(home=home, port=free_port(), account=account, settings=settings)
    command = server.command()
    options = command.start_options() | {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command.argv, **options)
    deadline = time.monotonic() + _WITHIN_S
    try:
        while not accepts_login(server):
            if time.monotonic() > deadline:
                raise SystemExit("the PostgreSQL with a socket did not start")
            time.sleep(0.2)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        tcp = Endpoint("direct", "127.0.0.1", server.port, DATABASE, ROLE, password)
        fill = [str(postgres_binaries() / "pgbench"), "-i", "-q", "-s", str(scale), tcp.dsn()]
        subprocess.run(fill, check=True, capture_output=True)
        yield tcp, replace(tcp, name="direct, Unix socket", host=str(sockets))
    finally:
        process.send_signal(command.stop_signal)  # fast: sessions of the gateway are still open
        process.wait(command.stop_timeout_s)
        remove_server_directory(home, "postgres")
        shutil.rmtree(home, ignore_errors=True)
