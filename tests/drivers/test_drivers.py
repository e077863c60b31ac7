"""Drivers' own test suites through an open connection: what passes directly passes through the gateway.

`expected_differences.txt` lists the few that do not, each with its reason. `make soak` runs them: each suite twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.suite import Suite
from tests.regress.cluster import BIN, PASSWORD, Cluster, cluster
from tests.stack import Stack

NAME = "postgres"  # of user, database, connection and agent: some drivers take the one for the other
EXPECTED = Path(__file__).with_name("expected_differences.txt")
SUITES = (
    Suite("asyncpg", "0.32.0", "tests", ("distro==1.9.0",)),
    Suite("pg8000", "1.31.6", "test", ("pytest-benchmark==5.3.1", "pytz==2026.6"), ("--benchmark-disable",)),
)
_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: {name}, kind: postgres, host: 127.0.0.1, port: {port}, database: {name}, username: {name},
      password: {{value: {password}}}, tls: disable, phi: false, recording: metadata, durability: os}}
access:
  - {{groups: [drivers], connections: [{name}], operations: [read, write, ddl, admin]}}
agents:
  - {{name: {name}, groups: [drivers], owner: admin}}
"""

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("HOOPWEB_SOAK"), reason="drivers' own suites: make soak"),
    pytest.mark.skipif(not BIN.exists(), reason="needs Debian's PostgreSQL 15: apt-get install postgresql-15"),
]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Cluster, Cluster]]:
    """Two equal ones: suites create types, tables and roles."""
    with cluster() as plain, cluster() as behind:
        yield plain, behind


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.driver)
def test_what_passes_directly_passes_through_the_gateway(
    suite: Suite, servers: tuple[Cluster, Cluster], stack: Stack, tmp_path: Path
) -> None:
    plain, behind = servers
    document = tmp_path / "drivers.yaml"
    document.write_text(_DOCUMENT.format(name=NAME, port=behind.port, password=PASSWORD), encoding="utf-8")
    done = stack.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr

    directly = suite.run(environment(plain.port, PASSWORD), tmp_path / "direct")
    token = stack.agent_token(NAME, ttl_s=3600)
    through = suite.run(environment(stack.demo["postgres"]["port"], token), tmp_path / "through")

    passing = {name for name, outcome in directly.items() if outcome == "passed"}
    differing = {f"{suite.driver} {name}" for name in passing if through.get(name) != "passed"}
    assert len(passing) > 100
    assert differing - expected() == set()
    assert {name for name in expected() if name.startswith(suite.driver)} - differing == set(), "not different any more"


def environment(port: int, password: str) -> dict[str, str]:
    """libpq's names, which both suites read."""
    return {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": NAME,
        "PGDATABASE": NAME,
        "PGPASSWORD": password,
        "PGSSLMODE": "disable",
    }


def expected() -> set[str]:
    lines = EXPECTED.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}
