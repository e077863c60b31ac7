"""docs/bigquery.md, executed: its configuration applied, its credentials file used, its Python run as it stands there.

Replaced are what is the reader's own: the address, the project, the account's key, and names that are taken here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.bigquery.conftest import SSN, apply, until_served
from tests.bigquery.service import PROJECT, Service
from tests.stack import PROJECT as ROOT
from tests.stack import Stack

pytestmark = pytest.mark.e2e

NAME = "guide-warehouse"
ADDRESS = "https://gateway.example.org:8010"


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "bigquery.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def guided(
    stack: Stack, warehouse: str, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The administrator's part, and a directory as the agent has it. Returns the address to dial."""
    (configuration,) = blocks("yaml")
    text = configuration.replace("warehouse", NAME).replace("bq-", "guide-").replace("my-project", PROJECT)
    document = yaml.safe_load(text)
    (connection,) = document["connections"]
    connection["api_endpoint"] = service.url  # the reader's is Google's own
    (tmp_path / "service-account.json").write_text(json.dumps(service.key), encoding="utf-8")
    apply(stack, tmp_path, document)
    until_served(stack, NAME)
    address = f"{warehouse}/c/{NAME}"
    (credentials,) = blocks("json")
    token = tmp_path / "token"
    token.write_text(stack.agent_token(), encoding="utf-8")
    credentials = credentials.replace(ADDRESS, warehouse).replace("/var/run/secrets/agent/token", str(token))
    (tmp_path / "credentials.json").write_text(credentials, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield address
    apply(stack, tmp_path, {**document, "connections": [{**connection, "enabled": False}]})
    until_served(stack, NAME, served=False)


def test_the_guide_works_as_it_is_written(guided: str, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("python")
    program = program.replace(ADDRESS, guided).replace("my-project", PROJECT)
    names: dict[str, object] = {}

    exec(compile(program, "docs/bigquery.md", "exec"), names)

    printed = capsys.readouterr().out
    assert "'ssn': '[REDACTED]'" in printed
    assert "'email': '[REDACTED]'" in printed
    assert SSN[:7] not in printed
    assert len(names["frame"]) >= 50  # type: ignore[arg-type]  # wards, and what other tests wrote
    with names["engine"].connect() as connection:  # type: ignore[attr-defined]
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM clinic.patients").scalar() > 30_000
