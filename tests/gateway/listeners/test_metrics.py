"""The data plane's `/metrics`: what all processes behind one port counted, without a person or a value."""

from __future__ import annotations

import re
import socket
from typing import Any

import httpx
import pytest
from django.conf import settings

from gateway.listeners.http import build_app
from gateway.listeners.metrics import Board, MetricsEndpoint
from gateway.session.context import StatementRequest, new_id
from gateway.session.meter import Meter
from gateway.session.pipeline import run_statement
from tests.gateway.session.doors import World, analysed
from tests.gateway.session.test_pipeline import held_world

TOKEN = "metrics-token"
SQL = "select city from patients where mrn = 'canary-value'"


def free_name() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_name()


def board(meter: Meter, port: int, *, url: str = "", **gauges: float) -> Board:
    shown = {name: {"": value} for name, value in gauges.items()}
    return Board(url=url or settings.HOOPWEB_REDIS_URL, port=port, process=new_id(), meter=meter, gauges=lambda: shown)


async def scrape(given: Board, token: str = TOKEN, configured: str = TOKEN) -> httpx.Response:
    app = build_app(MetricsEndpoint(given, configured).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        return await client.get("/metrics", headers={"Authorization": f"Bearer {token}"})


async def statements(world: World, count: int) -> Any:
    services = world.services
    for _ in range(count):
        await run_statement(services, world.session, StatementRequest(SQL), world.client)
    return services.meter


async def test_it_exists_with_a_token_only_and_for_it_only(port: int) -> None:
    given = board(Meter(), port)

    answers = [await scrape(given), await scrape(given, "wrong"), await scrape(given, "", configured="")]

    assert [answer.status_code for answer in answers] == [200, 401, 404]


async def test_processes_of_one_port_are_added_up(port: int) -> None:
    here, there = await statements(World(), 2), await statements(World(), 3)
    await board(there, port, holding=4, rules_age=9).put()
    await board(await statements(World(), 7), free_name()).put()  # of another port

    text = (await scrape(board(here, port, holding=1, rules_age=2))).text

    counted = 'hoopweb_statements_total{connection="clinic",outcome="completed",protocol="postgres"} 5.0'
    assert counted in text
    assert "hoopweb_gateway_holding 5.0" in text
    assert "hoopweb_gateway_rules_age_seconds 9.0" in text
    assert 'hoopweb_stage_seconds_count{connection="clinic",stage="analyse"} 5.0' in text


async def test_outcomes_and_stages_are_told_apart(port: int) -> None:
    world = held_world()
    world.desk.decided = lambda desk, binding: None  # decided, and no grant is left
    services = world.services
    await run_statement(services, world.session, StatementRequest(SQL), world.client)
    world.analyst.answer = analysed
    await run_statement(services, world.session, StatementRequest(SQL), world.client)

    text = (await scrape(board(services.meter, port))).text

    outcomes = dict(re.findall(r'hoopweb_statements_total{.*outcome="(\w+)".*} ([\d.]+)', text))
    assert outcomes == {"held": "1.0", "denied": "1.0", "completed": "1.0"}
    stages = set(re.findall(r'hoopweb_stage_seconds_count{.*stage="(\w+)"} [1-9]', text))
    assert stages == {"analyse", "approve", "record", "execute"}


async def test_nobody_and_nothing_is_named(port: int) -> None:
    text = (await scrape(board(await statements(World(), 1), port))).text

    assert "clinic" in text
    assert not any(word in text for word in ("canary", "demo-agent", "patients"))


async def test_scrape_fails_rather_than_showing_one_process_as_all(port: int) -> None:
    answer = await scrape(board(Meter(), port, url="redis://127.0.0.1:9"))

    assert answer.status_code == 503


async def test_every_bucket_adds_up(port: int) -> None:
    meter = Meter()
    for seconds in (0.00005, 0.003, 70):
        meter.stages["clinic", "execute"].observe(seconds)

    text = (await scrape(board(meter, port))).text

    buckets = [float(n) for n in re.findall(r"hoopweb_stage_seconds_bucket{.*} ([\d.]+)", text)]
    assert (buckets[0], buckets[-2], buckets[-1]) == (1, 2, 3)
    assert buckets == sorted(buckets)
    assert "hoopweb_stage_seconds_sum" in text
