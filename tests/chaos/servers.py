"""A PostgreSQL of our own to break, and processes to stop in the middle of things."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from hoopweb.embedded.account import remove_server_directory, server_account
from hoopweb.embedded.ports import free_port
from hoopweb.embedded.postgres import Server, accepts_login, prepare_postgres

APP_PASSWORD = "far-synthetic"

_SCHEMA = f"""
CREATE ROLE far_app LOGIN PASSWORD '{APP_PASSWORD}';
CREATE TABLE patients (id integer PRIMARY KEY, ssn text);
INSERT INTO patients SELECT n, '900-11-' || lpad(n::text, 4, '0') FROM generate_series(1, 2000) n;
CREATE TABLE marks (label text);
GRANT SELECT, INSERT, UPDATE, DELETE ON patients, marks TO far_app;
"""


@dataclass
class Upstream:
    """A running PostgreSQL holding `patients` (protected) and `marks` (not), apart from the stack's own."""

    server: Server
    process: subprocess.Popen[bytes]

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """As its superuser, directly."""
        with psycopg.connect(self.server.dsn(database="far"), autocommit=True) as connection:
            return connection.execute(sql.encode()).fetchall()

    def kill(self) -> None:
        """No farewell: what a power cut looks like from outside."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            _send(pid, signal.SIGKILL)
        self.process.wait(10)

    def start(self) -> None:
        self.process = _started(self.server)


@contextmanager
def own_upstream(home: Path, **settings: str) -> Iterator[Upstream]:
    home.mkdir()
    home.chmod(0o755)  # the server's account walks through it
    server = prepare_postgres(
        home=home,
        port=free_port(),
        account=server_account(),
        settings={"fsync": "off", "full_page_writes": "off", **settings},
    )
    upstream = Upstream(server, _started(server))
    try:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE far")
        with psycopg.connect(server.dsn(database="far"), autocommit=True) as connection:
            connection.execute(_SCHEMA)
        yield upstream
    finally:
        if upstream.process.poll() is None:
            upstream.process.send_signal(signal.SIGQUIT)
            upstream.process.wait(20)
        remove_server_directory(home, "postgres")


def _started(server: Server) -> subprocess.Popen[bytes]:
    command = server.command()
    process = subprocess.Popen(
        command.argv, **command.start_options() | {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    )
    wait_until(lambda: accepts_login(server), within_s=60, what="the upstream to accept logins")
    return process


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and its descendants (SIGSTOP), and let them go on at the end: there, but never answering."""
    members = [pid, *descendants(pid)]
    for member in members:
        _send(member, signal.SIGSTOP)
    try:
        yield
    finally:
        for member in members:
            _send(member, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a backend may end by itself at any moment
        os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, task.read_text(encoding="ascii").split()):
                found += [child, *descendants(child)]
    return found


def wait_until(check: Callable[[], bool], *, within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s for {what}"
        time.sleep(0.1)
