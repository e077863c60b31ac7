"""The router of the data APIs: the request line says what is asked for, the Host header at most of whom."""

from __future__ import annotations

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.data_api import DataApis, Target, is_safe_wire
from gateway.listeners.http import build_app

KNOWN = {"warehouse": ConnectionSpec(name="warehouse", kind="bigquery", phi=True)}


class Mirror:
    """A surface that says what it was asked."""

    def owns(self, path: str) -> bool:
        return path.startswith("/bigquery/")

    async def handle(self, request: Request, target: Target) -> Response:
        return JSONResponse([target.path, target.connection, is_safe_wire(request, plaintext_on_loopback=False)])


async def ask(path: str, host: str = "gateway.test") -> httpx.Response:
    app = build_app(DataApis([Mirror()], lambda: KNOWN).routes())
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 40_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        return await client.get(path, headers={"Host": host})


@pytest.mark.parametrize(
    "host",
    ["gateway.test/bigquery/v2/projects?", "gateway.test/c/warehouse/bigquery", "x#", "[", "[::1", "a@b/bigquery/v2"],
)
async def test_host_header_is_no_part_of_the_path(host: str) -> None:
    assert (await ask("/elsewhere", host)).status_code == 404
    assert (await ask("/bigquery/v2/projects", host)).json() == ["/bigquery/v2/projects", "", False]


async def test_encoded_question_mark_belongs_to_the_path() -> None:
    assert (await ask("/bigquery/v2/projects/p%3Fx%23y")).json()[0] == "/bigquery/v2/projects/p?x#y"


@pytest.mark.parametrize("host", ["warehouse", "warehouse.gateway.test", "WAREHOUSE.gateway.test:8010"])
async def test_first_label_of_the_host_names_a_connection(host: str) -> None:
    assert (await ask("/bigquery/v2/projects", host)).json()[1] == "warehouse"


async def test_prefix_counts_more_than_the_host() -> None:
    assert (await ask("/c/other/bigquery/v2", "warehouse")).json()[:2] == ["/bigquery/v2", "other"]
