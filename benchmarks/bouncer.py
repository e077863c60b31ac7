"""pgbouncer as the peer: what a mature pooler written in C costs on the same machine in the same minute."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.world import Endpoint
from hoopweb.embedded.ports import free_port

_BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def version() -> str | None:
    """E.g. `PgBouncer 1.18.0`; None when it is not installed."""
    if _BINARY is None:
        return None
    return subprocess.run([_BINARY, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


@contextmanager
def running_bouncer(direct: Endpoint) -> Iterator[list[Endpoint]]:
    """Session and transaction pooling as two endpoints; none when pgbouncer is not installed."""
    if _BINARY is None:
        yield []
        return
    directory = Path(tempfile.mkdtemp(prefix="hoopweb-bouncer-"))
    port = free_port()
    (directory / "users.txt").write_text(f'"{direct.user}" "{direct.password}"\n', encoding="utf-8")
    (directory / "bouncer.ini").write_text(_INI.format(direct=direct, port=port, directory=directory), encoding="utf-8")
    command = [_BINARY, str(directory / "bouncer.ini")]
    if os.geteuid() == 0:  # it refuses to run as root
        nobody = pwd.getpwnam("nobody")
        for path in (directory, *directory.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        command = [_BINARY, "-u", "nobody", str(directory / "bouncer.ini")]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=directory
    )
    try:
        wait_listening(port)
        yield [
            Endpoint(f"pgbouncer-{mode}", "127.0.0.1", port, f"bench_{mode}", direct.user, direct.password)
            for mode in ("session", "transaction")
        ]
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)


def wait_listening(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit("the peer did not start to listen") from None
            time.sleep(0.05)
        else:
            return


_INI = """
[databases]
bench_session = host={direct.host} port={direct.port} dbname={direct.database} pool_mode=session
bench_transaction = host={direct.host} port={direct.port} dbname={direct.database} pool_mode=transaction
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users.txt
max_client_conn = 200
default_pool_size = 40
ignore_startup_parameters = extra_float_digits,options
log_connections = 0
log_disconnections = 0
"""
