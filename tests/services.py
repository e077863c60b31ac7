"""The PostgreSQL and Redis of a test run: started when the settings load, stopped when pytest ends.

A developer who exports HOOPWEB_HOME with secrets of their own (a `secrets/database_url` in it) is left alone, and the
tests use those services. Workers of pytest-xdist inherit the variables of the process that started the servers, and
have a database of their own on each.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from gateway.protocols.postgres.scram import MIN_ITERATIONS
from hoopweb.embedded.account import remove_server_directory, server_account
from hoopweb.embedded.command import Command
from hoopweb.embedded.ports import remembered_port
from hoopweb.embedded.postgres import (
    CLINIC_APP,
    CLINIC_OWNER,
    Server,
    accepts_login,
    prepare_postgres,
    provision_clinic,
    provision_control,
)
from hoopweb.embedded.redis import answers, prepare_redis
from hoopweb.embedded.secrets import ensure_secrets
from tests.prepared_home import PREPARED

SUPERUSER_DSN = "HOOPWEB_TEST_SUPERUSER_DSN"
CLINIC_OWNER_DSN = "HOOPWEB_TEST_CLINIC_OWNER_DSN"
CLINIC_APP_DSN = "HOOPWEB_TEST_CLINIC_APP_DSN"
# Nothing here survives the run, so nothing waits for a disk. Hashing a password is the client's work at each of some
# thousand connections: as few rounds as the gateway takes from an upstream, for passwords that are long and random.
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "scram_iterations": str(MIN_ITERATIONS),
}


def ensure_services() -> None:
    """Point the environment at running services; start them once per run where nobody brought any."""
    if SUPERUSER_DSN in os.environ:
        _take_a_redis_of_its_own()
        return
    if _developer_brought_services():
        return
    home = Path(tempfile.mkdtemp(prefix="hoopweb-test-"))
    home.chmod(0o755)  # the servers' account walks through it; what is secret inside has modes of its own
    os.environ["HOOPWEB_HOME"] = str(home)
    os.environ.setdefault(PREPARED, str(home / "prepared"))
    ensure_secrets(home)
    started: list[tuple[Command, subprocess.Popen[bytes]]] = []
    atexit.register(_stop, os.getpid(), home, started)
    _start_postgres(home, started)
    _start_redis(home, started)


def _take_a_redis_of_its_own() -> None:
    """Heartbeats, groups and rules are looked for by name: what another worker of pytest-xdist wrote is not this one's.

    A worker's PostgreSQL database is its own by pytest-django; here it is one of the server's numbered databases.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    url = Path(os.environ["HOOPWEB_HOME"]) / "secrets" / "redis_url"
    if worker and url.exists():
        server, _, _ = url.read_text(encoding="utf-8").strip().rpartition("/")
        os.environ["HOOPWEB_REDIS_URL"] = f"{server}/{1 + int(worker.removeprefix('gw')) % 15}"


def _developer_brought_services() -> bool:
    home = os.environ.get("HOOPWEB_HOME")
    if "HOOPWEB_DATABASE_URL" in os.environ:
        return True
    return bool(home) and (Path(str(home)) / "secrets" / "database_url").exists()


def _start_postgres(home: Path, started: list[tuple[Command, subprocess.Popen[bytes]]]) -> None:
    account, sockets = server_account(), home / "sockets"
    sockets.mkdir()
    account.own(sockets)
    listening = {"unix_socket_directories": str(sockets)}
    server = prepare_postgres(
        home=home, port=remembered_port(home, "postgres"), account=account, settings=_FAST | listening
    )
    started.append(_start(server.command()))
    _wait_until(lambda: accepts_login(server))
    _hash_again(server)
    provision_control(server)
    provision_clinic(server)
    os.environ[SUPERUSER_DSN] = server.dsn()
    os.environ[CLINIC_OWNER_DSN] = server.dsn(user=CLINIC_OWNER, database="clinic")
    os.environ[CLINIC_APP_DSN] = server.dsn(user=CLINIC_APP, database="clinic")
    # Django's test runner creates the test databases itself, which the product's own role may not.
    os.environ["HOOPWEB_DATABASE_URL"] = server.dsn(database="hoopweb")


def _hash_again(server: Server) -> None:
    """initdb made the superuser's password before there were settings."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        password = sql.Literal(connection.info.password)
        connection.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(password))


def _start_redis(home: Path, started: list[tuple[Command, subprocess.Popen[bytes]]]) -> None:
    server = prepare_redis(home=home, port=remembered_port(home, "redis"), account=server_account())
    started.append(_start(server.command()))
    _wait_until(lambda: answers(server.url))


def _start(command: Command) -> tuple[Command, subprocess.Popen[bytes]]:
    options = command.start_options() | {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return command, subprocess.Popen(command.argv, **options)


def _wait_until(check: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, f"a service did not answer within {timeout_s:.0f} s"
        time.sleep(0.05)


def _stop(owner: int, home: Path, started: list[tuple[Command, subprocess.Popen[bytes]]]) -> None:
    if os.getpid() != owner:  # a fork of the test process
        return
    for command, process in reversed(started):
        process.send_signal(command.stop_signal)
        try:
            process.wait(command.stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    for name in ("postgres", "redis"):
        remove_server_directory(home, name)
        remove_server_directory(home / "prepared", name)
    shutil.rmtree(home, ignore_errors=True)
