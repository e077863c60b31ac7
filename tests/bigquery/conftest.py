"""A BigQuery connection on the running product: `warehouse`, over the emulator behind the strict shim."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hoopweb.embedded.bigquery_emulator import ensure_emulator, is_ready
from hoopweb.embedded.problem import StackProblem
from tests.bigquery.service import PROJECT, Service, running_service
from tests.stack import AGENT, Stack

CONNECTION = "warehouse"
DATASET = "clinic"
PATIENTS = 30_500  # more than one page of every client
SSN = "078-05-0001"  # of patient 1

_PATIENTS = f"""
CREATE TABLE {DATASET}.patients AS
SELECT n AS id, CONCAT('078-05-', LPAD(CAST(n AS STRING), 4, '0')) AS ssn,
  CONCAT('First', CAST(n AS STRING)) AS first_name,
  DATE '1950-03-07' AS dob, STRUCT('(415) 555-0100' AS phone, CONCAT('p', CAST(n AS STRING), '@example.org') AS email)
  AS contact, ['a', 'b'] AS tags, MOD(n, 50) AS ward, n * 1.5 AS score, TIMESTAMP '2026-01-02 03:04:05+00' AS seen_at
FROM UNNEST(GENERATE_ARRAY(1, {PATIENTS})) AS n
"""
_WARDS = f"""
CREATE TABLE {DATASET}.wards AS SELECT n AS id, CONCAT('ward ', CAST(n AS STRING)) AS name FROM UNNEST([1, 2, 3]) AS n
"""

RULES: dict[str, Any] = {
    "apiVersion": "hoopweb/v1",
    "access": [
        {"name": "warehouse", "groups": ["ai-agents"], "connections": [CONNECTION], "operations": ["read", "write"]}
    ],
    "agents": [{"name": "other-agent", "groups": ["ai-agents"], "owner": "admin"}],
    "masking": [
        {"name": "bq-ssn", "connections": [CONNECTION], "columns": [f"{DATASET}.patients.ssn"], "technique": "redact"},
        {
            "name": "bq-name",
            "connections": [CONNECTION],
            "columns": [f"{DATASET}.patients.first_name"],
            "technique": "redact",
        },
        {
            "name": "bq-email",
            "connections": [CONNECTION],
            "columns": [f"{DATASET}.patients.contact.email"],
            "technique": "redact",
        },
        {"name": "bq-dob", "connections": [CONNECTION], "columns": [f"{DATASET}.patients.dob"], "technique": "year"},
    ],
    "policies": [
        {
            "name": "bq-writes",
            "connections": [CONNECTION],
            "when": {"operation": ["write"], "touches_phi": True},
            "action": "require_approval",
            "reviewers": ["privacy-officers"],
        },
    ],
}


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service itself, with a clinic in it."""
    try:
        if not is_ready():
            ensure_emulator()
    except StackProblem as problem:
        pytest.skip(str(problem))
    with running_service() as running:
        running.make_dataset(DATASET)
        running.sql(_PATIENTS)
        running.sql(_WARDS)
        yield running


@pytest.fixture(scope="session")
def warehouse(stack: Stack, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection, applied to the running product and taken away again. Returns the address clients dial."""
    directory = tmp_path_factory.mktemp("bigquery")
    (directory / "key.json").write_text(json.dumps(service.key), encoding="utf-8")
    connection = {
        "name": CONNECTION,
        "kind": "bigquery",
        "project": PROJECT,
        "api_endpoint": service.url,
        "credentials": {"file": "key.json"},
        "subjects": [{"name": "patient", "columns": [f"{DATASET}.patients.id", f"{DATASET}.patients.contact.email"]}],
    }
    apply(stack, directory, {**RULES, "connections": [connection]})
    until_served(stack, CONNECTION)
    yield stack.demo["http_url"]
    apply(stack, directory, {**RULES, "connections": [{**connection, "enabled": False}]})


@pytest.fixture(scope="session")
def credentials_file(stack: Stack, warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an agent is given: an `external_account` file over a file with its own token."""
    directory = tmp_path_factory.mktemp("agent")
    (directory / "token").write_text(stack.agent_token(AGENT), encoding="utf-8")
    content = {
        "type": "external_account",
        "audience": warehouse,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{warehouse}/v1/token",
        "credential_source": {"file": str(directory / "token")},
    }
    path = directory / "credentials.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def until_served(stack: Stack, connection: str, *, served: bool = True) -> None:
    """The gateway takes new rules within a second or two; on a busy machine later."""
    url = f"{stack.demo['http_url']}/c/{connection}/bigquery/v2/projects/{PROJECT}/datasets"
    headers = {"Authorization": f"Bearer {stack.agent_token(AGENT)}"}
    deadline = time.monotonic() + 60
    while (httpx.get(url, headers=headers, timeout=60, trust_env=False).status_code == httpx.codes.OK) is not served:
        assert time.monotonic() < deadline, (
            f"the gateway {'does not serve' if served else 'still serves'} the connection"
        )
        time.sleep(0.2)


def apply(stack: Stack, directory: Path, document: dict[str, Any]) -> None:
    path = directory / "rules.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = stack.manage("apply", "-f", str(path))
    assert done.returncode == 0, done.stderr
