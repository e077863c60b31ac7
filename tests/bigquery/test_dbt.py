"""dbt through the gateway, unmodified: what it builds, and what it is not let build (`make soak`).

dbt pins libraries the product has in other versions, so it lives in an environment of its own, made here once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bigquery.conftest import CONNECTION, DATASET, RULES, apply, until_served
from tests.bigquery.service import PROJECT, Service
from tests.stack import Stack

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not os.environ.get("HOOPWEB_SOAK"), reason="installs dbt and builds with it: make soak"),
]

REQUIREMENTS = ("dbt-core==1.9.*", "dbt-bigquery==1.9.*")
WITHIN_S = 400
MODELS = {
    "wards_seen": f"SELECT ward, COUNT(*) AS patients FROM {DATASET}.patients GROUP BY ward",
    "per_ward": "{{ config(materialized='table') }} SELECT ward, COUNT(*) AS patients"
    f" FROM {DATASET}.patients GROUP BY ward",
    "copied": f"{{{{ config(materialized='table') }}}} SELECT id, ssn AS z FROM {DATASET}.patients",
    "looked_at": f"SELECT id, ssn AS z FROM {DATASET}.patients",
    "over": "SELECT id FROM {{ ref('looked_at') }}",
    "over_that": "SELECT COUNT(*) AS n FROM {{ ref('over') }}",
    "per_ward_again": "{{ config(materialized='incremental', unique_key='ward') }}"
    " SELECT * FROM {{ ref('wards_seen') }}",
    "copied_again": "{{ config(materialized='table') }} SELECT z FROM {{ ref('looked_at') }}",
}
PROFILE = {
    "clinic": {
        "target": "dev",
        "outputs": {
            "dev": {"type": "bigquery", "method": "oauth", "project": PROJECT, "dataset": "built", "threads": 1}
        },
    }
}


@pytest.fixture(scope="module")
def dbt() -> Path:
    """The program, installed beside the product."""
    directory = Path(sys.prefix) / "dbt"
    program = directory / "bin" / "dbt"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *REQUIREMENTS], check=True)
    return program


@pytest.fixture(scope="module")
def builder(stack: Stack, warehouse: str, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The agent may define as well, and no policy holds what it does."""
    directory = tmp_path_factory.mktemp("builder")
    service.make_dataset("built")
    rights = {"groups": ["ai-agents"], "connections": [CONNECTION], "operations": ["read", "write", "ddl"]}
    holds_nothing = [{**RULES["policies"][0], "when": {"tables": ["nowhere.*"]}}]
    apply(stack, directory, {**RULES, "access": [{"name": "warehouse", **rights}], "policies": holds_nothing})
    until_served(stack, CONNECTION)
    yield warehouse
    apply(stack, directory, RULES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    for name, text in MODELS.items():
        (tmp_path / "models" / f"{name}.sql").write_text(text, encoding="utf-8")
    tests = [{"name": "per_ward", "columns": [{"name": "ward", "tests": ["unique", "not_null"]}]}]
    documents: dict[str, Any] = {
        "models/schema.yml": {"version": 2, "models": tests},
        "profiles.yml": PROFILE,
        "dbt_project.yml": {
            "name": "clinic", "version": "1.0", "config-version": 2, "profile": "clinic", "model-paths": ["models"],
        },
    }  # fmt: skip
    for name, content in documents.items():
        (tmp_path / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path


def test_dbt_builds_what_it_may(builder: str, dbt: Path, project: Path, credentials_file: Path) -> None:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HOOPWEB_", "DJANGO_"))},
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials_file),
        "BIGQUERY_EMULATOR_HOST": builder,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    command = [str(dbt), "build", "--project-dir", str(project), "--profiles-dir", str(project)]

    done = subprocess.run(command, env=env, cwd=project, capture_output=True, text=True, timeout=WITHIN_S, check=False)

    results = json.loads((project / "target" / "run_results.json").read_text(encoding="utf-8"))["results"]
    told = {result["unique_id"].split(".")[2]: (result["status"], result["message"] or "") for result in results}
    statuses = {name: status for name, (status, _) in told.items()}
    built = set(MODELS) - {"copied", "copied_again"}
    assert {name: statuses[name] for name in built} == dict.fromkeys(built, "success"), done.stdout
    assert {status for name, status in statuses.items() if name.startswith(("unique", "not_null"))} == {"pass"}
    for name in ("copied", "copied_again"):  # read from the table, and through a view of dbt's own
        assert statuses[name] == "error"
        assert "unprotected-copy" in told[name][1]
        assert f"{DATASET}.patients.ssn" in told[name][1]
