"""Writes that are no statements: load and copy jobs, extracts, uploads, streamed rows, destination tables."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

from tests.bigquery.conftest import DATASET
from tests.bigquery.service import PROJECT, Service
from tests.bigquery.test_governed import MARK, bearer, decide, dial, entries, until
from tests.stack import Stack

__all__ = ["entries"]

PHI = f"{PROJECT}.{DATASET}.patients"
PLAIN = f"{PROJECT}.{DATASET}.notes"
COPY = f"{PROJECT}.{DATASET}.patients_copy"
APPEND = bigquery.WriteDisposition.WRITE_APPEND
JSON_LINES = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", write_disposition=APPEND)


@pytest.fixture(scope="module")
def client(stack: Stack, warehouse: str, service: Service) -> Iterator[bigquery.Client]:
    service.sql(f"CREATE TABLE `{PLAIN}` (id INT64, name STRING)")
    service.sql(f"CREATE TABLE `{COPY}` AS SELECT id, ssn FROM `{PHI}` WHERE id < 0")
    with dial(warehouse, Credentials(stack.agent_token())) as opened:
        yield opened


@pytest.fixture
def count(service: Service) -> Callable[[str, str], int]:
    def counted(table: str, where: str = "TRUE") -> int:
        return int(service.sql(f"SELECT COUNT(*) FROM `{table}` WHERE {where}")["rows"][0]["f"][0]["v"])

    return counted


def waiting(client: bigquery.Client, job: Any) -> Any:
    """The job once it says where its review is."""
    return until(lambda: (found := client.get_job(job.job_id)).labels.get("hoopweb_review") and found)


# --- loads -----------------------------------------------------------------------------------------------------------


def test_rows_are_loaded_in_one_request(client: bigquery.Client, count, entries) -> None:  # type: ignore[no-untyped-def]
    job = client.load_table_from_json([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], PLAIN, job_config=JSON_LINES)
    job.result(timeout=90)

    assert count(PLAIN, "name IN ('a', 'b')") == 2
    assert client.get_job(job.job_id).job_type == "load"
    (done,) = until(lambda: entries("statement.completed", rows=2))
    assert done["protocol"] == "bigquery"
    (authorised,) = [body for body in entries("statement.authorised") if body["kind"] == "LOAD_DATA"]
    assert authorised["tables_written"] == [f"{DATASET}.notes"]


def test_a_file_is_loaded_piece_by_piece(client: bigquery.Client, count) -> None:  # type: ignore[no-untyped-def]
    lines = "id,name\n" + "".join(f"{number},piece\n" for number in range(200_000))
    config = bigquery.LoadJobConfig(source_format="CSV", write_disposition=APPEND, skip_leading_rows=1)

    client.load_table_from_file(io.BytesIO(lines.encode()), PLAIN, job_config=config).result(timeout=60)

    assert count(PLAIN, "name = 'piece'") == 200_000


def test_a_load_of_protected_columns_waits_and_can_be_denied(
    stack: Stack, client: bigquery.Client, count: Callable[..., int]
) -> None:
    rows = [{"id": 70_001, "ssn": f"123-45-{MARK % 10_000:04}"}]
    first = waiting(client, client.load_table_from_json(rows, PHI, job_config=JSON_LINES))
    assert first.state == "PENDING"
    assert count(PHI, "id = 70001") == 0
    decide(stack, first, "deny")
    with pytest.raises(Forbidden, match="a reviewer denied"):
        first.result(timeout=90)

    second = waiting(client, client.load_table_from_json(rows, PHI, job_config=JSON_LINES))
    decide(stack, second, "approve")
    second.result(timeout=90)

    assert count(PHI, "id = 70001") == 1


def test_what_came_masked_is_not_loaded_back(client: bigquery.Client, count: Callable[..., int]) -> None:
    rows = [{"id": 70_002, "ssn": "[REDACTED]"}]
    with pytest.raises(Forbidden, match="masked value"):
        client.load_table_from_json(rows, PHI, job_config=JSON_LINES).result(timeout=90)

    client.load_table_from_json([{"id": 70_002, "name": "[REDACTED]"}], PLAIN, job_config=JSON_LINES).result(timeout=90)
    assert (count(PHI, "id = 70002"), count(PLAIN, "name = '[REDACTED]'")) == (0, 1)


def test_a_file_nobody_can_read_does_not_go_into_protected_columns(client: bigquery.Client) -> None:
    import pandas

    frame = pandas.DataFrame({"id": [70_003], "ssn": ["[REDACTED]"]})
    config = bigquery.LoadJobConfig(write_disposition=APPEND)
    with pytest.raises(Forbidden, match="cannot be looked through"):
        client.load_table_from_dataframe(frame, PHI, job_config=config).result(timeout=90)


def test_pandas_writes_a_frame(client: bigquery.Client, count: Callable[..., int]) -> None:
    import pandas
    import pandas_gbq

    frame = pandas.DataFrame({"id": [80_001, 80_002], "name": ["frame", "frame"]})
    pandas_gbq.to_gbq(
        frame, f"{DATASET}.notes", PROJECT, if_exists="append", bigquery_client=client, progress_bar=False
    )

    assert count(PLAIN, "name = 'frame'") == 2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda c: c.load_table_from_json([{"a": 1}], f"{DATASET}.made"), "ddl"),
        (lambda c: c.delete_table(PHI), "ddl"),
        (lambda c: c.load_table_from_uri("gs://bucket/x.csv", PLAIN, job_config=JSON_LINES), "admin"),
        (lambda c: c.load_table_from_uri("https://example.org/x", PLAIN, job_config=JSON_LINES), "Cloud Storage"),
        (lambda c: c.extract_table(PHI, "gs://bucket/out.csv"), "admin|Query error|withheld"),
        (lambda c: c.copy_table(PHI, f"{PROJECT}.{DATASET}.made"), "ddl"),
        (lambda c: c.copy_table(PHI, f"{PROJECT}._hidden.made"), "admin|not served"),
        (lambda c: c.copy_table(f"{PHI}$20260101", PLAIN), "malformed"),
        (lambda c: c.insert_rows_json(f"{PROJECT}.{DATASET}.patients", [{"a`b": 1}]), "malformed|not served"),
    ],
)
def test_what_needs_another_right_says_which(client: bigquery.Client, call: Callable[..., Any], says: str) -> None:
    with pytest.raises(GoogleAPICallError, match=says):
        call(client).result(timeout=90)


def test_an_upload_is_its_owners_alone(stack: Stack, warehouse: str, client: bigquery.Client) -> None:
    url = f"{warehouse}/upload/bigquery/v2/projects/{PROJECT}/jobs"
    reference = {"projectId": PROJECT, "datasetId": DATASET, "tableId": "notes"}
    body = {"configuration": {"load": {"destinationTable": reference, "writeDisposition": "WRITE_APPEND"}}}
    begun = httpx.post(url, params={"uploadType": "resumable"}, json=body, headers=bearer(stack), timeout=30)
    place, part = begun.headers["location"], {"Content-Range": "bytes 0-1/*"}
    until(
        lambda: (
            httpx.get(f"{warehouse}/bigquery/v2/projects", headers=bearer(stack, "other-agent"), timeout=60).is_success
        )
    )

    assert (
        httpx.put(place, content=b"1,", headers={**bearer(stack, "other-agent"), **part}, timeout=60).status_code == 404
    )
    assert httpx.put(place, content=b"1,", headers=part, timeout=60).status_code == 401
    assert httpx.put(place, content=b"1,", headers={**bearer(stack), **part}, timeout=60).status_code == 308
    assert (
        httpx.put(place, content=b"1,", headers={**bearer(stack), **part}, timeout=60).status_code == 400
    )  # not what follows
    assert httpx.delete(place, headers=bearer(stack), timeout=60).status_code == 499


# --- copies and destinations -----------------------------------------------------------------------------------------


def test_a_copy_of_protected_columns_waits(stack: Stack, client: bigquery.Client, service: Service) -> None:
    config = bigquery.CopyJobConfig(write_disposition=APPEND)
    source = f"{PROJECT}.{DATASET}.patients_copy"
    job = waiting(client, client.copy_table(PHI, source, job_config=config))

    decide(stack, job, "deny")

    with pytest.raises(Forbidden, match="a reviewer denied"):
        job.result(timeout=90)
    assert not [seen for seen in service.shim.requests if "copy" in seen.body.get("configuration", {})]


def test_a_copy_runs_as_the_services_own_job(client: bigquery.Client, service: Service) -> None:
    service.sql(f"CREATE TABLE {DATASET}.notes_copy AS SELECT * FROM `{PLAIN}` WHERE FALSE")
    config = bigquery.CopyJobConfig(write_disposition=APPEND)

    job = client.copy_table(PLAIN, f"{PROJECT}.{DATASET}.notes_copy", job_config=config)
    job.result(timeout=90)

    sent = [seen.body for seen in service.shim.requests if "copy" in seen.body.get("configuration", {})]
    assert sent[-1]["configuration"]["copy"]["writeDisposition"] == "WRITE_APPEND"
    assert sent[-1]["configuration"]["labels"].keys() >= {"hoopweb_statement"}
    assert client.get_job(job.job_id).destination.table_id == "notes_copy"


def test_a_querys_destination_is_a_write(
    stack: Stack, client: bigquery.Client, service: Service, count: Callable[..., int]
) -> None:
    service.sql(f"CREATE TABLE {DATASET}.wards_copy AS SELECT * FROM {DATASET}.wards WHERE FALSE")
    into = bigquery.QueryJobConfig(destination=f"{PROJECT}.{DATASET}.wards_copy", write_disposition=APPEND)
    job = client.query(f"SELECT id, name FROM {DATASET}.wards WHERE id < 3", job_config=into)
    job.result(timeout=90)
    assert count(f"{DATASET}.wards_copy") == 2
    assert client.get_job(job.job_id).destination is None  # who knows one reads it past the gateway

    new = bigquery.QueryJobConfig(destination=f"{PROJECT}.{DATASET}.made", write_disposition=APPEND)
    with pytest.raises(Forbidden, match="ddl"):
        client.query(f"SELECT id FROM {DATASET}.wards", job_config=new).result(timeout=90)
    copied = bigquery.QueryJobConfig(destination=COPY, write_disposition=APPEND)
    held = waiting(client, client.query(f"SELECT id, ssn FROM `{PHI}` WHERE id = 8", job_config=copied))
    assert count(COPY, "id = 8") == 0
    decide(stack, held, "approve")
    held.result(timeout=90)
    assert count(COPY, "id = 8") == 1


# --- streamed rows ---------------------------------------------------------------------------------------------------


def test_rows_are_streamed(client: bigquery.Client, count, entries) -> None:  # type: ignore[no-untyped-def]
    rows = [{"id": 90_100 + number, "name": "streamed"} for number in range(17)]  # as many as nothing else has
    assert client.insert_rows_json(PLAIN, rows) == []

    assert count(PLAIN, "name = 'streamed'") == 17
    (done,) = until(lambda: entries("statement.completed", rows=17))
    assert done["protocol"] == "bigquery"


def test_rows_with_protected_columns_wait_for_their_approval(
    stack: Stack, client: bigquery.Client, count: Callable[..., int]
) -> None:
    rows = [{"id": 90_002, "ssn": f"321-54-{MARK % 10_000:04}"}]
    with pytest.raises(Forbidden, match="waits for approval") as caught:
        client.insert_rows_json(PHI, rows, row_ids=["one"])
    review = str(caught.value).split("/reviews/")[1].split("/")[0].split()[0]
    assert count(PHI, "id = 90002") == 0

    answer = stack.rest(
        "POST", f"/api/v1/reviews/{review}/decision", user="reviewer", json={"decision": "approve", "reason": "ok"}
    )
    assert answer.status_code == 200, answer.text
    assert client.insert_rows_json(PHI, rows, row_ids=["one"]) == []
    assert count(PHI, "id = 90002") == 1


def test_streamed_rows_of_no_table_are_not_found(client: bigquery.Client) -> None:
    with pytest.raises((NotFound, Forbidden)):
        client.insert_rows_json(f"{PROJECT}.{DATASET}.nothing", [{"id": 1}])
