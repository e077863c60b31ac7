"""The product with its database behind a sidecar's Unix-domain socket: every road to it, and whose socket it is."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hoopweb.embedded.postgres import postgres_binaries
from tests.sidecar import running_sidecar
from tests.stack import Stack

MYSELF = pwd.getpwuid(os.geteuid()).pw_name
SOMEBODY_ELSE = "daemon" if MYSELF != "daemon" else "bin"
READ = "SELECT mrn, ssn FROM patients ORDER BY id LIMIT 2"

_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: beside, kind: postgres, host: {folder}, port: 5432, database: {database}, username: {username},
      password: {{value: {password}}}, tls: disable, settings: {{requirepeer: {mine}}}}}
  - {{name: another, kind: postgres, host: {folder}, port: 5432, database: {database}, username: {username},
      password: {{value: {password}}}, tls: disable, settings: {{requirepeer: {theirs}}}}}
access:
  - {{groups: [beside-agents], connections: [beside, another], operations: [read]}}
masking:
  - {{name: beside-ssn, connections: [beside, another], columns: [public.patients.ssn], technique: redact}}
agents:
  - {{name: beside-agent, groups: [beside-agents], owner: admin}}
"""


@pytest.fixture(scope="module")
def beside(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    upstream = stack.demo["upstream"]
    words = {name: upstream[name] for name in ("database", "username", "password")}
    document = tmp_path_factory.mktemp("beside") / "beside.yaml"
    with tempfile.TemporaryDirectory(prefix="hw-") as folder:
        text = _DOCUMENT.format(folder=folder, mine=MYSELF, theirs=SOMEBODY_ELSE, **words)
        document.write_text(text, encoding="utf-8")
        with running_sidecar(str(Path(folder) / ".s.PGSQL.5432"), (upstream["host"], int(upstream["port"]))):
            done = stack.manage("apply", "-f", str(document))
            assert done.returncode == 0, done.stderr
            yield stack


def psql(stack: Stack, connection: str) -> subprocess.CompletedProcess[str]:
    dsn = stack.gateway_dsn(user="beside-agent", connection=connection)
    command = [str(postgres_binaries() / "psql"), "-XAtq", "-d", dsn, "-c", READ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_psql_reads_masked(beside: Stack) -> None:
    done = psql(beside, "beside")

    assert done.returncode == 0, done.stderr
    assert [line.split("|")[1] for line in done.stdout.splitlines()] == ["[REDACTED]"] * 2


def test_rest_reads_the_same(beside: Stack) -> None:
    token = beside.agent_token("beside-agent")
    answer = beside.rest("POST", "/api/v1/connections/beside/statements", token=token, json={"statement": READ})

    assert answer.status_code == 200, answer.text
    assert [row[1] for row in answer.json()["rows"]] == ["[REDACTED]"] * 2


def test_explain_reads_the_catalogue(beside: Stack) -> None:
    done = beside.manage("explain", "beside", READ, "--agent", "beside-agent")

    assert done.returncode == 0, done.stderr
    assert "ALLOW" in done.stdout
    assert "masked by beside-ssn" in done.stdout


def test_socket_of_another_user_is_told_in_words(beside: Stack) -> None:
    done = psql(beside, "another")

    assert done.returncode != 0
    assert "the Unix socket is served by another user than settings.requirepeer" in done.stderr
