"""BigQuery jobs of this process: begun, governed, found again by their owner, handed out page by page, forgotten.

A job is a session of its own. It lives in this process, for its owner alone, for `KEEP_S` after its end: another
principal's job does not exist, and neither does one whose owner has lost a right since.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time

from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.bigquery_job import Job, Key, key_of, may_have, now_ms
from gateway.listeners.bigquery_transport import JobTransport
from gateway.listeners.data_api import Caller, place_of
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.parameters import canonical
from gateway.protocols.bigquery.requests import QueryRequest
from gateway.session import entries
from gateway.session.approval import still_approved
from gateway.session.context import SessionContext, StatementRequest, new_id
from gateway.session.emergency import is_over
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.pipeline import run_statement
from gateway.session.registry import SessionRegistry
from gateway.session.services import Services
from gateway.session.standing import why_not_on
from gateway.upstreams.bigquery import project_of
from gateway.upstreams.bigquery_api import BigQueryApi
from gateway.upstreams.bigquery_execution import BigQueryExecution, Page
from gateway.upstreams.bigquery_sources import JobOptions, QueryJob
from gateway.upstreams.bigquery_work import NativeJob
from gateway.upstreams.recording import RecordingSink
from gateway.upstreams.registry import UpstreamFailed

logger = logging.getLogger(__name__)

KEEP_S = 3600.0
MAX_JOBS_EACH = 500  # of one principal on one connection, finished ones included
REQUEST_ID_S = 900.0  # QueryRequest.requestId: repeated within fifteen minutes it is the same request


class BigQueryJobs:
    """Every job of this process."""

    def __init__(
        self,
        *,
        services: Services,
        registry: SessionRegistry,
        api: BigQueryApi,
        recordings: RecordingSink | None,
    ) -> None:
        self._services = services
        self._registry = registry
        self._api = api
        self._recordings = recordings
        self._jobs: dict[Key, dict[str, Job]] = {}
        self._requests: dict[tuple[Key, str, str], tuple[float, Job]] = {}

    def start(self, caller: Caller, spec: ConnectionSpec, request: QueryRequest) -> Job:
        """Begin to govern and run a query; returns at once. Raises BigQueryError for an id that is taken."""
        key = key_of(caller.principal, spec)
        again = self._repeated(key, request)
        if again is not None and may_have(again, caller):
            return again
        own = self._jobs.setdefault(key, {})
        self._forget_old(own)
        job_id = request.job_id or new_id()
        if job_id in own:
            raise BigQueryError("duplicate", f"Already Exists: Job {project_of(spec)}:{job_id}")
        if len(own) >= MAX_JOBS_EACH:
            raise BigQueryError(
                "quotaExceeded", f"you have {MAX_JOBS_EACH} jobs here; old ones are forgotten in an hour"
            )
        session = caller.session(spec, search_path=request.default_dataset, settings=request.settings)
        statement = statement_of(request)
        job = own[job_id] = Job(
            caller=caller, spec=spec, job_id=job_id, request=request, session=session, statement=statement
        )
        if request.request_id:
            self._requests[(key, request.request_id, _digest(request))] = (time.monotonic() + REQUEST_ID_S, job)
        job.task = asyncio.create_task(self._govern(job), name=f"bigquery {session.session_id}")
        return job

    def find(self, caller: Caller, spec: ConnectionSpec, job_id: str) -> Job:
        """The caller's own job. Raises BigQueryError notFound for everything else."""
        job = self._jobs.get(key_of(caller.principal, spec), {}).get(job_id)
        if job is None or not may_have(job, caller):
            raise BigQueryError("notFound", f"Not found: Job {project_of(spec)}:{job_id[:200]}")
        if job.state != "DONE":
            job.session.principal = caller.principal  # the newest token keeps a held job's session alive
        return job

    def holds(self, caller: Caller, spec: ConnectionSpec, job_id: str) -> bool:
        """Whether it is here; whether the caller may have it is for `find` to say."""
        return job_id in self._jobs.get(key_of(caller.principal, spec), {})

    def own(self, caller: Caller, spec: ConnectionSpec) -> list[Job]:
        """Newest first."""
        jobs = self._jobs.get(key_of(caller.principal, spec), {}).values()
        return sorted(jobs, key=lambda job: job.created_ms, reverse=True)

    async def page(self, job: Job, *, offset: int, max_results: int | None, int64_timestamps: bool) -> Page:
        """Rows of a finished job, masked by the rules it was decided under, as long as those are the rules.

        What was shown in an emergency is not shown again after it, nor under an approval once that is revoked.
        """
        assert job.execution is not None
        snapshot = self._services.snapshots.current()
        current = snapshot.connections.get(job.spec.name)
        if current is None or not current.enabled or current.rules_digest != job.spec.rules_digest:
            raise BigQueryError("accessDenied", "the rules changed since this query ran; run it again")
        if is_over(snapshot, job.execution.permit):
            await job.cancel()
            raise BigQueryError("accessDenied", "the emergency access this query ran under is over")
        if not await still_approved(self._services, job.execution.permit.claim):
            await job.cancel()
            raise BigQueryError("accessDenied", "the approval this query ran under was revoked")
        try:
            return await job.execution.page(offset=offset, max_results=max_results, int64_timestamps=int64_timestamps)
        except UpstreamFailed as failed:
            raise BigQueryError("jobBackendError", failed.message) from None

    def execution(self, permit: ExecutionPermit, request: QueryRequest) -> BigQueryExecution:
        options = JobOptions(
            use_cache=request.use_cache,
            maximum_bytes_billed=request.maximum_bytes_billed,
            priority=request.priority,
            labels=request.labels,
            job_timeout_ms=request.job_timeout_ms,
            location=request.location,
            parameter_mode=request.parameter_mode,
        )
        spec, work = permit.session.connection, request.work
        source = QueryJob(self._api, spec, options) if work is None else NativeJob(self._api, spec, work, options)
        return BigQueryExecution(source, permit, recordings=self._recordings, read_again=self._record_again)

    async def close(self) -> None:
        """End what runs and complete what is being read."""
        jobs = [job for own in self._jobs.values() for job in own.values()]
        await asyncio.gather(*(job.cancel() for job in jobs), return_exceptions=True)
        begun = [task for job in jobs for task in (job.task, job.follower) if task is not None]
        tasks = [task for task in begun if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _govern(self, job: Job) -> None:
        """The whole life of a job's session: opened, one statement, its rows handed out, closed."""
        self._services.record.append_later(entries.session_opened(job.session))
        self._registry.add(job.session, job.cancel)
        reason = "finished"
        try:
            await must_be_on(self._services, job.session)
            await run_statement(self._services, job.session, job.statement, JobTransport(job, execution=self.execution))
            if job.execution is not None:
                await job.execution.ended.wait()
            reason = job.ended_by or reason
        except BigQueryError as refused:
            reason = "refused"
            job.end(refused)
        except asyncio.CancelledError:
            reason = "gateway-stopped"
            job.end(BigQueryError("stopped", "the gateway was stopped"))
            raise
        except Exception as error:  # fail closed: the client gets an error and no row
            logger.error(
                "bigquery job broke: session=%s error=%s",
                job.session.session_id,
                type(error).__name__,
                exc_info=place_of(error),
            )
            reason = "internal-error"
            job.end(BigQueryError("jobInternalError", "internal error"))
        finally:
            job.end(BigQueryError("jobInternalError", "the query ended without an answer"))
            self._registry.remove(job.session.session_id)
            self._services.session_ended(job.session, reason)

    async def _record_again(self, permit: ExecutionPermit, outcome: Outcome) -> None:
        if outcome.subjects is not None:
            await self._services.record.append(entries.subjects_seen(permit, outcome.subjects))
        await self._services.record.append(entries.read_again(permit, outcome))

    def _repeated(self, key: Key, request: QueryRequest) -> Job | None:
        """The job an earlier call with the same requestId and the same content began."""
        now = time.monotonic()
        self._requests = {name: kept for name, kept in self._requests.items() if kept[0] > now}
        kept = self._requests.get((key, request.request_id, _digest(request))) if request.request_id else None
        return None if kept is None else kept[1]

    def _forget_old(self, own: dict[str, Job]) -> None:
        until = now_ms() - KEEP_S * 1000
        for job_id in [job_id for job_id, job in own.items() if job.state == "DONE" and job.ended_ms < until]:
            del own[job_id]


def statement_of(request: QueryRequest) -> StatementRequest:
    return StatementRequest(
        request.text,
        parameters=request.bound,
        declared_parameters=request.declared,
        destination=request.target,
        upload=request.work.found if request.work is not None else "",
    )


async def must_be_on(services: Services, session: SessionContext) -> None:
    """Raises BigQueryError for whom the rules of this moment do not let in any more; that is on the record.

    A caller was let in when the request's head came, and may have taken half a minute to send the rest. Registered
    sessions are looked through with every change of the rules: called right after that, nobody slips between the two.
    """
    why = why_not_on(session, services.snapshots.current())
    if why:
        await services.record.append(entries.request_refused(session, "session", "not-on"))
        raise BigQueryError("accessDenied", f"the session is over: {why}")


def _digest(request: QueryRequest) -> str:
    parts = [request.text, request.parameters, request.default_dataset, request.labels, request.maximum_bytes_billed]
    return hashlib.sha256(canonical(parts)).hexdigest()
