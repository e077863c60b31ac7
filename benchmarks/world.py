"""What is measured: one PostgreSQL, reached directly, through pgbouncer, and through the gateway.

Every server runs in a session of its own (setsid), or the scheduler's autogroups starve it beside the load generator.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.certificates import Certificates, issue
from hoopweb.embedded.ports import free_port
from hoopweb.embedded.postgres import postgres_binaries

PROJECT = Path(__file__).resolve().parent.parent
DATABASE, ROLE = "bench", "bench_app"
WIDE_ROWS = 1_000_000
_READY_WITHIN_S = 180.0


@dataclass(frozen=True)
class Endpoint:
    """One way to the database, as libpq keywords."""

    name: str
    host: str
    port: int
    database: str
    user: str
    password: str
    authority: str = ""  # the file with the authority its certificate is checked against; empty: without TLS

    def dsn(self) -> str:
        tls = f"sslmode=verify-full sslrootcert={self.authority}" if self.authority else "sslmode=disable"
        login = f"user={self.user} password={self.password}"
        return f"host={self.host} port={self.port} dbname={self.database} {login} {tls}"


@dataclass
class World:
    """A running stack with the bench database. `gateway_pid` is the data plane's parent process."""

    home: Path
    env: dict[str, str]
    certificates: Certificates | None = None  # of the gateway, where clients may have TLS

    @property
    def authority(self) -> str:
        """The file with the authority of the gateway's certificate."""
        assert self.certificates is not None
        return str(self.certificates.authority)

    @property
    def demo(self) -> dict[str, object]:
        content: dict[str, object] = json.loads((self.home / "demo.json").read_text(encoding="utf-8"))
        return content

    @property
    def gateway_pid(self) -> int:
        return int(json.loads((self.home / "pids.json").read_text(encoding="utf-8"))["gateway"])

    @property
    def postgres_port(self) -> int:
        return int(json.loads((self.home / "ports.json").read_text(encoding="utf-8"))["postgres"])

    def superuser_dsn(self, database: str) -> str:
        password = (self.home / "secrets" / "postgres_password").read_text(encoding="utf-8").strip()
        return f"host=127.0.0.1 port={self.postgres_port} user=postgres password={password} dbname={database}"

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"manage.py {arguments[0]} failed: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()

    def direct(self, password: str) -> Endpoint:
        return Endpoint("direct", "127.0.0.1", self.postgres_port, DATABASE, ROLE, password)

    def gateway(self, connection: str, *, name: str = "gateway", tls: bool = False) -> Endpoint:
        token = self.manage("agent_token", "bench-agent", "--ttl", "3600")
        return Endpoint(name, *self.postgres_address, connection, "bench-agent", token, self.authority if tls else "")

    def renew_gateway(self) -> None:
        """End the data plane and wait until its successor listens: memory once touched is never given back whole."""
        before = self.gateway_pid
        os.kill(before, signal.SIGKILL)
        deadline = time.monotonic() + _READY_WITHIN_S
        while self.gateway_pid == before or not _listens(self.postgres_address):
            if time.monotonic() > deadline:
                raise SystemExit("the gateway did not come back")
            time.sleep(0.2)

    @property
    def postgres_address(self) -> tuple[str, int]:
        """Where the gateway's PostgreSQL listener is."""
        listener = self.demo["postgres"]
        assert isinstance(listener, dict)
        return str(listener["host"]), int(listener["port"])

    def apply(self, document: str) -> None:
        """Give the gateway a configuration that may hold secrets."""
        path = self.home / "bench.yaml"
        path.write_text(document, encoding="utf-8")
        path.chmod(0o600)
        self.manage("apply", "-f", str(path))


@contextmanager
def running_world(*, workers: int, secured: bool = False) -> Iterator[World]:
    """Start a stack in a home of its own, wait until it is ready, stop it at the end. `secured`: clients have TLS."""
    home = Path(tempfile.mkdtemp(prefix="hoopweb-bench-"))
    home.chmod(0o755)  # the embedded servers' account walks through it
    names = [f"HOOPWEB_{name}_PORT" for name in ("WEB", "POSTGRES", "MYSQL", "HTTP", *(["RELAY"] if secured else []))]
    ports = [str(free_port()) for _ in names]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HOOPWEB_", "DJANGO_"))}
    env = {**inherited, **dict(zip(names, ports, strict=True)), "HOOPWEB_HOME": str(home)}
    env["HOOPWEB_GATEWAY_WORKERS"] = str(workers)
    certificates = issue(home) if secured else None
    if certificates is not None:
        env |= {"HOOPWEB_TLS_CERT_FILE": str(certificates.chain), "HOOPWEB_TLS_KEY_FILE": str(certificates.key)}
    log = (home / "stack.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "hoopweb.embedded", "--with-parent"],
        cwd=PROJECT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _wait_ready(process, home)
        yield World(home, env, certificates)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        log.close()
        shutil.rmtree(home, ignore_errors=True)


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except OSError:
        return False
    return True


def _wait_ready(process: subprocess.Popen[bytes], home: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while not (home / "demo.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = (home / "stack.log").read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            raise SystemExit("the stack did not come up:\n" + "\n".join(tail))
        time.sleep(0.2)


def load(world: World, *, scale: int, rows: int) -> str:
    """Create and fill the bench database, tell the gateway about it, return the role's password."""
    password = secrets.token_urlsafe(18)
    with psycopg.connect(world.superuser_dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
        connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    dsn = world.direct(password).dsn()
    subprocess.run([str(postgres_binaries() / "pgbench"), "-i", "-q", "-s", str(scale), dsn], check=True,
                   capture_output=True)  # fmt: skip
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(wide_table(rows))
        connection.execute("VACUUM ANALYZE")
    world.apply(_document(port=world.postgres_port, password=password))
    return password


def add_secured(world: World, direct: Endpoint, secured: Endpoint) -> None:
    """Tell the gateway about the PostgreSQL that speaks TLS, beside what it knows from `load`."""
    world.apply(_document(port=direct.port, password=direct.password, secured=secured))


def add_local(world: World, *endpoints: Endpoint) -> list[Endpoint]:
    """Tell the gateway of more ways to a database; returns the ways through it, durability `os`, in their order."""
    names = {f"bench-local-{number}": endpoint for number, endpoint in enumerate(endpoints)}
    connections = "".join(
        _connection(name, host=endpoint.host, port=endpoint.port, password=endpoint.password)
        for name, endpoint in names.items()
    )
    world.apply(f"apiVersion: hoopweb/v1\nconnections:{connections}\n")
    return [
        world.gateway(name, name=f"gateway, os{endpoint.name[len('direct') :]}") for name, endpoint in names.items()
    ]


def wide_table(rows: int) -> str:
    """The statement that makes `wide`."""
    return _WIDE.format(rows=rows)


# Eight columns of the usual kinds, about 120 bytes a row.
_WIDE = """
CREATE TABLE wide AS
SELECT n AS id, 'Patient ' || n AS name, lpad((n % 1000000000)::text, 9, '0') AS ssn,
       date '1950-01-01' + n % 20000 AS dob,
       'City ' || n % 500 AS city, (n % 100000) / 100.0 AS amount,
       timestamptz '2024-01-01' + n * interval '1 second' AS seen, 'status ' || n % 7 AS status
FROM generate_series(1, {rows}) n
"""

# The same database once per durability of the record, with two columns of `wide` masked, and once without any rule. Not
# declared PHI, because what is measured is the data path and the masks, not an approval.
DURABILITIES = ("os", "disk", "database")
KEPT = "bench-kept"  # durability `os`; masked results are recorded, as they are unless a connection says otherwise
_CONNECTION = """
  - {{name: {name}, kind: postgres, host: {host}, port: {port}, database: bench, username: bench_app,
      password: {{value: "{password}"}}, phi: false, recording: {recording}, durability: {durability}, {tls}}}"""
_TLS = 'tls: verify-full, settings: {{ca_file: "{authority}"}}'
_DOCUMENT = """
apiVersion: hoopweb/v1
connections:{connections}
access:
  - {{groups: [bench-agents], connections: ["bench-*"], operations: [read, write]}}
masking:
  - {{name: bench-ssn, connections: [{masked}, bench-kept, bench-tls], columns: [public.wide.ssn], technique: redact}}
  - {{name: bench-name, connections: [{masked}, bench-kept, bench-tls], columns: [public.wide.name], technique: redact}}
agents:
  - {{name: bench-agent, groups: [bench-agents], owner: admin}}
"""


def _document(*, port: int, password: str, secured: Endpoint | None = None) -> str:
    masked = {f"bench-{durability}": durability for durability in DURABILITIES}
    connections = "".join(
        _connection(name, port=port, password=password, durability=durability)
        for name, durability in {"bench-plain": "os", **masked}.items()
    )
    connections += _connection(KEPT, port=port, password=password, recording="masked-results")
    if secured is not None:  # `bench-tls` is masked, `bench-tls-plain` is not
        connections += "".join(
            _connection(
                name, port=secured.port, password=secured.password, tls=_TLS.format(authority=secured.authority)
            )
            for name in ("bench-tls", "bench-tls-plain")
        )
    return _DOCUMENT.format(connections=connections, masked=", ".join(masked))


def _connection(
    name: str,
    *,
    port: int,
    password: str,
    host: str = "127.0.0.1",
    durability: str = "os",
    recording: str = "metadata",
    tls: str = "tls: disable",
) -> str:
    return _CONNECTION.format(
        name=name, host=host, port=port, password=password, durability=durability, recording=recording, tls=tls
    )


def peak_rss_mb(pid: int) -> float:
    """High-water mark of a process and its children, MiB (proc_pid_status(5), VmHWM)."""
    return sum(_status_kb(member, "VmHWM") for member in [pid, *_descendants(pid)]) / 1024


def resident_kb(pid: int) -> int:
    """Resident memory of a process and its children, KB (proc_pid_status(5), VmRSS)."""
    return sum(_status_kb(member, "VmRSS") for member in [pid, *_descendants(pid)])


def processor_s(pid: int) -> float:
    """User and system time of a process and its children so far (proc_pid_stat(5), utime and stime)."""
    ticks = 0
    for member in [pid, *_descendants(pid)]:
        fields = Path(f"/proc/{member}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def reset_peak(pid: int) -> None:
    """Start a new high-water mark (proc_pid_clear_refs(5), value 5)."""
    for member in [pid, *_descendants(pid)]:
        Path(f"/proc/{member}/clear_refs").write_text("5", encoding="ascii")


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text(encoding="ascii").split()):
            found += [child, *_descendants(child)]
    return found


def _status_kb(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0
