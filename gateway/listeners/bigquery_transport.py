"""What the pipeline tells one BigQuery job: denied, held, resumed, run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.listeners.bigquery_job import Job, now_ms
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import QueryRequest
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.transport import Denial, PendingReview, Resumption
from gateway.upstreams.bigquery_execution import BigQueryExecution
from gateway.upstreams.registry import UpstreamFailed

MINUTE_S = 60  # a client may wait this long for a quota; stock clients do so by themselves

# Makes the execution of what was permitted.
Executes = Callable[[ExecutionPermit, QueryRequest], BigQueryExecution]


class JobTransport:
    """Fulfils `gateway.session.transport.Transport` for one job."""

    def __init__(self, job: Job, *, execution: Executes) -> None:
        self._job = job
        self._execution = execution

    @property
    def gone(self) -> asyncio.Event:
        return self._job.gone

    def may_run_modified(self, permit_text: str) -> bool:
        return self._job.request.work is None  # the text of other jobs is made of their configuration

    async def send_denied(self, denial: Denial) -> None:
        withdrawn = denial.code == "review-withdrawn"
        self._job.end(self._job.stopped() if withdrawn else denied(denial))

    async def send_pending(self, review: PendingReview) -> None:
        self._job.review = review

    async def send_resumed(self, resumption: Resumption) -> None:
        self._job.resumption = resumption

    async def execute(self, permit: ExecutionPermit) -> None:
        job = self._job
        if job.gone.is_set():
            permit.consume()
            permit.complete(Outcome(status="cancelled", error="stopped"))
            job.end(job.stopped())
            return
        job.text, job.state, job.started_ms = permit.statement, "RUNNING", now_ms()
        job.execution = self._execution(permit, job.request)
        try:
            await job.execution.run()
        except BigQueryError as error:
            job.end(error)
        except UpstreamFailed as failed:
            job.end(BigQueryError("jobBackendError", failed.message))
        else:
            job.end()


def denied(denial: Denial) -> BigQueryError:
    """A denial in BigQuery's words: the rule, what would be allowed, where it is recorded."""
    if denial.code == "rejected-by-database":
        reasons = {"42P01": "notFound", "3F000": "notFound", "42501": "accessDenied"}
        return BigQueryError(reasons.get(denial.sqlstate, "invalidQuery"), denial.reason)
    rule = f" (rule {denial.rule})" if denial.rule else ""
    again = denial.retry_after_s
    instead = f" Instead: {denial.permitted_alternative}." if denial.permitted_alternative else ""
    instead += f" Allowed now: {denial.permitted_statement}." if denial.permitted_statement else ""
    where = f" Session {denial.session_id}, statement {denial.statement_id}."
    reason = "accessDenied" if not again else "rateLimitExceeded" if again <= MINUTE_S else "quotaExceeded"
    return BigQueryError(reason, f"{denial.reason}{rule} [{denial.code}].{instead}{where}")
