"""The BigQuery v2 REST API, for the official clients unmodified: one row of `protocols.bigquery.endpoints` a handler.

A call is authenticated, matched with its row, and brought to one connection: by its name (`/c/<connection>`, or the
host), or by its project where no two of the caller's connections share one. What is refused says so in BigQuery's own
error object and is on the record; so is every look at what exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from analysis.statement import Operation
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners import bigquery_metadata as metadata
from gateway.listeners.bigquery_dryrun import dry_run
from gateway.listeners.bigquery_jobs import BigQueryJobs, Job, key_of
from gateway.listeners.bigquery_rows import RowWrites, read_insert
from gateway.listeners.bigquery_tabledata import TableReads
from gateway.listeners.bigquery_uploads import MAX_UPLOAD_BYTES, Owner, Uploads, read_multipart, read_span
from gateway.listeners.data_api import Caller, Front, RulesUnavailable, Target, Unauthenticated, may, target_of
from gateway.listeners.handover import answered, as_message, as_request, as_response, is_handed
from gateway.listeners.peers import Message, Peers, PeersUnavailable
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
from gateway.protocols.bigquery.work import table_of
from gateway.session import entries
from gateway.session.services import StaleSnapshot
from gateway.upstreams.bigquery import BigQueryUpstream, project_of
from gateway.upstreams.registry import UpstreamFailed
from masking.engines.marks import carries_mask

PROTOCOL = "bigquery"
KIND = "bigquery"
MAX_BODY_BYTES = 12 * 1024 * 1024  # a query of a million characters and the parameters BigQuery takes, 10 MB
BODY_WITHIN_S = 30.0
UNKNOWN = "not on the table"
DEFAULT_LISTED = 50
FIRST_PAGE = str(0)
RESUME_INCOMPLETE = 308  # what goes on with an upload is told by its Range
CLIENT_CLOSED = 499
OK = 200
NO_CONTENT = 204
LIST_WITHIN_S = 5.0
MAX_LISTED_ELSEWHERE = 1_000


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


Answer = dict[str, Any] | Response
Handler = Callable[[Call], Awaitable[Answer]]


class BigQuerySurface:
    """Fulfils `gateway.listeners.data_api.Surface`."""

    def __init__(
        self,
        *,
        front: Front,
        jobs: BigQueryJobs,
        reader: BigQueryUpstream,
        tables: TableReads,
        rows: RowWrites,
        peers: Peers | None = None,
    ) -> None:
        self._front = front
        self._jobs = jobs
        self._reader = reader
        self._tables = tables
        self._writes = rows
        self._uploads = Uploads()
        self._peers = peers
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
            "tables.delete": self._drop_table,
            "tabledata.list": self._rows,
            "tabledata.insertAll": self._insert_all,
            "jobs.upload": self._upload,
            "jobs.uploadPart": self._upload_part,
            "jobs.uploadCancel": self._upload_cancel,
        }

    def owns(self, path: str) -> bool:
        return owns(path)

    async def handle(self, request: Request, target: Target) -> Response:
        try:
            answer = await self._answer(request, target)
            return answer if isinstance(answer, Response) else JSONResponse(answer)
        except Unauthenticated:
            error = BigQueryError("required", "the request has no token that is good here", 401)
            return JSONResponse(error.as_json(), status_code=401, headers={"WWW-Authenticate": challenge(request)})
        except (RulesUnavailable, StaleSnapshot):
            error = BigQueryError("accessDenied", "the gateway's rules are out of date; try again", 403)
        except BigQueryError as refused:
            error = refused
        except PeersUnavailable:
            error = BigQueryError("backendError", "the gateway that holds this cannot be asked now; try again")
        except UpstreamFailed as failed:
            error = BigQueryError("accessDenied", failed.message, 403)
        return JSONResponse(error.as_json(), status_code=error.as_json()["error"]["code"])

    async def _answer(self, request: Request, target: Target) -> Answer:
        caller = await self._front.admit(request, protocol=PROTOCOL, connection=target.connection)
        found = find_endpoint(request.method, target.path)
        if found is not None and found.endpoint.name == "projects.list":
            return metadata.project_list(self._usable(caller, target.connection))
        project = found.parameters.get("project", "") if found is not None else ""
        spec = self._connection(caller, target.connection, project)
        if found is None or found.endpoint.refusal:
            raise await self._refused(caller, spec, None if found is None else found.endpoint)
        call = Call(request, caller, spec, found.endpoint, found.parameters)
        elsewhere = await self._held_elsewhere(call)
        if elsewhere:
            return await self._hand_over(call, elsewhere)
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

    # --- other processes ----------------------------------------------------------------------------------------------

    def _others(self, call: Call) -> Peers | None:
        return None if self._peers is None or is_handed(call.request) else self._peers

    async def _held_elsewhere(self, call: Call) -> str:
        """The process that holds the job or the upload a request is about; empty where it is this one, or none."""
        peers, job = self._others(call), call.parameters.get("job", "")
        upload = call.query.get("upload_id", "")
        if peers is None or not (job or upload):
            return ""
        if job:
            known = self._jobs.holds(call.caller, call.spec, job)
            return "" if known else await peers.holder(job_name(call, job))
        return "" if self._uploads.holds(upload) else await peers.holder(upload_name(upload))

    async def _hand_over(self, call: Call, holder: str) -> Response:
        assert self._peers is not None
        body = await body_of(call.request)
        return as_response(await self._peers.ask(holder, as_message(call.request, body)))

    async def answer_peer(self, question: Message) -> Message:
        """A request another process sent on."""
        request = as_request(question)
        return answered(await self.handle(request, target_of(request, self._front.snapshot().connections)))

    async def _start(self, call: Call, request: QueryRequest) -> Job:
        """Begin a job no other process has under this id."""
        peers = self._peers
        if peers is not None and request.job_id and await peers.claim(job_name(call, request.job_id)):
            raise BigQueryError("duplicate", f"Already Exists: Job {project_of(call.spec)}:{request.job_id}")
        job = self._jobs.start(call.caller, call.spec, request)
        if peers is not None:
            name = job_name(call, job.job_id)
            if not request.job_id:
                await peers.claim(name)
            job.when_done(lambda: peers.over(name))
        return job

    async def _repeated_elsewhere(self, call: Call, request: QueryRequest) -> str:
        """The process an earlier call with this requestId reached."""
        peers = self._others(call)
        if peers is None or not request.request_id:
            return ""
        return await peers.claim(f"request {key_of(call.caller.principal, call.spec)} {request.request_id}")

    async def _listed_elsewhere(self, call: Call, limit: int) -> list[dict[str, Any]]:
        """The caller's jobs at other processes, the newest of each; one that does not answer in time lists none."""
        peers = self._others(call)
        if peers is None:
            return []
        question = as_message(call.request, b"")
        head = {**question.head, "query": without_paging(call.query, limit)}
        asked = [peers.ask(other, Message(head), within_s=LIST_WITHIN_S) for other in await peers.others()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        bodies = [json.loads(each.body) for each in answers if isinstance(each, Message) and each.head["status"] == OK]
        return [job for body in bodies for job in body.get("jobs", [])]

    # --- jobs ---------------------------------------------------------------------------------------------------------

    async def _insert(self, call: Call) -> dict[str, Any]:
        request = await self._asked(call, read_job)
        if request.dry_run:
            return resources.job_resource(
                await dry_run(self._front.services, self._reader, call.caller, call.spec, request)
            )
        return resources.job_resource((await self._start(call, request)).facts())

    async def _query(self, call: Call) -> Answer:
        request = await self._asked(call, read_query)
        if request.dry_run:
            facts = await dry_run(self._front.services, self._reader, call.caller, call.spec, request)
            return resources.query_answer(facts, kind="queryResponse", complete=True, schema=facts.schema or ())
        holder = await self._repeated_elsewhere(call, request)
        if holder:
            return await self._hand_over(call, holder)
        job = await self._start(call, request)
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
        own = [job for job in self._jobs.own(call.caller, call.spec) if not wanted or job.state in wanted]
        offset, limit = number(call.query, "pageToken") or 0, number(call.query, "maxResults") or DEFAULT_LISTED
        jobs = [resources.job_item(job.facts()) for job in own]
        jobs += await self._listed_elsewhere(call, min(offset + limit, MAX_LISTED_ELSEWHERE))
        jobs.sort(key=lambda job: int(job["statistics"].get("creationTime", 0)), reverse=True)
        page = jobs[offset : offset + limit]
        more = {"nextPageToken": str(offset + limit)} if offset + limit < len(jobs) else {}
        return {"kind": "bigquery#jobList", "jobs": page, **more}

    async def _asked(self, call: Call, read: Callable[..., QueryRequest]) -> QueryRequest:
        """The body as a query; what is refused is recorded."""
        async with self._recorded(call):
            return read(await read_object(call.request), project=project_of(call.spec))

    @contextlib.asynccontextmanager
    async def _recorded(self, call: Call) -> AsyncIterator[None]:
        """What is refused while a request is read is on the record."""
        try:
            yield
        except BigQueryError as refused:
            session = call.caller.session(call.spec)
            await self._front.services.record.append(
                entries.request_refused(session, call.endpoint.name, refused.reason)
            )
            raise

    # --- rows and uploads ---------------------------------------------------------------------------------------------

    async def _insert_all(self, call: Call) -> dict[str, Any]:
        dataset, table = call.parameters["dataset"], call.parameters["table"]
        async with self._recorded(call):
            statement, options = read_insert(await read_object(call.request), project_of(call.spec), (dataset, table))
        return await self._writes.insert(call.caller, call.spec, (dataset, table), statement, options)

    async def _upload(self, call: Call) -> Answer:
        """One multipart request, or the beginning of a resumable upload."""
        kind = call.query.get("uploadType", "")
        async with self._recorded(call):
            if kind == "multipart":
                raw = await read_body(call.request, MAX_UPLOAD_BYTES)
                return await self._load(call, *read_multipart(call.request.headers.get("content-type", ""), raw))
            if kind != "resumable":
                raise BigQueryError("invalid", "the upload type is not served, expected multipart or resumable")
            body = await read_object(call.request)
            read_job(body, project=project_of(call.spec), content=b"")  # refused now, not when everything is sent
        upload_id = self._uploads.begin(owner_of(call), call.request.scope["path"], body)
        peers = self._others(call)
        if peers is not None:
            await peers.claim(upload_name(upload_id))
        url = f"{call.request.url.scheme}://{call.request.url.netloc}{call.request.scope['path']}"
        return Response(headers={"Location": f"{url}?uploadType=resumable&upload_id={upload_id}"})

    async def _upload_part(self, call: Call) -> Answer:
        upload_id = call.query.get("upload_id", "")
        upload = self._uploads.find(owner_of(call), call.request.scope["path"], upload_id)
        part = await read_body(call.request, MAX_UPLOAD_BYTES)
        span = read_span(call.request.headers.get("content-range", f"bytes 0-{len(part) - 1}/{len(part)}"), len(part))
        if span.start not in (None, len(upload.content)):
            raise BigQueryError("invalid", "the piece does not follow the one before")
        self._uploads.add(upload, part)
        if span.total is None or len(upload.content) < span.total:
            arrived = {"Range": f"bytes=0-{len(upload.content) - 1}"} if upload.content else {}
            return Response(status_code=RESUME_INCOMPLETE, headers=arrived)
        self._uploads.end(upload_id)
        return await self._load(call, upload.body, bytes(upload.content))

    async def _upload_cancel(self, call: Call) -> Answer:
        upload_id = call.query.get("upload_id", "")
        self._uploads.find(owner_of(call), call.request.scope["path"], upload_id)
        self._uploads.end(upload_id)
        return Response(status_code=CLIENT_CLOSED)

    async def _load(self, call: Call, body: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        request = read_job(body, project=project_of(call.spec), content=content)
        assert request.work is not None
        found = "unreadable" if not request.work.is_readable else ""
        if not found and await asyncio.to_thread(carries_mask, "", (content,)):
            found = "masked"
        request = replace(request, work=replace(request.work, found=found))
        return resources.job_resource((await self._start(call, request)).facts())

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

    async def _drop_table(self, call: Call) -> Response:
        """DROP TABLE or DROP VIEW, decided and run as that statement."""
        self._must_read(call)
        dataset, table = call.parameters["dataset"], call.parameters["table"]
        async with self._recorded(call):
            name = table_of({"datasetId": dataset, "tableId": table}, project_of(call.spec))
        found = await metadata.find_table(self._reader, call.spec, dataset, table)
        kind = "VIEW" if found.get("type") == "VIEW" else "TABLE"
        job = await self._start(call, QueryRequest(f"DROP {kind} `{name}`"))
        await wait_for(job, MAX_WAIT_S)
        if job.state != "DONE":
            where = f": {job.review.url}" if job.review is not None else ""
            raise BigQueryError("accessDenied", f"job {job.job_id} waits for approval{where}")
        if job.error is not None:
            raise job.error
        return Response(status_code=NO_CONTENT)

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
    raw = await read_body(request, MAX_BODY_BYTES)
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise BigQueryError("invalid", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise BigQueryError("invalid", "the body is not a JSON object")
    return body


async def read_body(request: Request, limit: int) -> bytes:
    """Bounded in size and time. It stays with the request, which may have to go on to another process."""
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise BigQueryError("tooLarge", f"the body is larger than {limit} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise BigQueryError("invalid", f"the body did not arrive within {BODY_WITHIN_S:.0f} s") from None
    request.state.body = b"".join(chunks)
    return bytes(request.state.body)


async def body_of(request: Request) -> bytes:
    """What was read of a request, or is to be read."""
    return bytes(getattr(request.state, "body", b"")) or await read_body(request, MAX_UPLOAD_BYTES)


def job_name(call: Call, job_id: str) -> str:
    return f"job {key_of(call.caller.principal, call.spec)} {job_id}"


def upload_name(upload_id: str) -> str:
    return f"upload {upload_id}"


def without_paging(query: Mapping[str, str], limit: int) -> str:
    kept = [(name, value) for name, value in query.items() if name not in ("pageToken", "maxResults")]
    return urlencode([*kept, ("maxResults", str(limit))])


def owner_of(call: Call) -> Owner:
    """Whose upload it is: the same that a job is told by."""
    return key_of(call.caller.principal, call.spec)


def challenge(request: Request) -> str:
    """RFC 9728 §5.1: where a client learns who issues tokens for this resource."""
    return (
        f'Bearer resource_metadata="{request.url.scheme}://{request.url.netloc}/.well-known/oauth-protected-resource"'
    )
