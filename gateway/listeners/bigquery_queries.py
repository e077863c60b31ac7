"""`jobs.*` for queries and jobs: begun, looked at, read, listed, cancelled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from gateway.listeners.bigquery_calls import Answer, Call, Handler, recorded
from gateway.listeners.bigquery_dryrun import dry_run
from gateway.listeners.bigquery_elsewhere import Elsewhere
from gateway.listeners.bigquery_job import Job
from gateway.listeners.bigquery_jobs import BigQueryJobs
from gateway.listeners.bigquery_uploads import Owner
from gateway.listeners.data_api import Front
from gateway.listeners.http_bodies import read_object
from gateway.protocols.bigquery import resources
from gateway.protocols.bigquery.requests import QueryRequest, read_job, read_query
from gateway.upstreams.bigquery import BigQueryUpstream, project_of

DEFAULT_LISTED = 50
# Requests of one principal that wait for a job; more are answered at once, and ask again. All have 2,000 together.
MAX_WAITING_EACH = 100
MAX_LISTED_ELSEWHERE = 1_000
FIRST_PAGE = str(0)


class QueryCalls:
    def __init__(self, *, front: Front, jobs: BigQueryJobs, reader: BigQueryUpstream, elsewhere: Elsewhere) -> None:
        self._front = front
        self._jobs = jobs
        self._reader = reader
        self._elsewhere = elsewhere
        self._patience = Patience()

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "jobs.query": self._query,
            "jobs.getQueryResults": self._results,
            "jobs.insert": self._insert,
            "jobs.list": self._list,
            "jobs.get": self._get,
            "jobs.cancel": self._cancel,
        }

    async def _insert(self, call: Call) -> dict[str, Any]:
        request = await self._asked(call, read_job)
        if request.dry_run:
            return resources.job_resource(
                await dry_run(self._front.services, self._reader, call.caller, call.spec, request)
            )
        return resources.job_resource((await self._elsewhere.start(call, request)).facts())

    async def _query(self, call: Call) -> Answer:
        request = await self._asked(call, read_query)
        if request.dry_run:
            facts = await dry_run(self._front.services, self._reader, call.caller, call.spec, request)
            return resources.query_answer(facts, kind="queryResponse", complete=True, schema=facts.schema or ())
        holder = await self._elsewhere.holder_of_repeated(call, request)
        if holder:
            return await self._elsewhere.hand_over(call, holder)
        job = await self._elsewhere.start(call, request)
        await self._patience.wait_for(job, call.owner, request.wait_s)
        return await self._result(
            job,
            kind="queryResponse",
            offset=0,
            max_results=request.max_results,
            int64_timestamps=request.int64_timestamps,
        )

    async def _results(self, call: Call) -> dict[str, Any]:
        job = self._jobs.find(call.caller, call.spec, call.parameters["job"])
        await self._patience.wait_for(job, call.owner, call.wait_s)
        return await self._result(
            job,
            kind="getQueryResultsResponse",
            offset=call.offset,
            max_results=call.number("maxResults"),
            int64_timestamps=call.int64_timestamps,
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

    async def _get(self, call: Call) -> dict[str, Any]:
        return resources.job_resource(self._jobs.find(call.caller, call.spec, call.parameters["job"]).facts())

    async def _cancel(self, call: Call) -> dict[str, Any]:
        job = self._jobs.find(call.caller, call.spec, call.parameters["job"])
        if job.state != "DONE":
            await job.cancel()
            await wait_for(job, 1.0)
        return {"kind": "bigquery#jobCancelResponse", "job": resources.job_resource(job.facts())}

    async def _list(self, call: Call) -> dict[str, Any]:
        """The caller's own, whatever `allUsers` says."""
        if call.query.get("parentJobId"):  # a script is one job here, and has no children
            return {"kind": "bigquery#jobList"}
        wanted = {state.upper() for state in call.request.query_params.getlist("stateFilter")}
        own = [job for job in self._jobs.own(call.caller, call.spec) if not wanted or job.state in wanted]
        offset, limit = call.number("pageToken") or 0, call.number("maxResults") or DEFAULT_LISTED
        jobs = [resources.job_item(job.facts()) for job in own]
        jobs += await self._elsewhere.listed(call, min(offset + limit, MAX_LISTED_ELSEWHERE))
        jobs.sort(key=lambda job: int(job["statistics"].get("creationTime", 0)), reverse=True)
        page = jobs[offset : offset + limit]
        more = {"nextPageToken": str(offset + limit)} if offset + limit < len(jobs) else {}
        return {"kind": "bigquery#jobList", "jobs": page, **more}

    async def _asked(self, call: Call, read: Callable[..., QueryRequest]) -> QueryRequest:
        """The body as a query; what is refused is recorded."""
        async with recorded(self._front, call):
            return read(await read_object(call.request), project=project_of(call.spec))


class Patience:
    """Who waits for jobs here, so that one principal's waiting does not keep everybody else out."""

    def __init__(self, most: int = MAX_WAITING_EACH) -> None:
        self._most = most
        self._waiting: Counter[Owner] = Counter()

    async def wait_for(self, job: Job, owner: Owner, seconds: float) -> None:
        if self._waiting[owner] >= self._most:
            return
        self._waiting[owner] += 1
        try:
            await wait_for(job, seconds)
        finally:
            self._waiting[owner] -= 1
            self._waiting += Counter()  # forgets who waits no more


async def wait_for(job: Job, seconds: float) -> None:
    """Until the job is done, or its caller would rather hear that it is not."""
    if not job.done.is_set() and seconds > 0:
        try:
            await asyncio.wait_for(job.done.wait(), seconds)
        except TimeoutError:
            return
