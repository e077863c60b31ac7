"""Endpoints, requests and answers of BigQuery's API: everything understood or refused, nothing passed on unread."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from analysis.statement import Destination
from gateway.protocols.bigquery import resources
from gateway.protocols.bigquery.endpoints import ENDPOINTS, find_endpoint, owns
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.parameters import positional
from gateway.protocols.bigquery.requests import QueryRequest, read_job, read_query
from gateway.protocols.bigquery.resources import JobFacts, JobStatistics, job_resource, table_resource
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


def test_uploads_are_for_load_jobs_alone() -> None:
    found = find_endpoint("POST", "/upload/bigquery/v2/projects/p/jobs")

    assert found is not None
    assert found.endpoint.name == "jobs.upload"
    assert find_endpoint("GET", "/upload/bigquery/v2/projects/p/jobs") is None
    assert find_endpoint("POST", "/upload/bigquery/v2/projects/p/queries") is None
    assert find_endpoint("POST", "/upload/bigquery/v2/projects/p/datasets/d/tables/t/insertAll") is None
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


TABLE = {"projectId": "p", "datasetId": "d", "tableId": "t"}


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        ({"load": {"sourceUris": ["gs://b/o"]}}, "reference is malformed"),
        ({"load": {"destinationTable": TABLE, "sourceUris": ["s3://b/o"]}}, "Cloud Storage"),
        ({"load": {"destinationTable": TABLE, "sourceUris": ["gs://b/'], x = ['"]}}, "Cloud Storage"),
        (
            {
                "load": {
                    "destinationTable": TABLE,
                    "sourceUris": ["gs://b/o"],
                    "hivePartitioningOptions": {"mode": "AUTO"},
                }
            },
            "not served",
        ),
        ({"load": {"destinationTable": {**TABLE, "tableId": "t$20260101"}, "sourceUris": ["gs://b/o"]}}, "decorators"),
        ({"load": {"destinationTable": {**TABLE, "tableId": "t` x"}, "sourceUris": ["gs://b/o"]}}, "malformed"),
        ({"copy": {"destinationTable": TABLE, "sourceTables": []}}, "malformed|source"),
        ({"copy": {"destinationTable": TABLE, "sourceTable": TABLE, "operationType": "RESTORE"}}, "not served"),
        (
            {"copy": {"destinationTable": TABLE, "sourceTable": TABLE, "writeDisposition": "WRITE_ELSEWHERE"}},
            "disposition",
        ),
        ({"extract": {"sourceModel": {"modelId": "m"}, "destinationUris": ["gs://b/o"]}}, "not served"),
        ({"extract": {"sourceTable": TABLE, "destinationUris": ["gs://b/o"]}, "dryRun": True}, "dry run"),
        ({"copy": {"sourceTable": TABLE}, "load": {"destinationTable": TABLE}}, "more than one kind"),
        ({"copy": {"sourceTable": TABLE}, "query": {"query": "SELECT 1"}}, "more than one kind"),
    ],
)
def test_what_is_not_understood_of_other_jobs_is_refused(configuration: dict[str, Any], says: str) -> None:
    with pytest.raises(BigQueryError, match=says):
        read_job({"configuration": configuration}, project="p")


def test_other_jobs_are_the_statement_they_mean() -> None:
    load = {"destinationTable": TABLE, "schema": {"fields": [{"name": "a", "type": "STRING"}]}, "sourceFormat": "CSV"}
    copy = {"destinationTable": {**TABLE, "tableId": "u"}, "sourceTables": [TABLE, {**TABLE, "datasetId": "e"}]}
    extract = {"sourceTable": TABLE, "destinationUris": ["gs://b/o-*"], "destinationFormat": "AVRO"}

    texts = [
        read_job({"configuration": {"load": load}}, project="p", content=b"x").text,
        read_job({"configuration": {"copy": copy}}, project="p").text,
        read_job({"configuration": {"extract": extract}}, project="p").text,
    ]

    digest = hashlib.sha256(b"x").hexdigest()
    assert texts == [
        f"LOAD DATA INTO `p.d.t` (`a`) FROM FILES (format = 'CSV', uris = ['upload:sha256:{digest}'])",
        "SELECT * FROM `p.d.t`\nUNION ALL SELECT * FROM `p.e.t`",
        "EXPORT DATA OPTIONS (uri = 'gs://b/o-*', format = 'AVRO') AS SELECT * FROM `p.d.t`",
    ]


def test_an_approval_is_bound_to_all_of_a_job() -> None:
    plain = {"destinationTable": TABLE, "sourceTable": {**TABLE, "tableId": "s"}}
    settings = {
        read_job({"configuration": {"copy": {**plain, **more}}}, project="p").settings
        for more in ({}, {"writeDisposition": "WRITE_TRUNCATE"}, {"createDisposition": "CREATE_NEVER"})
    }

    assert len(settings) == 3


@pytest.mark.parametrize("job_id", ["a/b", "a b", "ü", "x" * 1025])
def test_job_ids_of_another_form_are_refused(job_id: str) -> None:
    with pytest.raises(BigQueryError):
        read_job({"jobReference": {"jobId": job_id}, "configuration": {"query": query()}}, project="p")


def test_a_querys_destination_is_understood_and_never_told() -> None:
    request = read_job(
        {"configuration": {"query": query(destinationTable=TABLE, writeDisposition="WRITE_APPEND")}}, project="p"
    )
    job = JobFacts("p", "j", "US", "agent", request, "DONE", "SELECT 1")

    assert request.target == Destination("p.d.t", "WRITE_APPEND")
    assert "WRITE_APPEND" in request.settings

    assert "destinationTable" not in str(job_resource(job))


def test_only_a_table_that_was_made_is_named() -> None:
    request = QueryRequest("CREATE TABLE d.t AS SELECT 1 AS a")
    made = JobStatistics(statement_type="CREATE_TABLE_AS_SELECT", made=TABLE)
    select = JobStatistics(statement_type="SELECT")

    told = job_resource(JobFacts("p", "j", "US", "a", request, "DONE", request.text, statistics=made))
    untold = job_resource(
        JobFacts("p", "j", "US", "a", QueryRequest("SELECT 1"), "DONE", "SELECT 1", statistics=select)
    )

    assert told["configuration"]["query"]["destinationTable"] == TABLE
    assert told["statistics"]["query"]["statementType"] == "CREATE_TABLE_AS_SELECT"
    assert untold["statistics"]["query"]["statementType"] == ""


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
