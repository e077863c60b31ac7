"""Django's test run on an open connection: it makes its test database, migrates, tests and drops it, unmodified."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.clients.scratch import AGENT, PASSWORD
from tests.stack import Stack

PROGRAM = Path(__file__).parent / "programs" / "django_suite.py"
# Django makes `test_<name>` from a connection to `postgres`: the gateway knows both by the names Django asks for.
_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: postgres, kind: postgres, host: 127.0.0.1, port: {port}, database: postgres, username: django_owner,
      password: {{value: {password}}}, tls: disable, phi: false, recording: metadata}}
  - {{name: test_orders, kind: postgres, host: 127.0.0.1, port: {port}, database: test_orders, username: django_owner,
      password: {{value: {password}}}, tls: disable, phi: false, recording: metadata}}
access:
  - {{groups: [scratch-agents], connections: [postgres, test_orders], operations: [read, write, ddl, admin]}}
agents:
  - {{name: {agent}, groups: [scratch-agents], owner: admin}}
"""


@pytest.fixture
def gateway_words(stack: Stack, tmp_path: Path) -> dict[str, str]:
    port = psycopg.conninfo.conninfo_to_dict(stack.superuser_dsn())["port"]
    with psycopg.connect(stack.superuser_dsn("postgres"), autocommit=True) as owner:
        if owner.execute("SELECT 1 FROM pg_roles WHERE rolname = 'django_owner'").fetchone() is None:
            owner.execute(sql.SQL("CREATE ROLE django_owner LOGIN CREATEDB PASSWORD {}").format(sql.Literal(PASSWORD)))
    document = tmp_path / "django.yaml"
    document.write_text(_DOCUMENT.format(port=port, password=PASSWORD, agent=AGENT), encoding="utf-8")
    done = stack.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr
    words = psycopg.conninfo.conninfo_to_dict(stack.gateway_dsn(user=AGENT, connection="postgres"))
    return {key: str(value) for key, value in words.items()}


@pytest.mark.timeout(300)
def test_django_suite_passes_on_the_gateway(stack: Stack, gateway_words: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *(f"{key}={value}" for key, value in gateway_words.items())],
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert "OK" in done.stderr
    with psycopg.connect(stack.superuser_dsn("postgres")) as owner:
        assert owner.execute("SELECT 1 FROM pg_database WHERE datname = 'test_orders'").fetchone() is None
