"""/healthz against real services, taken away one by one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from django.http import JsonResponse
from django.test import RequestFactory

from hoopweb.health import healthz
from hoopweb.heartbeat import WORKER_KEY, shared_redis, worker_is_alive

GATEWAY_KEY = "hoopweb:gateway:test"


def answer() -> tuple[int, dict[str, object]]:
    response = healthz(RequestFactory().get("/healthz"))
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


def test_worker_heartbeat_expires_by_itself() -> None:
    worker_is_alive()

    assert 0 < int(shared_redis().ttl(WORKER_KEY)) <= 10  # type: ignore[arg-type]
