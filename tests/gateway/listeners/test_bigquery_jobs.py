"""Rows of finished jobs: handed out again only while what let them out still does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from approvals.domain.request import Principal
from gateway.listeners.bigquery_job import Job
from gateway.listeners.bigquery_jobs import BigQueryJobs
from gateway.listeners.bigquery_queries import Patience
from gateway.listeners.data_api import Caller
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import QueryRequest
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.pipeline import authorise
from gateway.session.registry import SessionRegistry
from gateway.upstreams.bigquery_api import BigQueryApi
from gateway.upstreams.bigquery_execution import BigQueryExecution
from gateway.upstreams.bigquery_sources import Described, RawPage
from tests.gateway.session.doors import World
from tests.gateway.session.test_emergency import UPDATE, emergency_world, in_force, session

pytestmark = pytest.mark.usefixtures("settings")


class OneRow:
    """Fulfils `RowSource`."""

    async def start(self, request: StatementRequest, session: SessionContext) -> Described:
        return Described([{"name": "value", "type": "STRING"}], 1)

    async def fetch(self, *, offset: int, max_results: int | None, int64_timestamps: bool) -> RawPage:
        return RawPage([{"f": [{"v": "123-45-6789"}]}], None)

    async def cancel(self) -> None:
        """Nothing runs."""


async def no_credential(_spec: object) -> Mapping[str, str]:
    return {}


async def read_again(_permit: ExecutionPermit, _outcome: Outcome) -> None:
    """On the record."""


async def finished(world: World) -> tuple[BigQueryJobs, Job]:
    opened = session(world)
    permit = await authorise(world.services, opened, StatementRequest(UPDATE), world.client)
    assert permit is not None
    caller = Caller(opened.principal, "", "", "", "bigquery")
    spec = world.rules.value.connections["clinic"]
    request = QueryRequest(UPDATE)
    job = Job(caller, spec, "j1", request, opened, StatementRequest(UPDATE), state="DONE")
    job.execution = BigQueryExecution(OneRow(), permit, recordings=None, read_again=read_again)
    await job.execution.run()
    api = BigQueryApi(no_credential)
    return BigQueryJobs(services=world.services, registry=SessionRegistry(), api=api, recordings=None), job


async def page(jobs: BigQueryJobs, job: Job) -> list[Any]:
    return (await jobs.page(job, offset=0, max_results=None, int64_timestamps=False)).rows


@pytest.mark.parametrize(
    "after",
    [(), (in_force(id="e2"),), (in_force(ends_at=time.time() - 1),)],
    ids=["ended", "another", "out of time"],
)
async def test_what_an_emergency_showed_is_not_shown_after_it(after: tuple[Any, ...]) -> None:
    world = emergency_world(UPDATE, lifts_masks=True)
    jobs, job = await finished(world)
    assert "123-45-6789" in str(await page(jobs, job))  # read again in time
    world.rules.value = replace(world.rules.value, emergencies=after)

    with pytest.raises(BigQueryError) as refused:
        await page(jobs, job)

    assert refused.value.reason == "accessDenied"
    assert "emergency" in refused.value.message


async def test_what_an_approval_showed_is_not_shown_once_it_is_revoked() -> None:
    world = emergency_world(UPDATE, lifts_masks=True)
    jobs, job = await finished(world)
    assert await page(jobs, job)
    world.desk.stood = False

    with pytest.raises(BigQueryError) as refused:
        await page(jobs, job)

    assert (refused.value.reason, "revoked" in refused.value.message) == ("accessDenied", True)


async def test_rules_that_changed_end_it_too() -> None:
    world = emergency_world(UPDATE, lifts_masks=True)
    jobs, job = await finished(world)
    spec = replace(world.rules.value.connections["clinic"], rules_digest="d2")
    world.rules.value = replace(world.rules.value, connections={"clinic": spec})

    with pytest.raises(BigQueryError) as refused:
        await page(jobs, job)

    assert refused.value.reason == "accessDenied"


async def test_a_repeated_request_is_another_one_for_who_lost_a_group_since() -> None:
    world = emergency_world(UPDATE, lifts_masks=True)
    spec = world.rules.value.connections["clinic"]
    principal = session(world).principal
    jobs = BigQueryJobs(
        services=world.services, registry=SessionRegistry(), api=BigQueryApi(no_credential), recordings=None
    )

    def asked(principal: Principal) -> Job:
        return jobs.start(Caller(principal, "", "", "", "bigquery"), spec, QueryRequest(UPDATE, request_id="r1"))

    first, again = asked(principal), asked(principal)
    fewer = asked(replace(principal, groups=frozenset()))
    await jobs.close()

    assert again is first  # the control
    assert fewer is not first


async def test_who_waits_with_too_many_requests_is_answered_at_once() -> None:
    opened = session(emergency_world(UPDATE))
    caller = Caller(opened.principal, "", "", "", "bigquery")
    job = Job(caller, opened.connection, "j1", QueryRequest(UPDATE), opened, StatementRequest(UPDATE))
    patience = Patience(most=1)
    first = asyncio.create_task(patience.wait_for(job, ("one",), 600))
    await asyncio.sleep(0)

    await asyncio.wait_for(patience.wait_for(job, ("one",), 600), 60)
    other = asyncio.create_task(patience.wait_for(job, ("other",), 600))
    await asyncio.sleep(0)

    assert (first.done(), other.done()) == (False, False)
    job.end()
    await asyncio.gather(first, other)
