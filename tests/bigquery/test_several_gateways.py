"""Two gateway processes, and a client whose requests reach either: a job begun at one is known at both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.api_core.exceptions import Conflict, NotFound
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

from tests.bigquery.conftest import CONNECTION, DATASET
from tests.bigquery.service import PROJECT, Service
from tests.bigquery.test_governed import HIDDEN, MARK, TABLE, bearer, can_ask, decide, dial, status_of, until, ward_of
from tests.chaos.gateways import Gateway, another_gateway
from tests.stack import Stack

BASE = f"/bigquery/v2/projects/{PROJECT}"


@pytest.fixture(scope="module")
def other(stack: Stack, warehouse: str) -> Iterator[Gateway]:
    with another_gateway(stack) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def pair(stack: Stack, warehouse: str, other: Gateway) -> Iterator[tuple[bigquery.Client, bigquery.Client]]:
    """The same agent at both."""
    with contextlib.ExitStack() as opened:
        addresses = (warehouse, f"http://127.0.0.1:{other.http_port}")
        here, there = (opened.enter_context(dial(each, Credentials(stack.agent_token()))) for each in addresses)
        until(lambda: can_ask(there))
        yield here, there


def test_a_job_is_paged_at_either(pair: tuple[bigquery.Client, bigquery.Client]) -> None:
    here, there = pair
    job = here.query(f"SELECT id, ssn FROM {TABLE} ORDER BY id LIMIT 3000")
    job.result(max_results=1)

    rows = list(there.get_job(job.job_id).result(page_size=1000))

    assert [row.id for row in rows] == list(range(1, 3001))
    assert {row.ssn for row in rows} == {HIDDEN}


def test_a_held_job_is_waited_for_at_one_and_cancelled_at_the_other(
    stack: Stack, pair: tuple[bigquery.Client, bigquery.Client], service: Service
) -> None:
    here, there = pair
    job = here.query(f"UPDATE {TABLE} SET ssn = 'new-{MARK}-a', ward = 60 WHERE id = 160")
    seen = until(lambda: (found := there.get_job(job.job_id)).labels.get("hoopweb_review") and found)
    assert seen.state == "PENDING"
    decide(stack, seen, "approve")
    seen.result(timeout=60)
    assert ward_of(service, 160) == 60

    withdrawn = there.query(f"UPDATE {TABLE} SET ssn = 'new-{MARK}-b', ward = 61 WHERE id = 161")
    review = until(lambda: here.get_job(withdrawn.job_id).labels.get("hoopweb_review"))
    here.cancel_job(withdrawn.job_id)
    until(lambda: there.get_job(withdrawn.job_id).state == "DONE")
    number = review.rstrip("/").rsplit("/", 1)[-1]
    until(lambda: status_of(stack, number) == "withdrawn")
    assert ward_of(service, 161) != 61


def test_every_job_is_listed_at_either_and_its_id_taken(pair: tuple[bigquery.Client, bigquery.Client]) -> None:
    here, there = pair
    for client, job_id in ((here, f"two-{MARK}-here"), (there, f"two-{MARK}-there")):
        client.query("SELECT 1", job_id=job_id, retry=None, job_retry=None).result()

    for client in pair:
        listed = [job.job_id for job in client.list_jobs(max_results=30)]
        assert {f"two-{MARK}-here", f"two-{MARK}-there"} <= set(listed)
    with pytest.raises(Conflict, match="Already Exists"):
        there.query("SELECT 2", job_id=f"two-{MARK}-here", retry=None, job_retry=None)


def test_a_repeated_call_is_the_same_job_at_either(stack: Stack, warehouse: str, other: Gateway) -> None:
    body = {"query": f"SELECT {MARK} AS mark", "useLegacySql": False, "requestId": f"two-{MARK}"}
    places = (warehouse, f"http://127.0.0.1:{other.http_port}")

    first, second = (
        httpx.post(f"{each}{BASE}/queries", json=body, headers=bearer(stack), timeout=60).json() for each in places
    )

    assert first["jobReference"] == second["jobReference"]


def test_an_upload_goes_on_at_the_other(stack: Stack, warehouse: str, other: Gateway, service: Service) -> None:
    service.sql(f"CREATE TABLE {DATASET}.two AS SELECT 1 AS id, 'a' AS name FROM UNNEST([]) AS n")
    reference = {"projectId": PROJECT, "datasetId": DATASET, "tableId": "two"}
    load = {"destinationTable": reference, "writeDisposition": "WRITE_APPEND", "sourceFormat": "NEWLINE_DELIMITED_JSON"}
    url = f"{warehouse}/upload{BASE}/jobs"
    body, kind = {"configuration": {"load": load}}, {"uploadType": "resumable"}
    begun = httpx.post(url, params=kind, json=body, headers=bearer(stack), timeout=60)
    there = begun.headers["location"].replace(warehouse, f"http://127.0.0.1:{other.http_port}")
    line = b'{"id": 5, "name": "b"}\n'

    half = httpx.put(there, content=line[:10], headers={**bearer(stack), "Content-Range": "bytes 0-9/*"}, timeout=60)
    assert (half.status_code, half.headers["range"]) == (308, "bytes=0-9")
    span = f"bytes 10-{len(line) - 1}/{len(line)}"
    job = httpx.put(there, content=line[10:], headers={**bearer(stack), "Content-Range": span}, timeout=60).json()

    job_url = f"{warehouse}{BASE}/jobs/{job['jobReference']['jobId']}"

    def ended() -> Any:
        job = httpx.get(job_url, headers=bearer(stack), timeout=60).json()
        return job["status"]["state"] == "DONE" and job

    done = until(ended)
    assert "errorResult" not in done["status"]
    assert service.sql(f"SELECT COUNT(*) FROM {DATASET}.two")["rows"][0]["f"][0]["v"] == "1"


def test_nobody_elses_job_is_handed_over(
    stack: Stack, pair: tuple[bigquery.Client, bigquery.Client], other: Gateway
) -> None:
    here, _ = pair
    job = here.query(f"SELECT ssn FROM {TABLE} LIMIT 1")
    job.result()
    address = f"http://127.0.0.1:{other.http_port}"
    until(lambda: can_ask(dial(address, Credentials(stack.agent_token("other-agent")))))

    with dial(address, Credentials(stack.agent_token("other-agent"))) as stranger:
        with pytest.raises(NotFound):
            stranger.get_job(job.job_id)
        assert job.job_id not in [listed.job_id for listed in stranger.list_jobs()]
    path = f"{address}/c/{CONNECTION}{BASE}/jobs/{job.job_id}"
    assert httpx.get(path, headers={"Authorization": "Bearer x.y.z"}, timeout=60).status_code == 401
    assert httpx.get(path, headers=bearer(stack), timeout=60).status_code == 200  # the control
