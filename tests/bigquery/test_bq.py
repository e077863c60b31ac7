"""The `bq` command, unmodified, where the Google Cloud SDK is installed; and what it is made with, everywhere.

`bq` asks an address it does not know for the API's description, and goes by that: so does google-api-python-client.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseUpload

from gateway.protocols.bigquery.endpoints import ENDPOINTS
from tests.bigquery.conftest import CONNECTION, DATASET, SSN
from tests.bigquery.service import PROJECT, Service
from tests.stack import Stack

pytestmark = pytest.mark.e2e

PROGRAM = shutil.which("bq")
HIDDEN = "[REDACTED]"
DESCRIPTION = "$discovery/rest?version={apiVersion}"
needs_sdk = pytest.mark.skipif(PROGRAM is None, reason="the bq command (Google Cloud SDK) is not installed")


class Bq:
    def __init__(self, address: str, directory: Path, token: str) -> None:
        (directory / "token").write_text(token, encoding="utf-8")
        self._address = address
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HOOPWEB_", "DJANGO_"))},
            "CLOUDSDK_CONFIG": str(directory),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(directory / "token"),
        }

    def __call__(self, *arguments: str) -> str:
        """What it says on either channel."""
        command = [str(PROGRAM), "--api", self._address, "--project_id", PROJECT, "--quiet", *arguments]
        done = subprocess.run(
            command, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def bq(stack: Stack, warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> Bq:
    return Bq(f"{warehouse}/c/{CONNECTION}", tmp_path_factory.mktemp("bq"), stack.agent_token())


@needs_sdk
def test_bq_shows_results_masked(bq: Bq, service: Service) -> None:
    text = f"SELECT id, ssn FROM {DATASET}.patients ORDER BY id LIMIT 2"
    assert SSN in json.dumps(service.sql(text))  # the control

    rows = json.loads(bq("--format=json", "query", "--nouse_legacy_sql", text))

    assert rows == [{"id": "1", "ssn": HIDDEN}, {"id": "2", "ssn": HIDDEN}]


@needs_sdk
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("head", "-n", "2", f"{DATASET}.patients"), HIDDEN),
        (("show", f"{DATASET}.patients"), "ssn: string"),
        (
            ("query", "--nouse_legacy_sql", "--dry_run", f"SELECT id FROM {DATASET}.wards"),
            "will process 10485760 bytes",
        ),
        (("query", f"SELECT id FROM [{DATASET}.wards]"), "legacy SQL is not served"),
        (("mk", "made"), "use a DDL statement in a query"),
    ],
)
@pytest.mark.by_turns(2)
def test_bq_is_told(bq: Bq, arguments: tuple[str, ...], says: str) -> None:
    told = bq(*arguments)

    assert says in " ".join(told.split())
    assert SSN not in told


@pytest.fixture(scope="module")
def api(stack: Stack, warehouse: str) -> Any:
    address, credentials = f"{warehouse}/c/{CONNECTION}", Credentials(stack.agent_token())
    return build("bigquery", "v2", credentials=credentials, discoveryServiceUrl=f"{address}/{DESCRIPTION}")


def test_the_library_beneath_bq_runs_and_reads(api: Any) -> None:
    body = {"query": f"SELECT id, ssn FROM {DATASET}.patients ORDER BY id LIMIT 3", "useLegacySql": False}
    job = api.jobs().insert(projectId=PROJECT, body={"configuration": {"query": body}}).execute()
    job_id = job["jobReference"]["jobId"]
    asked = {"projectId": PROJECT, "jobId": job_id, "maxResults": 2}
    first = api.jobs().getQueryResults(**asked, timeoutMs=60_000).execute()
    second = api.jobs().getQueryResults(**asked, pageToken=first["pageToken"]).execute()

    assert [row["f"][0]["v"] for row in [*first["rows"], *second["rows"]]] == ["1", "2", "3"]
    assert {row["f"][1]["v"] for row in [*first["rows"], *second["rows"]]} == {HIDDEN}
    kept = api.jobs().get(projectId=PROJECT, jobId=job_id).execute()
    assert kept["statistics"]["query"]["statementType"] == ""  # `bq` needs the field, dbt another word than SELECT
    listed = api.jobs().list(projectId=PROJECT, stateFilter=["done"]).execute()["jobs"]
    assert job_id in [each["jobReference"]["jobId"] for each in listed]
    assert "jobs" not in api.jobs().list(projectId=PROJECT, parentJobId=job_id).execute()
    rows = api.tabledata().list(projectId=PROJECT, datasetId=DATASET, tableId="patients", maxResults=1).execute()
    assert rows["rows"][0]["f"][1]["v"] == HIDDEN


def test_the_library_uploads(api: Any, service: Service) -> None:
    table = {"projectId": PROJECT, "datasetId": DATASET, "tableId": "wards"}
    load = {"destinationTable": table, "sourceFormat": "NEWLINE_DELIMITED_JSON", "writeDisposition": "WRITE_APPEND"}
    media = MediaIoBaseUpload(
        io.BytesIO(b'{"id": 7001, "name": "uploaded"}\n'), "application/octet-stream", resumable=False
    )

    job = api.jobs().insert(projectId=PROJECT, body={"configuration": {"load": load}}, media_body=media).execute()

    job_id = job["jobReference"]["jobId"]
    while job["status"]["state"] != "DONE":
        job = api.jobs().get(projectId=PROJECT, jobId=job_id).execute()
    assert "errorResult" not in job["status"]
    assert int(service.sql(f"SELECT COUNT(*) FROM {DATASET}.wards WHERE id = 7001")["rows"][0]["f"][0]["v"]) >= 1


def test_what_is_refused_says_why_to_the_library(api: Any) -> None:
    with pytest.raises(HttpError, match="use a DDL statement") as refused:
        api.datasets().insert(projectId=PROJECT, body={"datasetReference": {"datasetId": "made"}}).execute()

    assert refused.value.status_code == 403
    batch = api.new_batch_http_request()
    batch.add(api.jobs().list(projectId=PROJECT))
    with pytest.raises(HttpError) as unknown:
        batch.execute()
    assert unknown.value.status_code in (403, 404)


def test_the_description_is_the_table_and_says_nothing_of_what_is_here(warehouse: str) -> None:
    url = f"{warehouse}/c/nobodys/$discovery/rest"
    told = httpx.get(url, params={"version": "v2"}, trust_env=False, timeout=60)

    document = told.json()
    resources = document["resources"]
    methods = {f"{name}.{method}" for name, found in resources.items() for method in found["methods"]}
    assert methods == {endpoint.name for endpoint in ENDPOINTS}
    assert document["rootUrl"] == f"{warehouse}/c/nobodys/"
    assert PROJECT not in told.text
    assert httpx.get(url, params={"version": "v3"}, trust_env=False, timeout=60).status_code == 404
    assert httpx.post(url, trust_env=False, timeout=60).status_code == 404
