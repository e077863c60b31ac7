"""`python -m benchmarks.miss`: what a statement costs whose shape the gateway has not seen, stage by stage.

The analyst as the gateway runs it, in this process, over a PostgreSQL of its own: rules, client and record are not in
it (`python -m benchmarks` times those as the client sees them). Processor time is this process's; `elapsed` of the
witness has the server's work in it. Stages are measured apart from the whole, with what the stage before handed on, so
their sum may differ a little from it. The best and the median of many shapes are printed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import uvloop

from benchmarks.lane import set_up
from hoopweb.embedded.account import server_account
from hoopweb.embedded.ports import free_port
from hoopweb.embedded.postgres import accepts_login, prepare_postgres

_WIDE = "CREATE TABLE wide (id int, name text, ssn text, dob date, city text, amount numeric, seen timestamptz)"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.miss", description=__doc__)
    parser.add_argument("--shapes", type=int, default=100, help="new shapes of each statement (%(default)s)")
    parser.add_argument("--dsn", default="", help="a server with pgbench's tables and `wide`, instead of an own one")
    options = parser.parse_args()
    set_up()
    from benchmarks.miss_stages import measure  # noqa: PLC0415, models need settings
    from gateway.management.commands.rungateway import spare_the_collector  # noqa: PLC0415

    spare_the_collector()

    if options.dsn:
        uvloop.run(measure(options.dsn, options.shapes))
        return
    with own_server() as dsn:
        uvloop.run(measure(dsn, options.shapes))


@contextmanager
def own_server() -> Iterator[str]:
    """A PostgreSQL with pgbench's tables, as durable as the product's; stopped and removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="hoopweb-miss-"))
    home.chmod(0o755)  # the server's account walks through it
    server = prepare_postgres(home=home, port=free_port(), account=server_account())
    command = server.command()
    options = command.start_options() | {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command.argv, **options)
    try:
        while not accepts_login(server):
            time.sleep(0.1)
        pgbench = str(server.binaries / "pgbench")
        subprocess.run([pgbench, "-i", "-q", "-s", "1", server.dsn()], check=True, capture_output=True)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(_WIDE)
        yield server.dsn()
    finally:
        process.send_signal(command.stop_signal)
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
