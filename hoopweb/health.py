"""`GET /healthz`: whether everything a statement needs is up. `GET /readyz`: whether this web process can serve."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from gateway.domain.addresses import is_loopback
from hoopweb.heartbeat import GATEWAY_KEYS, WORKER_KEY, shared_redis

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 1.0
DEMO_PART = "demo"


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """200 `{"status": "ok"}`, else 503 with the names of the failing parts. No detail: anybody may ask."""
    return _told(failing_parts())


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """The same of what this process itself needs, for its balancer: a lost gateway is no reason to leave the web."""
    return _told([name for name in OWN_PARTS if not _holds(name, PARTS[name])])


def _told(failing: list[str]) -> JsonResponse:
    if failing:
        response = JsonResponse({"status": "unavailable", "failing": failing}, status=503)
        # Asked every second, Django would log every 503 as an error; _holds has logged what is worth a line.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response
    return JsonResponse({"status": "ok"})


def failing_parts() -> list[str]:
    """The names of the parts that do not answer at this moment."""
    return [name for name, works in PARTS.items() if not _holds(name, works)]


def database_answers() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return bool(cursor.fetchone() == (1,))


def redis_answers() -> bool:
    return bool(shared_redis().ping())


def gateway_lives() -> bool:
    """A data-plane process wrote its heartbeat; where it is on this machine, its PostgreSQL port also accepts."""
    if next(shared_redis().scan_iter(match=GATEWAY_KEYS, count=1000), None) is None:
        return False
    if not is_loopback(settings.HOOPWEB_LISTEN):
        return True
    address = (settings.HOOPWEB_LISTEN, settings.HOOPWEB_POSTGRES_PORT)
    with socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S):
        return True


def worker_lives() -> bool:
    return bool(shared_redis().exists(WORKER_KEY))


def demo_is_told() -> bool:
    """Whoever waits for 200 reads demo.json next: while the embedded stack still holds it back, all is not up.

    Elsewhere there are no such files, and nothing to wait for.
    """
    home = settings.HOOPWEB_HOME
    return (home / "demo.json").exists() or not (home / "demo.json.new").exists()


PARTS: dict[str, Callable[[], bool]] = {
    "database": database_answers,
    "redis": redis_answers,
    "gateway": gateway_lives,
    "worker": worker_lives,
    DEMO_PART: demo_is_told,
}
OWN_PARTS = ("database", "redis")


def _holds(name: str, works: Callable[[], bool]) -> bool:
    try:
        return works()
    except (DatabaseError, redis.RedisError, OSError) as error:
        logger.warning("health check failed: part=%s error=%s", name, type(error).__name__)
        return False
