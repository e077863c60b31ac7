"""A second connection without PHI, so that clients can be put through writes and COPY as well as masked reads."""

from __future__ import annotations

import psycopg
import pytest

from tests.clients.scratch import Ways, open_connection
from tests.stack import Stack

PASSWORD = "ledger-synthetic"

_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: ledger, kind: postgres, host: 127.0.0.1, port: {port}, database: ledger, username: ledger_app,
      password: {{value: {password}}}, tls: disable, phi: false}}
access:
  - {{groups: [ledger-agents], connections: [ledger], operations: [read, write]}}
agents:
  - {{name: ledger-agent, groups: [ledger-agents], owner: admin}}
"""

_HEARD = """
apiVersion: hoopweb/v1
connections:
  - {{name: heard, kind: postgres, host: 127.0.0.1, port: {port}, database: ledger, username: ledger_app,
      password: {{value: {password}}}, tls: disable, phi: true}}
access:
  - {{groups: [heard-agents], connections: [heard], operations: [read, write, listen]}}
agents:
  - {{name: heard-agent, groups: [heard-agents], owner: admin}}
masking:
  - {{name: heard-orders, connections: [heard], columns: [notifications.orders.payload], technique: scan}}
"""


@pytest.fixture(scope="session")
def ledger_dsn(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The gateway's DSN of the connection `ledger`: one table `entries` of 500 rows, no DDL through the gateway."""
    with psycopg.connect(stack.superuser_dsn("postgres"), autocommit=True) as owner:
        owner.execute("DROP DATABASE IF EXISTS ledger WITH (FORCE)")
        owner.execute("DROP ROLE IF EXISTS ledger_app")
        owner.execute(f"CREATE ROLE ledger_app LOGIN PASSWORD '{PASSWORD}'")
        owner.execute("CREATE DATABASE ledger OWNER ledger_app")
    port = psycopg.conninfo.conninfo_to_dict(stack.superuser_dsn())["port"]
    document = tmp_path_factory.mktemp("ledger") / "ledger.yaml"
    document.write_text(_DOCUMENT.format(port=port, password=PASSWORD), encoding="utf-8")
    _fill(stack)
    done = stack.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr
    return stack.gateway_dsn(user="ledger-agent", connection="ledger")


def _fill(stack: Stack) -> None:
    with psycopg.connect(stack.superuser_dsn("ledger"), autocommit=True) as owner:
        owner.execute("SET ROLE ledger_app")
        owner.execute("CREATE TABLE entries (id integer PRIMARY KEY, label text, amount numeric(10,2), booked date, "
                      "tags text[], extra jsonb)")  # fmt: skip
        owner.execute("INSERT INTO entries SELECT n, 'entry ' || n, n * 1.5, date '2024-01-01' + n, ARRAY['a', 'b'], "
                      "'{\"n\": 1}' FROM generate_series(1, 500) n")  # fmt: skip


@pytest.fixture(scope="session")
def scratch(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Ways:
    """An open connection where clients may do everything."""
    return open_connection(stack, tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def agent_words(agent_dsn: str) -> dict[str, str]:
    """libpq keywords of the demo connection, for drivers that take no DSN."""
    return {key: str(value) for key, value in psycopg.conninfo.conninfo_to_dict(agent_dsn).items()}


@pytest.fixture
def agent_dsn(stack: Stack) -> str:
    """The gateway's DSN of the demo connection, with a fresh token."""
    return stack.gateway_dsn()


@pytest.fixture(scope="session")
def heard_words(stack: Stack, ledger_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A PHI connection whose agent may listen, and a rule that shows the payloads of one channel to the detectors."""
    port = psycopg.conninfo.conninfo_to_dict(stack.superuser_dsn())["port"]
    document = tmp_path_factory.mktemp("heard") / "heard.yaml"
    document.write_text(_HEARD.format(port=port, password=PASSWORD), encoding="utf-8")
    done = stack.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr
    found = psycopg.conninfo.conninfo_to_dict(stack.gateway_dsn(user="heard-agent", connection="heard"))
    return {key: str(value) for key, value in found.items()}
