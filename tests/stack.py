"""The whole product as `make run` starts it, in a home of its own, driven from outside like any user's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis

from hoopweb.embedded.account import remove_server_directory
from hoopweb.embedded.ports import free_port
from hoopweb.embedded.postgres import postgres_binaries
from tests.management import ManagementServer
from tests.prepared_home import copy_prepared

PROJECT = Path(__file__).resolve().parent.parent
AGENT = "demo-agent"
_READY_WITHIN_S = 180.0
_RULES_WITHIN_S = 60.0
_RULES_KEY, _BEAT_KEY = b"hoopweb:rules:", b"hoopweb:gateway:"  # gateway/session/inheritance.py, hoopweb/heartbeat.py
_TOKEN_TTL_S = 3600
_PORTS = ("HOOPWEB_WEB_PORT", "HOOPWEB_POSTGRES_PORT", "HOOPWEB_MYSQL_PORT", "HOOPWEB_HTTP_PORT")


@dataclass(slots=True)
class Stack:
    """A running product. `env` makes commands mean this copy; `demo` is its demo.json, read anew when asked."""

    home: Path
    env: dict[str, str]
    log_path: Path
    process: subprocess.Popen[bytes] | None = None  # None: somebody else's, never stopped from here
    _client: httpx.Client | None = field(default=None, repr=False)
    _tokens: dict[tuple[str, int], tuple[str, float]] = field(default_factory=dict, repr=False)
    _management: tuple[ManagementServer, dict[str, int]] | None = field(default=None, repr=False)

    @property
    def demo(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.home / "demo.json").read_text(encoding="utf-8"))
        return content

    def manage(
        self, *arguments: str, stdin: str | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a management command against this copy. What was applied is in force when this returns."""
        started_with = self._settings_files()
        if self._management is None or self._management[1] != started_with:
            self._close_management()
            self._management = ManagementServer(self.env), started_with
        done = self._management[0].run(*arguments, stdin=stdin, timeout_s=timeout_s)
        if arguments[0] == "apply" and done.returncode == 0:
            self.wait_for_rules()
        return done

    def wait_for_rules(self) -> None:
        """Gateways take new rules within a second, and say so; on a busy machine it may take longer.

        One that was killed is waited for until nobody takes it for alive any more.
        """
        with psycopg.connect(str(self.demo["control_dsn"])) as control:
            row = control.execute("SELECT version FROM gateway_configversion").fetchone()
        url = self.env.get("HOOPWEB_REDIS_URL") or (self.home / "secrets" / "redis_url").read_text(encoding="utf-8")
        deadline = time.monotonic() + _RULES_WITHIN_S
        with redis.Redis.from_url(url.strip()) as client:
            while not _all_have(client, int(row[0]) if row else 0):
                assert time.monotonic() < deadline, f"new rules were not taken within {_RULES_WITHIN_S:.0f} s"
                time.sleep(0.05)

    def _settings_files(self) -> dict[str, int]:
        """What settings are read from, and when it changed: commands begin with these as they are."""
        files = [self.home / "ports.json", *(self.home / "secrets").glob("*")]
        return {str(path): path.stat().st_mtime_ns for path in files if path.exists()}

    def _close_management(self) -> None:
        if self._management is not None:
            self._management[0].close()
            self._management = None

    def agent_token(self, name: str = AGENT, *, ttl_s: int = _TOKEN_TTL_S) -> str:
        """A token of the agent, kept for a few minutes; it lasts longer than a folder's tests do."""
        token, minted_at = self._tokens.get((name, ttl_s), ("", 0.0))
        if time.monotonic() - minted_at > min(300, ttl_s / 3):
            token = self.new_agent_token(name, ttl_s=ttl_s)
            self._tokens[(name, ttl_s)] = (token, time.monotonic())
        return token

    def new_agent_token(self, name: str = AGENT, *, ttl_s: int = _TOKEN_TTL_S) -> str:
        done = self.manage("agent_token", name, "--ttl", str(ttl_s))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def gateway_dsn(self, *, token: str | None = None, user: str = AGENT, connection: str = "clinic") -> str:
        """What an agent's client dials."""
        listener = self.demo["postgres"]
        password = token or self.agent_token(user)
        return (
            f"host={listener['host']} port={listener['port']} dbname={connection} user={user} password={password} "
            f"sslmode={listener['sslmode']}"
        )

    def psql(
        self, *arguments: str, token: str | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run psql as the demo agent through the gateway, without a person's psqlrc."""
        return subprocess.run(
            [str(postgres_binaries() / "psql"), "-X", "-d", self.gateway_dsn(token=token), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.env,
            timeout=timeout_s,
            check=False,
        )

    def connect(self, *, token: str | None = None, **options: Any) -> psycopg.Connection[Any]:
        """A psycopg connection through the gateway. autocommit unless asked otherwise."""
        return psycopg.connect(self.gateway_dsn(token=token), **{"autocommit": True, **options})

    def direct(self, **options: Any) -> psycopg.Connection[Any]:
        """A psycopg connection straight to the clinical database, as the gateway's own role."""
        upstream = self.demo["upstream"]
        return psycopg.connect(
            host=upstream["host"],
            port=upstream["port"],
            dbname=upstream["database"],
            user=upstream["username"],
            password=upstream["password"],
            **{"autocommit": True, **options},
        )

    def superuser_dsn(self, database: str = "clinic") -> str:
        """The embedded PostgreSQL's superuser: what plants and inspects, never what an agent gets."""
        password = (self.home / "secrets" / "postgres_password").read_text(encoding="utf-8").strip()
        port = json.loads((self.home / "ports.json").read_text(encoding="utf-8"))["postgres"]
        return f"postgresql://postgres:{password}@127.0.0.1:{port}/{database}"

    def rest(
        self, method: str, path: str, *, token: str | None = None, user: str | None = None, **options: Any
    ) -> httpx.Response:
        """A REST call as the demo agent, or as one of the demo's people (`user`)."""
        bearer = self.demo["users"][user]["token"] if user else token or self.agent_token()
        headers = {"Authorization": f"Bearer {bearer}", **options.pop("headers", {})}
        if self._client is None:
            # The server closes what was idle for five seconds: a connection is given up before, not used meanwhile.
            limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=2)
            url = self.demo["web_url"]
            self._client = httpx.Client(base_url=url, timeout=120, limits=limits, trust_env=False)
        return self._client.request(method, path, headers=headers, **options)

    def pids(self) -> dict[str, int]:
        """postgres, redis, web, gateway, worker, evidence, scheduler."""
        found: dict[str, int] = json.loads((self.home / "pids.json").read_text(encoding="utf-8"))
        return found

    def healthz(self) -> int:
        """The status /healthz answers with; 0 when nothing answers."""
        try:
            url = f"http://127.0.0.1:{self.env['HOOPWEB_WEB_PORT']}/healthz"
            return httpx.get(url, timeout=20, trust_env=False).status_code
        except httpx.HTTPError:
            return 0

    def wait_healthy(self, *, within_s: float = 120) -> None:
        deadline = time.monotonic() + within_s
        while self.healthz() != 200:
            assert time.monotonic() < deadline, f"not healthy within {within_s:.0f} s:\n{self.log_tail()}"
            time.sleep(0.2)

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 60) -> int:
        """Stop a copy started here and return its exit status; its files stay."""
        assert self.process is not None, "not started by this process"
        if self._client is not None:
            self._client.close()
        self._close_management()
        self.process.send_signal(number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def remove(self) -> None:
        """Delete everything a stopped copy kept."""
        for name in ("postgres", "redis"):
            remove_server_directory(self.home, name)


def _all_have(client: redis.Redis, version: int) -> bool:
    """Whether there are gateways, and all that beat have these rules or newer ones."""
    told = {key: client.get(key) for key in client.scan_iter(match=_RULES_KEY + b"*")}
    alive = [each for key, each in told.items() if client.exists(key.replace(_RULES_KEY, _BEAT_KEY))]
    return bool(alive) and all(int(each) >= version for each in alive if each is not None)


def stack_environment(home: Path, **env: str) -> dict[str, str]:
    """This process's environment without the test run's own services, with ports nobody uses unless given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOPWEB_")}
    picked: set[int] = set()
    for _ in _PORTS:
        picked.add(free_port(excluding=frozenset(picked)))
    ports = dict(zip(_PORTS, map(str, picked), strict=True))
    return {
        **{name: value for name, value in inherited.items() if name != "DJANGO_SETTINGS_MODULE"},
        **ports,
        "HOOPWEB_HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        **env,
    }


def start_stack(home: Path, *, prepared: bool = False, impatient: bool = False, **env: str) -> Stack:
    """Start a copy and return once demo.json is there. The caller stops it.

    `prepared`: fill the empty home from the run's prepared one, with its keys, instead of starting from nothing.
    `impatient`: what is killed is started again at once, however often (tests/impatient.py).
    """
    environment = stack_environment(home, **env)
    if prepared:
        copy_prepared(home, environment)
    home.mkdir(parents=True, exist_ok=True)
    log_path = home / "stack.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.impatient" if impatient else "hoopweb.embedded", "--with-parent"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=PROJECT,
        )
    stack = Stack(home=home, env=environment, log_path=log_path, process=process)
    deadline = time.monotonic() + _READY_WITHIN_S
    while not (home / "demo.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise AssertionError(f"the stack did not come up:\n{stack.log_tail()}")
        time.sleep(0.1)
    return stack


def running_stack(home: Path) -> Stack:
    """The copy somebody else runs from `home` (HOOPWEB_TEST_HOME)."""
    content = json.loads((home / "demo.json").read_text(encoding="utf-8"))
    ports = {
        "HOOPWEB_WEB_PORT": content["web_url"].rpartition(":")[2],
        "HOOPWEB_POSTGRES_PORT": str(content["postgres"]["port"]),
        "HOOPWEB_HTTP_PORT": content["http_url"].rpartition(":")[2],
    }
    return Stack(home=home, env=stack_environment(home, **ports), log_path=home / "stack.log")


@contextlib.contextmanager
def stack_in(home: Path, *, impatient: bool = False, **env: str) -> Iterator[Stack]:
    """A copy for one test: started, handed over, stopped, removed."""
    stack = start_stack(home, prepared=True, impatient=impatient, **env)
    try:
        yield stack
    finally:
        if stack.process is not None and stack.process.poll() is None:
            stack.stop()
        stack.remove()
