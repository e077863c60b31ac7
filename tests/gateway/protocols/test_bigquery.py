"""Endpoints, requests and answers of BigQuery's API: everything understood or refused, nothing passed on unread."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocols.bigquery import resources
from gateway.protocols.bigquery.endpoints import ENDPOINTS, find_endpoint, owns
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.parameters import positional
from gateway.protocols.bigquery.requests import QueryRequest, read_job, read_query
from gateway.protocols.bigquery.resources import JobFacts, job_resource, table_resource
from gateway.protocols.bigquery.values import plain_row

PREFIX = "/bigquery/v2"


def query(**more: Any) -> dict[str, Any]:
    return {"query": "SELECT 1", "useLegacySql": False, **more}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_row_is_found_by_a_path_of_its_own(endpoint: Any) -> None:
    path = endpoint.path.replace("{", "").replace("}", "-1")

    found = find_endpoint(endpoint.method, PREFIX + path)

    assert found is not None
    assert found.endpoint is endpoint


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{PREFIX}/projects/p/datasets/d/tables/t/other"),
        ("DELETE", f"{PREFIX}/projects/p/queries/j"),
        ("GET", f"{PREFIX}/projects/p//datasets"),
        ("GET", f"{PREFIX}x/projects"),
        ("POST", f"{PREFIX}/projects/p/jobs/"),
    ],
)
def test_what_is_not_on_the_table_is_not_found(method: str, path: str) -> None:
    assert find_endpoint(method, path) is None


def test_uploads_are_refused_as_such() -> None:
    found = find_endpoint("POST", "/upload/bigquery/v2/projects/p/jobs")

    assert found is not None
    assert found.endpoint.refusal
    assert owns("/resumable/upload/bigquery/v2/projects/p/jobs")
    assert not owns("/bigquery/v20/projects")


def test_job_is_read_whole() -> None:
    asked = read_job(
        {
            "jobReference": {"projectId": "p", "jobId": "j-1", "location": "EU"},
            "configuration": {
                "query": query(
                    defaultDataset={"projectId": "other", "datasetId": "d"},
                    queryParameters=[
                        {"name": "a", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "7"}}
                    ],
                    parameterMode="named",
                    maximumBytesBilled="100",
                    priority="BATCH",
                    writeDisposition="WRITE_EMPTY",
                ),
                "labels": {"team": "a"},
            },
        },
        project="p",
    )

    assert (asked.job_id, asked.location, asked.default_dataset, asked.priority) == ("j-1", "EU", "other.d", "BATCH")
    assert (asked.maximum_bytes_billed, asked.labels, asked.parameter_mode) == (100, (("team", "a"),), "NAMED")
    assert asked.declared == '[{"name":"a","parameterType":{"type":"INT64"}}]'
    assert asked.bound == (b'[{"name":"a","parameterType":{"type":"INT64"},"parameterValue":{"value":"7"}}]',)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"query": "SELECT 1"}, "invalid"),  # the service's default is legacy SQL
        (query(useLegacySql=True), "invalid"),
        (query(query="#legacySQL\nSELECT 1"), "invalid"),
        (query(query=""), "invalid"),
        (query(query="x" * 1_000_001), "invalid"),
        (query(createSession=True), "accessDenied"),
        (query(connectionProperties=[{"key": "time_zone", "value": "UTC"}]), "accessDenied"),
        (query(something="new"), "invalid"),
        (query(queryParameters=[{"name": "a"}]), "invalid"),
        (query(queryParameters="a"), "invalid"),
        (query(labels={"a": 1}), "invalid"),
        (query(timeoutMs="soon"), "invalid"),
        (query(maxResults=-1), "invalid"),
        (query(maximumBytesBilled=True), "invalid"),
        (query(defaultDataset={"datasetId": "a.b"}), "invalid"),
        (query(formatOptions={"timestampOutputFormat": "ISO8601_STRING"}), "invalid"),
    ],
)
def test_what_is_not_understood_is_refused(body: dict[str, Any], reason: str) -> None:
    with pytest.raises(BigQueryError) as caught:
        read_query(body, project="p")

    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["load", "copy", "extract"])
def test_other_jobs_are_refused(kind: str) -> None:
    with pytest.raises(BigQueryError, match="not served") as caught:
        read_job({"configuration": {kind: {"sourceUris": ["gs://b/o"]}}}, project="p")

    assert caught.value.status == 403


@pytest.mark.parametrize("job_id", ["a/b", "a b", "ü", "x" * 1025])
def test_job_ids_of_another_form_are_refused(job_id: str) -> None:
    with pytest.raises(BigQueryError):
        read_job({"jobReference": {"jobId": job_id}, "configuration": {"query": query()}}, project="p")


def test_destination_tables_are_refused_and_never_told() -> None:
    with pytest.raises(BigQueryError, match="CREATE TABLE"):
        read_job({"configuration": {"query": query(destinationTable={"tableId": "t"})}}, project="p")
    job = JobFacts("p", "j", "US", "agent", QueryRequest("SELECT 1"), "DONE", "SELECT 1")

    assert "destinationTable" not in str(job_resource(job))


def test_labels_of_ours_win() -> None:
    request = QueryRequest("SELECT 1", labels=((resources.REVIEW_LABEL, "http://elsewhere"),))
    job = JobFacts("p", "j", "US", "a", request, "PENDING", "SELECT 1", labels={resources.REVIEW_LABEL: "ours"})

    assert job_resource(job)["configuration"]["labels"][resources.REVIEW_LABEL] == "ours"


def test_tables_lose_what_others_wrote() -> None:
    table = {
        "type": "VIEW",
        "description": "078-05-1120",
        "view": {"query": "SELECT '078-05-1120'"},
        "schema": {
            "fields": [
                {
                    "name": "a",
                    "type": "RECORD",
                    "fields": [{"name": "b", "type": "STRING", "description": "078-05-1120"}],
                }
            ]
        },
    }

    shown = table_resource(table, {"a.b": "masked"})

    assert "078-05-1120" not in str(shown)
    assert shown["schema"]["fields"][0]["fields"][0]["description"] == "masked"


def test_rows_as_plain_values() -> None:
    fields = [
        {"name": "n", "type": "INTEGER"},
        {"name": "r", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "x", "type": "STRING"}]},
    ]
    row = {"f": [{"v": "1"}, {"v": [{"v": {"f": [{"v": "a"}]}}, {"v": {"f": [{"v": None}]}}]}]}

    assert plain_row(row, fields) == ["1", [{"x": "a"}, {"x": None}]]


def test_plain_values_become_parameters() -> None:
    named = {"name": "a", "parameterType": {"type": "DATE"}, "parameterValue": {"value": "2026-01-01"}}

    assert positional([1, 2.5, True, "a", None, named]) == [
        {"parameterType": {"type": "INT64"}, "parameterValue": {"value": "1"}},
        {"parameterType": {"type": "FLOAT64"}, "parameterValue": {"value": "2.5"}},
        {"parameterType": {"type": "BOOL"}, "parameterValue": {"value": "true"}},
        {"parameterType": {"type": "STRING"}, "parameterValue": {"value": "a"}},
        {"parameterType": {"type": "STRING"}, "parameterValue": {"value": None}},
        named,
    ]
