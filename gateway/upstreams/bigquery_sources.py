"""Where a permitted statement's rows come from: a query job of the service, or a table read as it lies.

A source is started once with the permitted request and says what the result looks like; then it is read by offset.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.resources import JobStatistics
from gateway.session.context import SessionContext, StatementRequest
from gateway.upstreams.bigquery import is_hidden, project_of, query_configuration
from gateway.upstreams.bigquery_api import BigQueryApi, error_from, path_of
from gateway.upstreams.registry import UpstreamFailed

POLL_MS = 20_000
# A page never has more rows than this, whatever is asked for: it is masked in one go.
MAX_PAGE_ROWS = 50_000
# Pages whose token is remembered, the newest; older ones are read by their offset.
MAX_TOKENS = 50


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a client may ask of a job besides its statement."""

    use_cache: bool = True
    maximum_bytes_billed: int | None = None
    priority: str = "INTERACTIVE"
    labels: tuple[tuple[str, str], ...] = ()
    job_timeout_ms: int | None = None
    location: str = ""
    parameter_mode: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """`fields` are the result's columns as the service describes them; None when there is no result."""

    fields: list[dict[str, Any]] | None
    total_rows: int
    statistics: JobStatistics = field(default_factory=JobStatistics)


@dataclass(frozen=True, slots=True)
class RawPage:
    """Unmasked rows. `next_offset` is None after the last one."""

    rows: list[dict[str, Any]]
    next_offset: int | None


class RowSource(Protocol):
    """Every method raises BigQueryError for what the service says, UpstreamFailed for what it does not."""

    async def start(self, request: StatementRequest, session: SessionContext) -> Described: ...

    async def fetch(self, *, offset: int, max_results: int | None, int64_timestamps: bool) -> RawPage: ...

    async def cancel(self) -> None: ...


class Paging:
    """What both kinds of page have in common: bounded, in order, continued by the service's own token."""

    def __init__(self) -> None:
        self._tokens: dict[int, str] = {}

    def query(self, *, offset: int, max_results: int | None, int64_timestamps: bool) -> dict[str, Any]:
        token = self._tokens.get(offset)
        return {
            "maxResults": MAX_PAGE_ROWS if max_results is None else min(max_results, MAX_PAGE_ROWS),
            "formatOptions.useInt64Timestamp": "true" if int64_timestamps else "false",
            **({"pageToken": token} if token else {"startIndex": str(offset)}),
        }

    def read(self, answer: Mapping[str, Any], *, offset: int, total_rows: int) -> RawPage:
        rows = answer.get("rows") or []
        if not isinstance(rows, list) or len(rows) > MAX_PAGE_ROWS:
            raise UpstreamFailed("the upstream's page is malformed")
        after = offset + len(rows)
        if not rows or after >= total_rows:
            return RawPage(rows, None)
        if answer.get("pageToken"):
            self._tokens[after] = str(answer["pageToken"])
            while len(self._tokens) > MAX_TOKENS:
                del self._tokens[next(iter(self._tokens))]
        return RawPage(rows, after)


class QueryJob:
    """jobs.insert under an id made of the statement's, then jobs.getQueryResults until it is complete.

    The id belongs to this statement alone, so an insert repeated after a lost answer finds its own job.
    """

    def __init__(self, api: BigQueryApi, spec: ConnectionSpec, options: JobOptions) -> None:
        self._api = api
        self._spec = spec
        self._options = options
        self._location = spec.settings.get("location") or options.location
        self._job_id = ""
        self._text = ""
        self._cancelled = False
        self._described = Described(None, 0)
        self._paging = Paging()

    async def start(self, request: StatementRequest, session: SessionContext) -> Described:
        self._job_id, self._text = f"hoopweb_{request.statement_id}", request.text
        await self._insert(self._configuration(request, session))
        answer = await self._wait()
        job = await self._api.get(self._spec, self._path("jobs"), location=self._location or None)
        self._raise_failure(job)
        fields = (answer.get("schema") or {}).get("fields") or None
        self._described = Described(fields, int(answer.get("totalRows") or 0), _statistics(job, answer))
        return self._described

    async def fetch(self, *, offset: int, max_results: int | None, int64_timestamps: bool) -> RawPage:
        answer = await self._api.get(
            self._spec,
            self._path("queries"),
            location=self._location or None,
            **self._paging.query(offset=offset, max_results=max_results, int64_timestamps=int64_timestamps),
        )
        if (answer.get("schema") or {}).get("fields", self._described.fields) != self._described.fields:
            raise BigQueryError("accessDenied", "the result changed its columns while it was read")
        return self._paging.read(answer, offset=offset, total_rows=self._described.total_rows)

    async def cancel(self) -> None:
        """Best effort: what the service answers is not shown after this."""
        self._cancelled = True
        if self._job_id:
            with contextlib.suppress(BigQueryError, UpstreamFailed):
                await self._api.post(self._spec, self._path("jobs", "cancel"), {}, location=self._location or None)

    def _configuration(self, request: StatementRequest, session: SessionContext) -> dict[str, Any]:
        """Text and parameters are the permit's, so that what runs is what was decided."""
        options = self._options
        parameters = json.loads(request.parameters[0]) if request.parameters and request.parameters[0] else []
        query = query_configuration(request.text, parameters, session.search_path, options.parameter_mode)
        query |= {"useQueryCache": options.use_cache, "priority": options.priority}
        limit = self._bytes_limit()
        if limit is not None:
            query["maximumBytesBilled"] = str(limit)
        if request.destination is not None:
            query |= json.loads(session.settings)  # as it was approved
        # Ours last: they are what finds a line of the bill in the log.
        ours = {"hoopweb_statement": request.statement_id, "hoopweb_session": session.session_id}
        configuration: dict[str, Any] = {"query": query, "labels": {**dict(options.labels), **ours}}
        if options.job_timeout_ms is not None:
            configuration["jobTimeoutMs"] = str(options.job_timeout_ms)
        return configuration

    def _bytes_limit(self) -> int | None:
        """The smaller of the client's limit and the connection's."""
        own = self._spec.settings.get("maximum_bytes_billed", "")
        limits = [int(own)] if own.isdigit() else []
        if self._options.maximum_bytes_billed is not None:
            limits.append(self._options.maximum_bytes_billed)
        return min(limits, default=None)

    async def _insert(self, configuration: dict[str, Any]) -> None:
        reference = {"projectId": project_of(self._spec), "jobId": self._job_id}
        if self._location:
            reference["location"] = self._location
        body = {"jobReference": reference, "configuration": configuration}
        try:
            path = path_of("projects", project_of(self._spec), "jobs")
            job = await self._api.post(self._spec, path, body, statement=self._text)
        except BigQueryError as error:
            if error.status != 409:
                raise
        else:
            self._location = (job.get("jobReference") or {}).get("location") or self._location
            self._raise_failure(job)

    async def _wait(self) -> dict[str, Any]:
        while True:
            answer = await self._api.get(
                self._spec,
                self._path("queries"),
                statement=self._text,
                maxResults=0,
                timeoutMs=POLL_MS,
                location=self._location or None,
            )
            if self._cancelled:
                raise BigQueryError("stopped", "the job was cancelled")
            if not answer.get("jobComplete", True):
                continue
            if answer.get("errors") and not answer.get("schema"):
                raise error_from(answer["errors"][0], self._text)
            return answer

    def _raise_failure(self, job: Mapping[str, Any]) -> None:
        """Raise the job's final error, if it has one."""
        result = (job.get("status") or {}).get("errorResult")
        if result:
            raise error_from(result, self._text)

    def _path(self, collection: str, *verb: str) -> str:
        return path_of("projects", project_of(self._spec), collection, self._job_id, *verb)


class StoredTable:
    """tabledata.list: a table's rows as they lie, without a job. Its order holds from page to page."""

    def __init__(
        self,
        api: BigQueryApi,
        spec: ConnectionSpec,
        table: tuple[str, str],
        fields: Sequence[dict[str, Any]],
        all_: bool,
    ) -> None:
        self._api = api
        self._spec = spec
        self._path = path_of("projects", project_of(spec), "datasets", table[0], "tables", table[1], "data")
        self._fields = list(fields)
        self._selected = None if all_ else ",".join(str(item["name"]) for item in fields)
        self._paging = Paging()

    async def start(self, request: StatementRequest, session: SessionContext) -> Described:
        answer = await self._api.get(self._spec, self._path, maxResults=0)
        return Described(self._fields, int(answer.get("totalRows") or 0), JobStatistics(statement_type="SELECT"))

    async def fetch(self, *, offset: int, max_results: int | None, int64_timestamps: bool) -> RawPage:
        query = self._paging.query(offset=offset, max_results=max_results, int64_timestamps=int64_timestamps)
        answer = await self._api.get(self._spec, self._path, selectedFields=self._selected, **query)
        return self._paging.read(answer, offset=offset, total_rows=int(answer.get("totalRows") or 0))

    async def cancel(self) -> None:
        """One page is read at a time; there is nothing to stop."""


def _made(job: Mapping[str, Any], query: Mapping[str, Any]) -> dict[str, str]:
    """The table a CREATE TABLE AS made; dbt asks for its size by it."""
    if query.get("statementType") != "CREATE_TABLE_AS_SELECT":
        return {}
    asked = (job.get("configuration") or {}).get("query") or {}
    table = query.get("ddlTargetTable") or asked.get("destinationTable") or {}
    names = [table.get(part) for part in ("projectId", "datasetId", "tableId")]
    if not all(isinstance(name, str) and name for name in names) or is_hidden(str(names[1])):
        return {}
    return dict(zip(("projectId", "datasetId", "tableId"), map(str, names), strict=True))


def _statistics(job: Mapping[str, Any], answer: Mapping[str, Any]) -> JobStatistics:
    statistics = job.get("statistics") or {}
    query = statistics.get("query") or {}
    affected = query.get("numDmlAffectedRows", answer.get("numDmlAffectedRows"))
    dml = query.get("dmlStats") or {}
    return JobStatistics(
        statement_type=str(query.get("statementType", "")),
        bytes_processed=count(query.get("totalBytesProcessed", statistics.get("totalBytesProcessed"))),
        bytes_billed=count(query.get("totalBytesBilled")),
        cache_hit=bool(query.get("cacheHit", answer.get("cacheHit", False))),
        affected_rows=None if affected is None else count(affected),
        ddl_operation=str(query.get("ddlOperationPerformed", "")),
        made=_made(job, query),
        dml={name: str(count(value)) for name, value in dml.items() if name.endswith("RowCount")},
    )


def count(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError):
        return 0
