"""Quotas: over every process together, exact to a lease, and never a statement that could not be counted."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings

from gateway.domain.quotas import QuotaRule
from gateway.quota_counts import RedisCounts
from gateway.session.context import SessionContext, StatementRequest, new_id
from gateway.session.permit import Outcome
from gateway.session.pipeline import run_statement
from gateway.session.quotas import DAY_S, FREE, QuotaExceeded, Quotas, QuotasUnavailable
from gateway.session.remembered import authorise_known
from tests.gateway.session.doors import Client, World, analysed
from tests.gateway.session.test_pipeline import held_world


@pytest.fixture(autouse=True)
def within_one_day() -> None:
    """Redis counts by its own clock's day: no test begins where one may end."""
    left_s = DAY_S - time.time() % DAY_S
    if left_s < 30:
        time.sleep(left_s + 0.5)


def rule(**limits: int) -> QuotaRule:
    """A rule nobody counted under before."""
    return QuotaRule(name=new_id(), agents=("demo-*",), connections=("*",), **limits)


def process(url: str = "", **options: Any) -> Quotas:
    return Quotas(RedisCounts(url or settings.HOOPWEB_REDIS_URL), holder=new_id(), **options)


async def let_in(quotas: Quotas, session: SessionContext, given: QuotaRule, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            (await quotas.admit(session, (given,))).finish()
        except QuotaExceeded:
            continue
        count += 1
    return count


async def test_without_a_quota_everything_is_let_in() -> None:
    """The control: the same agent, asked under a rule for others, is not counted at all."""
    others = replace(rule(statements_per_minute=1), agents=("other",))

    admissions = [await process().admit(World().session, (others,)) for _ in range(5)]

    assert admissions == [FREE] * 5


@pytest.mark.parametrize("limit", ["statements_per_minute", "statements_per_day"])
async def test_processes_together_let_in_no_more_than_the_limit(limit: str) -> None:
    given, session = rule(**{limit: 30}), World().session
    processes = [process() for _ in range(3)]

    counts = await asyncio.gather(*(let_in(quotas, session, given, 25) for quotas in processes))

    assert sum(counts) == 30


async def test_denial_says_when_to_come_again() -> None:
    given, quotas, session = rule(statements_per_minute=2), process(), World().session
    await let_in(quotas, session, given, 2)

    with pytest.raises(QuotaExceeded) as exceeded:
        await quotas.admit(session, (given,))

    assert exceeded.value.limit == "statements_per_minute"
    assert 1 <= exceeded.value.retry_after_s <= 30


async def test_each_agent_has_a_count_of_its_own() -> None:
    given, quotas, session = rule(statements_per_day=1), process(), World().session
    other = World().session
    other.principal = replace(other.principal, subject="demo-other")

    assert [await let_in(quotas, session, given, 2), await let_in(quotas, other, given, 2)] == [1, 1]


@pytest.mark.parametrize(("limit", "used"), [("rows_per_day", (10, 0)), ("bytes_per_day", (0, 10))])
async def test_rows_and_bytes_stop_the_next_statement_everywhere(limit: str, used: tuple[int, int]) -> None:
    given, session = rule(**{limit: 10}), World().session
    here, there = process(), process()
    (await there.admit(session, (given,))).finish()
    (await here.admit(session, (given,))).finish(*used)

    with pytest.raises(QuotaExceeded):
        await here.admit(session, (given,))

    for quotas in (here, there):  # each second
        await quotas.tend()
    with pytest.raises(QuotaExceeded):
        await there.admit(session, (given,))


async def test_places_are_shared_and_come_back() -> None:
    given, session = rule(concurrent_statements=2), World().session
    here, there = process(), process()
    first, _second = await here.admit(session, (given,)), await there.admit(session, (given,))

    with pytest.raises(QuotaExceeded):
        await there.admit(session, (given,))

    first.finish()
    assert here.admit_now(session, (given,)) is not None  # its place is kept for a moment


async def test_held_statement_takes_no_place() -> None:
    given, session, quotas = rule(concurrent_statements=1), World().session, process()
    held = await quotas.admit(session, (given,))
    held.pause()

    other = await quotas.admit(session, (given,))
    held.go_on()  # approved: it runs, although the place is taken

    with pytest.raises(QuotaExceeded):
        await quotas.admit(session, (given,))
    other.finish()
    held.finish()
    assert await quotas.admit(session, (given,))


async def test_what_one_rule_lets_in_and_another_refuses_counts_for_neither() -> None:
    wide, narrow, quotas, session = (
        rule(concurrent_statements=1),
        rule(statements_per_day=1),
        process(),
        World().session,
    )
    (await quotas.admit(session, (narrow,))).finish()

    with pytest.raises(QuotaExceeded):
        await quotas.admit(session, (wide, narrow))

    assert await quotas.admit(session, (wide,))


async def test_unused_lease_is_given_back() -> None:
    given, session = rule(statements_per_day=400), World().session
    clock = [1_800_000_000.0]
    here, there = process(clock=lambda: clock[0]), process()
    (await here.admit(session, (given,))).finish()  # leases two, uses one
    clock[0] += 3
    await here.tend()

    assert await let_in(there, session, given, 400) == 399


async def test_lease_of_yesterday_is_not_given_back_to_today() -> None:
    given, session = rule(statements_per_day=400), World().session
    clock = [float(DAY_S - 1)]
    here, there = process(clock=lambda: clock[0]), process()
    (await here.admit(session, (given,))).finish()  # leases two, uses one
    clock[0] += 3  # past midnight
    await here.tend()

    assert await let_in(there, session, given, 400) == 398
    assert here._allowances == {}  # and it is forgotten all the same


async def test_counts_that_cannot_be_read_let_nobody_in() -> None:
    quotas = process("redis://127.0.0.1:9")

    with pytest.raises(QuotasUnavailable):
        await quotas.admit(World().session, (rule(statements_per_day=1),))


def limited(world: World, given: QuotaRule, quotas: Quotas | None) -> Any:
    world.rules.value = replace(world.rules.value, quotas=(given,))
    return replace(world.services, quotas=quotas)


async def test_pipeline_refuses_before_it_analyses_and_records_the_attempt() -> None:
    world = World()
    services = limited(world, rule(statements_per_minute=1), process())
    session = world.session

    for _ in range(2):
        await run_statement(services, session, StatementRequest("select city from patients"), world.client)

    [denial] = world.client.denials
    assert (denial.code, denial.sqlstate) == ("quota-exceeded", "53400")
    assert denial.permitted_alternative == f"send it again in {denial.retry_after_s} s"
    assert world.log.kinds == ["statement.authorised", "statement.completed", "statement.denied"]
    assert len(world.client.executed) == 1


@pytest.mark.parametrize("quotas", [None, "redis://127.0.0.1:9"])
async def test_pipeline_fails_closed_without_counts(quotas: str | None) -> None:
    world = World()
    services = limited(world, rule(statements_per_minute=1), quotas and process(quotas))

    await run_statement(services, world.session, StatementRequest("select city from patients"), world.client)

    assert [denial.code for denial in world.client.denials] == ["quota-unavailable"]


async def test_remembered_statements_are_counted_too() -> None:
    world = World()
    world.analyst.remembers = True
    services, session = limited(world, rule(statements_per_day=400), process()), world.session
    request = StatementRequest("select city from patients")
    await run_statement(services, session, request, world.client)

    let_through = 0
    for _ in range(450):  # as the lane does: without waiting where that is possible, else the long way
        permit = authorise_known(services, session, request)
        if permit is not None:
            permit.complete(Outcome(status="completed"))
            let_through += 1
        else:
            let_through += await run_statement(services, session, request, world.client) is not None

    assert let_through == 399
    assert services.meter.remembered > 150


async def test_held_statement_gives_its_place_to_others_while_it_waits() -> None:
    world = held_world()
    services, session = limited(world, rule(concurrent_statements=1), process()), world.session
    waiting, decided = asyncio.Event(), asyncio.Event()

    async def wait(*_: object) -> None:
        waiting.set()
        await decided.wait()

    world.desk.wait = wait  # type: ignore[method-assign]
    update = StatementRequest("update patients set city = 'x' where id = 1")
    held = asyncio.create_task(run_statement(services, session, update, world.client))
    await waiting.wait()
    assert services.meter.holding == 1
    world.analyst.answer = analysed

    read = await run_statement(services, session, StatementRequest("select city from patients"), Client())

    assert read is not None
    decided.set()
    await held
    assert services.meter.holding == 0
