"""`connect`: replace this process by psql, or another libpq program, with a ticket bought for this one connection.

The ticket is a one-time password for one connection, good for a minute. It travels in PGPASSWORD, because arguments
are everybody's to read in /proc. Inherited PG variables that could send it elsewhere, or in clear, are not passed on.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from hoopweb.cli.credentials import is_loopback
from hoopweb.cli.failures import CommandFailed, Exit
from hoopweb.cli.server import Server

DEFAULT_PORT = "6432"
# A service file beats the environment in libpq, PGHOSTADDR beats PGHOST: whatever is not known harmless stays out.
_PASSED_ON = frozenset(
    {"PGAPPNAME", "PGOPTIONS", "PGCONNECT_TIMEOUT", "PGCLIENTENCODING", "PGDATESTYLE", "PGTZ", "PGSSLROOTCERT"}
)
_OURS = frozenset({"HOOPWEB_TOKEN", "HOOPWEB_CLIENT_SECRET"})


def connect(server: Server, *, connection: str, program: str, arguments: list[str], host: str, port: str) -> NoReturn:
    """Buy a ticket and become `program`; its exit status is the command's."""
    executable = _found(program)
    host = host or urlsplit(server.login.server).hostname or ""
    bought = server.post("tickets", body={"connection": connection})
    environment = environment_for(bought, host=host, port=port, inherited=os.environ)
    sys.stdout.flush()
    os.execve(executable, [program, *arguments], environment)  # noqa: S606  # no shell is wanted


def environment_for(bought: Mapping[str, Any], *, host: str, port: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """What libpq needs for one connection (PostgreSQL documentation, "Environment Variables")."""
    kept = {
        name: value
        for name, value in inherited.items()
        if name not in _OURS and (not name.startswith("PG") or name in _PASSED_ON)
    }
    return {
        **kept,
        "PGHOST": host,
        "PGPORT": port,
        "PGDATABASE": str(bought["connection"]),
        "PGUSER": str(bought["username"]),
        "PGPASSWORD": str(bought["ticket"]),
        "PGSSLMODE": "prefer" if is_loopback(host) else "verify-full",
    }


def _found(program: str) -> str:
    """Looked for in PATH first, then beside this Python, where the product keeps its own psql."""
    beside = Path(sys.executable).parent
    executable = shutil.which(program) or shutil.which(program, path=str(beside))
    if executable is None:
        raise CommandFailed(f"{program} was not found in PATH or {beside}", status=Exit.USAGE)
    return executable
