"""The BigQuery v2 REST API, for the official clients unmodified: one row of `protocols.bigquery.endpoints` a handler.

A call is authenticated, matched with its row, and brought to one connection: by its name (`/c/<connection>`, or the
host), or by its project where no two of the caller's connections share one. What is refused says so in BigQuery's own
error object and is on the record; so is every look at what exists.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from analysis.statement import Operation
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners import bigquery_metadata as metadata
from gateway.listeners.bigquery_dryrun import dry_run
from gateway.listeners.bigquery_jobs import BigQueryJobs, Job
from gateway.listeners.bigquery_tabledata import TableReads
from gateway.listeners.data_api import Caller, Front, RulesUnavailable, Target, Unauthenticated, may
from gateway.protocols.bigquery import resources
from gateway.protocols.bigquery.endpoints import Endpoint, find_endpoint, owns
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import (
    DEFAULT_WAIT_S,
    MAX_WAIT_S,
    QueryRequest,
    read_job,
    read_query,
    wants_int64_timestamps,
)
from gateway.session import entries
from gateway.session.services import StaleSnapshot
from gateway.upstreams.bigquery import BigQueryUpstream, project_of
from gateway.upstreams.registry import UpstreamFailed

PROTOCOL = "bigquery"
KIND = "bigquery"
MAX_BODY_BYTES = 12 * 1024 * 1024  # a query of a million characters and the parameters BigQuery takes, 10 MB
BODY_WITHIN_S = 30.0
UNKNOWN = "not on the table"
DEFAULT_LISTED = 50
FIRST_PAGE = str(0)


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller, endpoint and connection are known."""

    request: Request
    caller: Caller
    spec: ConnectionSpec
    endpoint: Endpoint
    parameters: Mapping[str, str]

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params


Handler = Callable[[Call], Awaitable[dict[str, Any]]]


class BigQuerySurface:
    """Fulfils `gateway.listeners.data_api.Surface`."""

    def __init__(self, *, front: Front, jobs: BigQueryJobs, reader: BigQueryUpstream, tables: TableReads) -> None:
        self._front = front
        self._jobs = jobs
        self._reader = reader
        self._tables = tables
        self._handlers: dict[str, Handler] = {
            "jobs.query": self._query,
            "jobs.getQueryResults": self._results,
            "jobs.insert": self._insert,
            "jobs.list": self._list_jobs,
            "jobs.get": self._get_job,
            "jobs.cancel": self._cancel,
            "datasets.list": self._datasets,
            "datasets.get": self._dataset,
            "tables.list": self._list_tables,
            "tables.get": self._table,
            "tabledata.list": self._rows,
        }

    def owns(self, path: str) -> bool:
        return owns(path)

    async def handle(self, request: Request, target: Target) -> Response:
        try:
            return JSONResponse(await self._answer(request, target))
        except Unauthenticated:
            error = BigQueryError("required", "the request has no token that is good here", 401)
            return JSONResponse(error.as_json(), status_code=401, headers={"WWW-Authenticate": challenge(request)})
        except (RulesUnavailable, StaleSnapshot):
            error = BigQueryError("accessDenied", "the gateway's rules are out of date; try again", 403)
        except BigQueryError as refused:
            error = refused
        except UpstreamFailed as failed:
            error = BigQueryError("accessDenied", failed.message, 403)
        return JSONResponse(error.as_json(), status_code=error.as_json()["error"]["code"])

    async def _answer(self, request: Request, target: Target) -> dict[str, Any]:
        caller = await self._front.admit(request, protocol=PROTOCOL, connection=target.connection)
        found = find_endpoint(request.method, target.path)
        if found is not None and found.endpoint.name == "projects.list":
            return metadata.project_list(self._usable(caller, target.connection))
        project = found.parameters.get("project", "") if found is not None else ""
        spec = self._connection(caller, target.connection, project)
        if found is None or found.endpoint.refusal:
            raise await self._refused(caller, spec, None if found is None else found.endpoint)
        call = Call(request, caller, spec, found.endpoint, found.parameters)
        return await self._handlers[found.endpoint.name](call)

    # --- which connection ---------------------------------------------------------------------------------------------

    def _usable(self, caller: Caller, named: str) -> list[ConnectionSpec]:
        """The BigQuery connections the caller may enter; only the named one where one is named."""
        snapshot = self._front.snapshot()
        return [
            spec
            for name, spec in snapshot.connections.items()
            if spec.kind == KIND and spec.enabled and named in ("", name) and may(snapshot, caller.principal, name)
        ]

    def _connection(self, caller: Caller, named: str, project: str) -> ConnectionSpec:
        usable = self._usable(caller, named)
        matching = [spec for spec in usable if project in ("", project_of(spec))]
        if len(matching) > 1:
            names = ", ".join(spec.name for spec in matching)
            raise BigQueryError(
                "invalid", f"several connections serve this project: put /c/<connection> before the path ({names})"
            )
        if not matching:
            raise BigQueryError("notFound", f"Not found: Project {project[:200]}")
        return matching[0]

    async def _refused(self, caller: Caller, spec: ConnectionSpec, endpoint: Endpoint | None) -> BigQueryError:
        """Record the attempt, and say what to do instead."""
        name = UNKNOWN if endpoint is None else endpoint.name
        sentence = "this endpoint is not served" if endpoint is None else f"{name} is not served: {endpoint.refusal}"
        await self._front.services.record.append(entries.request_refused(caller.session(spec), name, "not-served"))
        return BigQueryError("accessDenied", sentence)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    async def _insert(self, call: Call) -> dict[str, Any]:
        request = await self._asked(call, read_job)
        if request.dry_run:
            return resources.job_resource(
                await dry_run(self._front.services, self._reader, call.caller, call.spec, request)
            )
        return resources.job_resource(self._jobs.start(call.caller, call.spec, request).facts())

    async def _query(self, call: Call) -> dict[str, Any]:
        request = await self._asked(call, read_query)
        if request.dry_run:
            facts = await dry_run(self._front.services, self._reader, call.caller, call.spec, request)
            return resources.query_answer(facts, kind="queryResponse", complete=True, schema=facts.schema or ())
        job = self._jobs.start(call.caller, call.spec, request)
        await wait_for(job, request.wait_s)
        return await self._result(
            job,
            kind="queryResponse",
            offset=0,
            max_results=request.max_results,
            int64_timestamps=request.int64_timestamps,
        )

    async def _results(self, call: Call) -> dict[str, Any]:
        job = self._jobs.find(call.caller, call.spec, call.parameters["job"])
        await wait_for(job, wait_of(call.query))
        options = {name.removeprefix("formatOptions."): value for name, value in call.query.items()}
        return await self._result(
            job,
            kind="getQueryResultsResponse",
            offset=number(call.query, "pageToken") or number(call.query, "startIndex") or 0,
            max_results=number(call.query, "maxResults"),
            int64_timestamps=wants_int64_timestamps(options),
        )

    async def _result(
        self, job: Job, *, kind: str, offset: int, max_results: int | None, int64_timestamps: bool
    ) -> dict[str, Any]:
        if job.state != "DONE":
            return resources.query_answer(job.facts(), kind=kind, complete=False)
        if job.error is not None:
            raise job.error
        assert job.execution is not None
        rows, token = [], ""
        # `maxResults=0` asks whether the job is done; it reads nothing.
        if max_results != 0 and job.execution.fields:
            page = await self._jobs.page(job, offset=offset, max_results=max_results, int64_timestamps=int64_timestamps)
            rows, token = page.rows, "" if page.next_offset is None else str(page.next_offset)
        elif job.execution.total_rows and job.execution.fields:
            token = FIRST_PAGE
        return resources.query_answer(
            job.facts(),
            kind=kind,
            complete=True,
            schema=job.execution.fields,
            rows=rows,
            total_rows=job.execution.total_rows,
            page_token=token,
        )

    async def _get_job(self, call: Call) -> dict[str, Any]:
        return resources.job_resource(self._jobs.find(call.caller, call.spec, call.parameters["job"]).facts())

    async def _cancel(self, call: Call) -> dict[str, Any]:
        job = self._jobs.find(call.caller, call.spec, call.parameters["job"])
        if job.state != "DONE":
            await job.cancel()
            await wait_for(job, 1.0)
        return {"kind": "bigquery#jobCancelResponse", "job": resources.job_resource(job.facts())}

    async def _list_jobs(self, call: Call) -> dict[str, Any]:
        """The caller's own, whatever `allUsers` says."""
        wanted = {state.upper() for state in call.request.query_params.getlist("stateFilter")}
        jobs = [job for job in self._jobs.own(call.caller, call.spec) if not wanted or job.state in wanted]
        offset, limit = number(call.query, "pageToken") or 0, number(call.query, "maxResults") or DEFAULT_LISTED
        page = [resources.job_item(job.facts()) for job in jobs[offset : offset + limit]]
        more = {"nextPageToken": str(offset + limit)} if offset + limit < len(jobs) else {}
        return {"kind": "bigquery#jobList", "jobs": page, **more}

    async def _asked(self, call: Call, read: Callable[..., QueryRequest]) -> QueryRequest:
        """The body as a query; what is refused is recorded."""
        try:
            return read(await read_object(call.request), project=project_of(call.spec))
        except BigQueryError as refused:
            session = call.caller.session(call.spec)
            await self._front.services.record.append(
                entries.request_refused(session, call.endpoint.name, refused.reason)
            )
            raise

    # --- what exists --------------------------------------------------------------------------------------------------

    def _must_read(self, call: Call) -> None:
        if not may(self._front.snapshot(), call.caller.principal, call.spec.name, Operation.READ):
            raise BigQueryError("accessDenied", "no access rule lets you read here")

    async def _look(self, call: Call, resource: str) -> None:
        """Whether the caller may read here at all; the look is on the record before it is answered."""
        self._must_read(call)
        await self._front.services.record.append(
            entries.described(call.caller.session(call.spec), f"{call.endpoint.name} {resource}".strip()[:512])
        )

    async def _datasets(self, call: Call) -> dict[str, Any]:
        await self._look(call, "")
        return metadata.dataset_list(await self._reader.dataset_list(call.spec, project_of(call.spec)))

    async def _dataset(self, call: Call) -> dict[str, Any]:
        dataset = call.parameters["dataset"]
        await self._look(call, dataset)
        return await metadata.dataset(self._reader, call.spec, dataset)

    async def _list_tables(self, call: Call) -> dict[str, Any]:
        dataset = call.parameters["dataset"]
        await self._look(call, dataset)
        return await metadata.table_list(self._reader, call.spec, dataset)

    async def _table(self, call: Call) -> dict[str, Any]:
        dataset, table = call.parameters["dataset"], call.parameters["table"]
        await self._look(call, f"{dataset}.{table}")
        rules = self._front.snapshot().masking_rules
        return await metadata.table(self._reader, call.spec, dataset, table, rules=rules, caller=call.caller)

    async def _rows(self, call: Call) -> dict[str, Any]:
        self._must_read(call)
        return await self._tables.rows(
            call.caller,
            call.spec,
            dataset=call.parameters["dataset"],
            table=call.parameters["table"],
            selected=call.query.get("selectedFields", ""),
            offset=number(call.query, "pageToken") or number(call.query, "startIndex") or 0,
            max_results=number(call.query, "maxResults"),
            int64_timestamps=wants_int64_timestamps(
                {name.removeprefix("formatOptions."): value for name, value in call.query.items()}
            ),
        )


async def wait_for(job: Job, seconds: float) -> None:
    """Until the job is done, or its caller would rather hear that it is not."""
    if not job.done.is_set() and seconds > 0:
        try:
            await asyncio.wait_for(job.done.wait(), seconds)
        except TimeoutError:
            return


def wait_of(query: Mapping[str, str]) -> float:
    wait_ms = number(query, "timeoutMs")
    return DEFAULT_WAIT_S if wait_ms is None else min(wait_ms / 1000, MAX_WAIT_S)


def number(query: Mapping[str, str], name: str) -> int | None:
    """A query parameter that is a number. Page tokens are ours, and numbers too."""
    text = query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BigQueryError("invalid", f"{name} is malformed")
    return int(text)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object, bounded in size and time."""
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise BigQueryError("tooLarge", f"the body is larger than {MAX_BODY_BYTES} bytes")
                chunks.append(chunk)
        body = json.loads(b"".join(chunks) or b"{}")
    except TimeoutError:
        raise BigQueryError("invalid", f"the body did not arrive within {BODY_WITHIN_S:.0f} s") from None
    except (ValueError, RecursionError):
        raise BigQueryError("invalid", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise BigQueryError("invalid", "the body is not a JSON object")
    return body


def challenge(request: Request) -> str:
    """RFC 9728 §5.1: where a client learns who issues tokens for this resource."""
    return (
        f'Bearer resource_metadata="{request.url.scheme}://{request.url.netloc}/.well-known/oauth-protected-resource"'
    )
