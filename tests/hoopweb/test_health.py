"""/healthz against real services, taken away one by one."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.test import RequestFactory, override_settings

from hoopweb.health import healthz, readyz
from hoopweb.heartbeat import WORKER_KEY, shared_redis, worker_is_alive

GATEWAY_KEY = "hoopweb:gateway:test"


def answer(view: Callable[[HttpRequest], HttpResponseBase] = healthz) -> tuple[int, dict[str, object]]:
    response = view(RequestFactory().get("/"))
    assert isinstance(response, JsonResponse)
    return response.status_code, json.loads(response.content)


@pytest.fixture
def everything_up(settings: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A listening gateway port and both heartbeats."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.HOOPWEB_LISTEN = "127.0.0.1"  # type: ignore[attr-defined]
        settings.HOOPWEB_POSTGRES_PORT = listener.getsockname()[1]  # type: ignore[attr-defined]
        shared_redis().set(GATEWAY_KEY, 1, ex=30)
        worker_is_alive()
        yield listener
    shared_redis().delete(GATEWAY_KEY, WORKER_KEY)


@pytest.mark.django_db
def test_healthz_everything_up_is_200(everything_up: socket.socket) -> None:
    assert answer() == (200, {"status": "ok"})


@pytest.mark.django_db
@pytest.mark.parametrize(("key", "part"), [(GATEWAY_KEY, "gateway"), (WORKER_KEY, "worker")])
def test_healthz_missing_heartbeat_is_503_with_the_part(everything_up: socket.socket, key: str, part: str) -> None:
    shared_redis().delete(key)

    assert answer() == (503, {"status": "unavailable", "failing": [part]})


@pytest.mark.django_db
def test_healthz_closed_gateway_port_is_503_even_with_a_heartbeat(everything_up: socket.socket) -> None:
    everything_up.close()

    assert answer() == (503, {"status": "unavailable", "failing": ["gateway"]})


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("files", "failing"),
    [([], None), (["demo.json.new"], ["demo"]), (["demo.json"], None), (["demo.json", "demo.json.new"], None)],
)
def test_healthz_waits_for_the_demo_to_be_told(
    everything_up: socket.socket, tmp_path: Path, files: list[str], failing: list[str] | None
) -> None:
    """Whoever waits for 200 reads demo.json next. Its renewal, every few hours, is no outage."""
    for name in files:
        (tmp_path / name).touch()

    with override_settings(HOOPWEB_HOME=tmp_path):
        told = answer()

    assert told == ((503, {"status": "unavailable", "failing": failing}) if failing else (200, {"status": "ok"}))


@pytest.mark.django_db
def test_readyz_is_of_the_web_process_alone(everything_up: socket.socket) -> None:
    port = everything_up.getsockname()[1]
    everything_up.close()
    without_gateway = answer(readyz)
    shared_redis.cache_clear()
    try:
        with override_settings(HOOPWEB_REDIS_URL=f"redis://127.0.0.1:{port}/0"):
            without_redis = answer(readyz)
    finally:
        shared_redis.cache_clear()

    assert without_gateway == (200, {"status": "ok"})
    assert without_redis == (503, {"status": "unavailable", "failing": ["redis"]})


def test_worker_heartbeat_expires_by_itself() -> None:
    worker_is_alive()

    assert 0 < int(shared_redis().ttl(WORKER_KEY)) <= 10  # type: ignore[arg-type]
