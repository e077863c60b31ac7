"""A BigQuery job as its owner sees it: one statement on its way through the pipeline.

    PENDING   analysed, decided, perhaps held: the review's address is on the job
    RUNNING   permitted, running at the service under an id of the gateway's
    DONE      with a result that can be read page by page, or with an error object

What it is doing now, and what became of it, is told as a job resource (`facts`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.data_api import Caller
from gateway.protocols.bigquery import resources
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import QueryRequest
from gateway.protocols.bigquery.resources import JobFacts, JobStatistics
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.transport import PendingReview, Resumption
from gateway.upstreams.bigquery import project_of
from gateway.upstreams.bigquery_execution import BigQueryExecution

CANCELLED = "cancelled"

Key = tuple[str, str, str, str, str | None]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True, eq=False)
class Job:
    """One query. `transport` drives it; everything else reads."""

    caller: Caller
    spec: ConnectionSpec
    job_id: str
    request: QueryRequest
    session: SessionContext
    statement: StatementRequest
    state: str = "PENDING"
    text: str = ""
    error: BigQueryError | None = None
    review: PendingReview | None = None
    resumption: Resumption | None = None
    execution: BigQueryExecution | None = None
    created_ms: int = field(default_factory=now_ms)
    started_ms: int = 0
    ended_ms: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    follower: asyncio.Task[None] | None = None
    ended_by: str = ""  # why somebody ended it

    @property
    def has_result(self) -> bool:
        return self.state == "DONE" and self.error is None and self.execution is not None

    def end(self, error: BigQueryError | None = None) -> None:
        """The first end counts."""
        if self.state == "DONE":
            return
        self.state, self.error, self.ended_ms = "DONE", error, now_ms()
        self.done.set()

    def when_done(self, then: Callable[[], Awaitable[None]]) -> None:
        """Call `then` once it is over."""

        async def follow() -> None:
            await self.done.wait()
            await then()

        self.follower = asyncio.create_task(follow())

    def stopped(self) -> BigQueryError:
        """What became of a job that did not run to its end: cancelled by its owner, or ended from outside, and why."""
        outside = self.ended_by not in ("", CANCELLED)
        return BigQueryError("stopped", f"the job was ended: {self.ended_by}" if outside else "the job was cancelled")

    async def cancel(self, reason: str = CANCELLED) -> None:
        """The owner, or whoever kills the session, wants no more of it: not even a finished job's rows."""
        self.ended_by = self.ended_by or reason
        self.gone.set()
        if self.execution is not None:
            await self.execution.cancel()
            if self.state == "DONE":
                await self.execution.close()

    def facts(self) -> JobFacts:
        return JobFacts(
            project=project_of(self.spec),
            job_id=self.job_id,
            location=self.spec.settings.get("location") or self.request.location,
            user=self.caller.principal.subject,
            request=self.request,
            state=self.state,
            text=self.text or self.request.text,
            created_ms=self.created_ms,
            started_ms=self.started_ms,
            ended_ms=self.ended_ms,
            labels=self._labels(),
            notes=tuple(self._notes()),
            error=self.error,
            statistics=JobStatistics() if self.execution is None else self.execution.statistics,
            returns_rows=self.execution is not None and self.execution.fields is not None,
        )

    def _labels(self) -> dict[str, str]:
        labels = {resources.SESSION_LABEL: self.session.session_id}
        if self.review is not None:
            labels[resources.REVIEW_LABEL] = self.review.url
        if self.resumption is not None and self.resumption.modified_from is not None:
            labels[resources.MODIFIED_LABEL] = "true"
        return labels

    def _notes(self) -> Iterator[str]:
        if self.review is not None and self.resumption is None and self.state != "DONE":
            yield f"this query waits for approval (rule {self.review.rule}): {self.review.url}"
            if self.review.permitted_statement:
                yield f"allowed now: {self.review.permitted_statement}"
        if self.resumption is not None:
            reason = f": {self.resumption.reason}" if self.resumption.reason else ""
            yield f"approved by {', '.join(self.resumption.approvers)}{reason}"
            if self.resumption.modified_from is not None:
                yield f"what ran is the reviewer's text: {self.resumption.statement}"


def may_have(job: Job, caller: Caller) -> bool:
    """Whoever lost a group since must not get what that group was shown."""
    return job.session.principal.groups <= caller.principal.groups


def key_of(principal: Principal, spec: ConnectionSpec) -> Key:
    """Not by name alone: an agent acting for a person is neither of the two."""
    return (spec.name, principal.kind, principal.issuer, principal.subject, principal.actor)
