"""pgbench, unmodified, over the connection without PHI: every protocol, several clients, its own transactions."""

from __future__ import annotations

import subprocess

import psycopg
import pytest

from hoopweb.embedded.postgres import postgres_binaries
from tests.stack import Stack


@pytest.fixture(scope="module")
def bench_dsn(stack: Stack, ledger_dsn: str) -> str:
    server = psycopg.conninfo.conninfo_to_dict(stack.superuser_dsn())
    initialised = subprocess.run(
        [str(postgres_binaries() / "pgbench"), "-i", "-q", "-s", "1",
         f"host={server['host']} port={server['port']} dbname=ledger user=ledger_app password=ledger-synthetic"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert initialised.returncode == 0, initialised.stderr
    return ledger_dsn


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["select-only", "tpcb-like"])
@pytest.mark.by_turns(2)
def test_pgbench_runs_without_a_failed_transaction(bench_dsn: str, mode: str, script: str) -> None:
    done = subprocess.run(
        [str(postgres_binaries() / "pgbench"), "-n", "-b", script, "-M", mode, "-c", "4", "-t", "25", bench_dsn],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 100/100" in done.stdout
    assert "number of failed transactions: 0 (0.000%)" in done.stdout
