"""What the environment asks of the embedded stack, and the checks that must hold before anything starts."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hoopweb.embedded.ports import require_free
from hoopweb.embedded.problem import StackProblem
from hoopweb.env import env_bool, env_int, env_path, env_secret

PROJECT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
_NEEDED_BYTES = 500 * 2**20  # two fresh databases take 60 MB, a working day of evidence some hundred


class AlreadyRunning(Exception):
    """Another stack holds this home. Nothing was started, nothing was touched."""


@dataclass(frozen=True, slots=True)
class Configuration:
    home: Path
    web_port: int
    postgres_port: int
    http_port: int
    database_url: str  # empty: the embedded PostgreSQL also holds the control database
    redis_url: str  # empty: the embedded Redis
    bigquery: bool = False  # a BigQuery emulator beside the clinic (make run-bigquery)
    gateway_workers: int = 1

    @property
    def web_url(self) -> str:
        return f"http://{HOST}:{self.web_port}"


def read_configuration() -> Configuration:
    """Only variables that are set count: what lies in the home's secrets is what an earlier start wrote there."""
    return Configuration(
        home=env_path("HOME", PROJECT / ".hoopweb"),
        web_port=env_int("WEB_PORT", 8000, low=1, high=65535),
        postgres_port=env_int("POSTGRES_PORT", 6432, low=1, high=65535),
        http_port=env_int("HTTP_PORT", 8010, low=1, high=65535),
        database_url=env_secret("DATABASE_URL"),
        redis_url=env_secret("REDIS_URL"),
        bigquery=env_bool("DEMO_BIGQUERY", default=False),
        gateway_workers=env_int("GATEWAY_WORKERS", 1, low=1, high=64),
    )


def require_room(configuration: Configuration) -> None:
    """The home can be written, the disk has room, the public ports are free and differ; else one sentence."""
    _require_writable(configuration.home)
    free = shutil.disk_usage(configuration.home).free
    if free < _NEEDED_BYTES:
        raise StackProblem(
            f"only {free // 2**20} MB are free in {configuration.home}, expected {_NEEDED_BYTES // 2**20} MB: "
            "make room or set HOOPWEB_HOME to another disk"
        )
    ports = {
        "HOOPWEB_WEB_PORT": (configuration.web_port, "console and REST"),
        "HOOPWEB_POSTGRES_PORT": (configuration.postgres_port, "PostgreSQL gateway"),
        "HOOPWEB_HTTP_PORT": (configuration.http_port, "HTTP gateway"),
    }
    if len({port for port, _ in ports.values()}) < len(ports):
        raise StackProblem(f"two of {', '.join(ports)} are the same port, expected different ones")
    for variable, (port, purpose) in ports.items():
        require_free(port=port, variable=variable, purpose=purpose)


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Hold the home for this process. The kernel lets go when the process ends, however it ends."""
    _require_writable(home)
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode().strip() or "another process"
            raise AlreadyRunning(f"hoopweb already runs from {home} ({holder}); nothing was started") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}".encode())
        yield
    finally:
        os.close(descriptor)


def _require_writable(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".probe.{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        advice = "make room" if error.errno == errno.ENOSPC else "set HOOPWEB_HOME to a directory of yours"
        raise StackProblem(f"{home} cannot be written ({error.strerror}): {advice}") from None
