"""/readyz and what a draining process still answers over HTTP."""

from __future__ import annotations

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.listeners.http import build_app
from gateway.listeners.readiness import Readiness
from gateway.pulses import Pulses


def client(readiness: Readiness) -> httpx.AsyncClient:
    async def work(_: Request) -> Response:
        return JSONResponse({"answering": readiness.answering})

    routes = [Route("/{path:path}", work, methods=["GET", "POST", "DELETE"])]
    return httpx.AsyncClient(transport=httpx.ASGITransport(build_app(routes, readiness)), base_url="http://gateway")


async def test_readyz_names_what_fails() -> None:
    def stale() -> bool:
        raise RuntimeError("the rules are old")

    async with client(Readiness({"log": lambda: True})) as http:
        good = await http.get("/readyz")
    async with client(Readiness({"rules": stale, "log": lambda: False})) as http:
        bad, alive = await http.get("/readyz"), await http.get("/livez")

    assert (good.status_code, good.json()) == (200, {"status": "ok"})
    assert (bad.status_code, bad.json()) == (503, {"status": "unavailable", "failing": ["rules", "log"]})
    assert alive.status_code == 200


async def test_readyz_names_loops_that_do_not_come_round() -> None:
    now = [100.0]
    pulses = Pulses(clock=lambda: now[0])
    sweep, _ = pulses.of("sweep", within_s=30), pulses.of("settling", within_s=300)
    seen = []
    async with client(Readiness({"log": lambda: True}, pulses)) as http:
        for at in (130.0, 131.0, 401.0):
            now[0] = at
            seen.append((await http.get("/readyz")).json().get("failing"))
        sweep()
        seen.append((await http.get("/readyz")).json().get("failing"))

    assert seen == [None, ["sweep"], ["sweep", "settling"], ["settling"]]


@pytest.mark.parametrize(
    ("method", "path", "served"),
    [
        ("POST", "/relay/v1/statements", False),
        ("POST", "/bigquery/v2/projects/p/queries", False),
        ("GET", "/bigquery/v2/projects/p/queries/job", True),
        ("POST", "/bigquery/v2/projects/p/jobs/job/cancel", True),
        ("DELETE", "/bigquery/v2/projects/p/jobs/job/delete", True),
        ("GET", "/livez", True),
    ],
)
async def test_draining_process_begins_nothing(method: str, path: str, served: bool) -> None:
    readiness = Readiness()
    async with client(readiness) as http:
        before = await http.request(method, path)
        readiness.draining = True
        during, ready = await http.request(method, path), await http.get("/readyz")

    assert before.status_code == 200
    assert (during.status_code == 200) is served
    assert served or during.headers["Retry-After"]
    assert ready.json() == {"status": "unavailable", "failing": ["draining"]}


async def test_requests_under_way_are_counted_without_the_relays() -> None:
    readiness = Readiness()
    async with client(readiness) as http:
        own, relayed = await http.get("/bigquery/v2/projects"), await http.post("/relay/v1/statements")

    assert (own.json()["answering"], relayed.json()["answering"]) == (1, 0)
    assert readiness.answering == 0
