"""Answers in BigQuery's words: jobs, query results, datasets, tables. Pure; what is not named here is not passed on.

Sources: `Job`, `QueryResponse`, `GetQueryResultsResponse`, `Table`, `Dataset` of the BigQuery API v2 reference.
The destination of a result is never named: a client that knows one fetches rows from the Storage API by itself, past
the gateway (docs/decisions/0013-bigquery-results-stay-on-rest.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import QueryRequest

# Labels a client sees on its job; they are ours, whatever the client sent under their names.
REVIEW_LABEL = "hoopweb_review"
MODIFIED_LABEL = "hoopweb_modified"
SESSION_LABEL = "hoopweb_session"
DECISION_LABEL = "hoopweb_decision"


@dataclass(frozen=True, slots=True)
class JobStatistics:
    """What is told of a finished job. Plans and timelines are left out: they quote literals."""

    statement_type: str = ""
    bytes_processed: int = 0
    bytes_billed: int = 0
    cache_hit: bool = False
    affected_rows: int | None = None
    ddl_operation: str = ""
    dml: Mapping[str, str] = field(default_factory=dict)
    work: Mapping[str, str] = field(default_factory=dict)  # counts of a load, copy or extract
    made: Mapping[str, str] = field(default_factory=dict)  # the table CREATE TABLE AS made, as a reference


@dataclass(frozen=True, slots=True)
class JobFacts:
    """All that is told of a job. Times are Unix milliseconds, 0 while they have not come."""

    project: str
    job_id: str
    location: str
    user: str
    request: QueryRequest
    state: str  # PENDING | RUNNING | DONE
    text: str  # what runs or ran: the reviewer's text after a modification
    created_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()  # sentences for a person; not errors
    error: BigQueryError | None = None
    statistics: JobStatistics = field(default_factory=JobStatistics)
    schema: Sequence[Mapping[str, Any]] | None = None  # told of dry runs
    returns_rows: bool = False  # it is done, and has a result


def job_reference(job: JobFacts) -> dict[str, str]:
    reference = {"projectId": job.project, "jobId": job.job_id}
    return {**reference, "location": job.location} if job.location else reference


def job_resource(job: JobFacts) -> dict[str, Any]:
    """The `Job` resource of jobs.insert, jobs.get and jobs.cancel."""
    return {
        "kind": "bigquery#job",
        "etag": f"{job.job_id}-{job.state}",
        "id": f"{job.project}:{job.location}.{job.job_id}",
        "selfLink": "",
        "user_email": job.user,
        "jobReference": job_reference(job),
        "configuration": _configuration(job),
        "status": job_status(job),
        "statistics": _statistics(job),
    }


def job_item(job: JobFacts) -> dict[str, Any]:
    """An element of jobs.list."""
    resource = job_resource(job)
    state = {"state": job.state} | ({"errorResult": job.error.as_proto()} if job.error else {})
    return {name: value for name, value in resource.items() if name not in ("etag", "selfLink")} | state


def job_status(job: JobFacts) -> dict[str, Any]:
    status: dict[str, Any] = {"state": job.state}
    errors = [{"reason": "information", "message": note} for note in job.notes]
    if job.error is not None:
        status["errorResult"] = job.error.as_proto()
        errors = [job.error.as_proto(), *errors]
    return {**status, "errors": errors} if errors else status


def query_answer(
    job: JobFacts,
    *,
    kind: str,
    complete: bool,
    schema: Sequence[Mapping[str, Any]] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    total_rows: int = 0,
    page_token: str = "",
) -> dict[str, Any]:
    """`QueryResponse` (kind queryResponse) or `GetQueryResultsResponse` (kind getQueryResultsResponse)."""
    answer: dict[str, Any] = {
        "kind": f"bigquery#{kind}",
        "jobReference": job_reference(job),
        "jobComplete": complete,
        "totalBytesProcessed": str(job.statistics.bytes_processed),
    }
    if job.notes:
        answer["errors"] = [{"reason": "information", "message": note} for note in job.notes]
    if not complete:
        return answer
    answer["cacheHit"] = job.statistics.cache_hit
    if schema is not None:
        # Clients take a missing totalRows for "this statement has no result".
        answer |= {"schema": {"fields": list(schema)}, "totalRows": str(total_rows), "rows": list(rows)}
    if job.statistics.affected_rows is not None:
        answer["numDmlAffectedRows"] = str(job.statistics.affected_rows)
    if kind == "queryResponse" and job.statistics.dml:
        answer["dmlStats"] = dict(job.statistics.dml)
    if page_token:
        answer["pageToken"] = page_token
    return answer


def table_resource(table: Mapping[str, Any], masked: Mapping[str, str]) -> dict[str, Any]:
    """A table as a principal may see it. `masked` says for a field's path which technique and rule are on it."""
    kept = {name: table[name] for name in _TABLE_FIELDS if name in table}
    fields = (table.get("schema") or {}).get("fields")
    if fields:
        kept["schema"] = {"fields": [_field(item, "", masked) for item in fields]}
    return kept


def table_item(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: table[name] for name in _TABLE_ITEM_FIELDS if name in table}


def dataset_resource(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Without `access`, which names people, and without labels and descriptions of other teams' making."""
    return {name: dataset[name] for name in _DATASET_FIELDS if name in dataset}


# `view.query` and partition statistics are left out: texts and bounds of others.
_TABLE_FIELDS = (
    "kind",
    "etag",
    "id",
    "tableReference",
    "type",
    "numRows",
    "numBytes",
    "creationTime",
    "lastModifiedTime",
    "location",
    "timePartitioning",
    "clustering",
)
_TABLE_ITEM_FIELDS = ("kind", "id", "tableReference", "type", "creationTime", "timePartitioning", "clustering")
_DATASET_FIELDS = ("kind", "etag", "id", "datasetReference", "location", "creationTime", "lastModifiedTime", "type")


def _field(item: Mapping[str, Any], above: str, masked: Mapping[str, str]) -> dict[str, Any]:
    """The service's own descriptions stay out: people write examples into them."""
    path = f"{above}{item['name']}"
    kept = {name: item[name] for name in ("name", "type", "mode", "precision", "scale", "maxLength") if name in item}
    if path in masked:
        kept["description"] = masked[path]
    if item.get("fields"):
        kept["fields"] = [_field(child, f"{path}.", masked) for child in item["fields"]]
    return kept


def _configuration(job: JobFacts) -> dict[str, Any]:
    request = job.request
    labels = {**dict(request.labels), **job.labels}
    if request.work is not None:
        kind = request.work.kind
        return {"jobType": kind.upper(), kind: dict(request.work.configuration), "labels": labels}
    query: dict[str, Any] = {
        "query": job.text,
        "useLegacySql": False,
        "priority": request.priority,
        "useQueryCache": request.use_cache,
    }
    if request.parameters:
        query |= {"queryParameters": [dict(p) for p in request.parameters]}
        query |= {"parameterMode": request.parameter_mode} if request.parameter_mode else {}
    if request.default_dataset:
        project, _, dataset = request.default_dataset.rpartition(".")
        query["defaultDataset"] = {"projectId": project, "datasetId": dataset}
    if request.maximum_bytes_billed is not None:
        query["maximumBytesBilled"] = str(request.maximum_bytes_billed)
    if job.statistics.made:
        query["destinationTable"] = dict(job.statistics.made)  # no result of a query: the statement returned no rows
    configuration: dict[str, Any] = {
        "jobType": "QUERY",
        "query": query,
        "labels": labels,
    }
    if request.dry_run:
        configuration["dryRun"] = True
    return configuration


def _hides_kind(job: JobFacts) -> bool:
    """dbt looks for the destination of whatever is called SELECT, `bq` for the child jobs of a SCRIPT: here is neither.

    Both read the result itself where the kind is an empty text; without the field `bq` breaks.
    """
    kind = job.statistics.statement_type
    return kind == "SELECT" or (kind == "SCRIPT" and job.returns_rows)


def _statistics(job: JobFacts) -> dict[str, Any]:
    times = {"creationTime": job.created_ms, "startTime": job.started_ms, "endTime": job.ended_ms}
    told: dict[str, Any] = {name: str(moment) for name, moment in times.items() if moment}
    if job.request.work is not None:
        return {**told, job.request.work.kind: dict(job.statistics.work)}
    query: dict[str, Any] = {
        "totalBytesProcessed": str(job.statistics.bytes_processed),
        "cacheHit": job.statistics.cache_hit,
    }
    query["totalBytesBilled"] = str(job.statistics.bytes_billed)
    if job.state == "DONE":
        query["statementType"] = job.statistics.statement_type if job.request.dry_run or not _hides_kind(job) else ""
    if job.statistics.affected_rows is not None:
        query["numDmlAffectedRows"] = str(job.statistics.affected_rows)
    if job.statistics.dml:
        query["dmlStats"] = dict(job.statistics.dml)
    if job.statistics.ddl_operation:
        query["ddlOperationPerformed"] = job.statistics.ddl_operation
    if job.schema is not None:
        query["schema"] = {"fields": list(job.schema)}
    return {**told, "totalBytesProcessed": str(job.statistics.bytes_processed), "query": query}
