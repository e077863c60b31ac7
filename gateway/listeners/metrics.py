"""`GET /metrics` on a gateway's HTTP port: the data plane's counters for Prometheus, of all processes behind that port.

Several processes share the port and a scrape reaches one of them, so each puts its counters on a board in Redis every
few seconds, and whichever is asked adds them up. A process that ended stays on the board for a day: a counter that
went back would look like a restart of all. Labels are names of connections, protocols, stages and techniques, never
of people or agents; there are no values.
"""

from __future__ import annotations

import hmac
import json
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import redis.asyncio
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.session.meter import BUCKETS, Figures, Meter

FRESH_S = 15  # older gauges are of a process that is gone
FORGET_S = 24 * 3600

Gauges = Mapping[str, Mapping[str, float]]
Values = dict[str, dict[str, float]]

_COUNTERS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("statements", "hoopweb_statements", "statements by how they ended", ("connection", "protocol", "outcome")),
    ("rows", "hoopweb_rows", "rows of answers", ("connection",)),
    ("bytes", "hoopweb_bytes", "bytes of answers as the database sent them", ("connection",)),
    ("masked", "hoopweb_masked_values", "values that were masked", ("connection", "technique")),
    ("decisions", "hoopweb_decisions", "statements decided from memory, or assessed", ("how",)),
)
_GAUGES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("sessions", "hoopweb_gateway_sessions", "open sessions", ("protocol",)),
    ("upstreams", "hoopweb_gateway_upstream_sessions", "open sessions by connection", ("connection",)),
    ("holding", "hoopweb_gateway_holding", "statements that wait for people in these processes", ()),
    ("journal", "hoopweb_gateway_journal_entries", "entries in journals that the log has not taken in", ()),
    ("rules_age", "hoopweb_gateway_rules_age_seconds", "since the oldest rules were looked at", ()),
    ("draining", "hoopweb_gateway_draining", "processes that end", ()),
)
_OLDEST = frozenset({"rules_age"})  # gauges of which the highest counts, not the sum


class Board:
    """The counters of every process behind one port, in Redis."""

    def __init__(self, *, url: str, port: int, process: str, meter: Meter, gauges: Callable[[], Gauges]) -> None:
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
        self._key = f"hoopweb:metrics:{socket.gethostname()}:{port}"
        self._process = process
        self._meter = meter
        self._gauges = gauges

    async def put(self) -> None:
        """Raises RedisError or OSError."""
        figures = {"at": time.time(), "values": Figures.of(self._meter).values, "gauges": self._gauges()}
        await self._redis.hset(self._key, self._process, json.dumps(figures, separators=(",", ":")))
        await self._redis.expire(self._key, FORGET_S)

    async def read(self) -> tuple[Values, Values]:
        """Counters of all that were, gauges of all that are."""
        stored = await self._redis.hgetall(self._key)
        now = time.time()
        boards = {process: json.loads(text) for process, text in stored.items()}
        old = [process for process, board in boards.items() if now - board["at"] > FORGET_S]
        if old:
            await self._redis.hdel(self._key, *old)
        fresh = [board["gauges"] for board in boards.values() if now - board["at"] <= FRESH_S]
        return added(board["values"] for board in boards.values()), added(fresh)

    async def close(self) -> None:
        await self._redis.aclose()


def added(boards: Iterable[Values]) -> Values:
    total: dict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for board in boards:
        for family, values in board.items():
            for labels, value in values.items():
                known = total[family][labels]
                total[family][labels] = max(known, value) if family in _OLDEST else known + value
    return {family: dict(values) for family, values in total.items()}


class DataPlane(Collector):
    """What was read from the board, as Prometheus' families."""

    def __init__(self, values: Values, gauges: Values) -> None:
        self._values, self._gauges = values, gauges

    def collect(self) -> Iterator[Metric]:
        for key, name, text, labels in _COUNTERS:
            family: Metric = CounterMetricFamily(name, text, labels=labels)
            yield _filled(family, self._values.get(key, {}))
        for key, name, text, labels in _GAUGES:
            yield _filled(GaugeMetricFamily(name, text, labels=labels), self._gauges.get(key, {}))
        yield _stages(self._values.get("stages", {}))


def _filled(family: Any, values: dict[str, float]) -> Metric:
    for labels, value in sorted(values.items()):
        family.add_metric(labels.split("\x1f") if labels else [], value)
    return family  # type: ignore[no-any-return]


def _stages(values: dict[str, float]) -> Metric:
    text = "how long a stage took; approve is the wait for people"
    family = HistogramMetricFamily("hoopweb_stage_seconds", text, labels=("connection", "stage"))
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for labels, value in values.items():
        connection, stage, part = labels.split("\x1f")
        found[connection, stage][part] = value
    for (connection, stage), parts in sorted(found.items()):
        family.add_metric([connection, stage], list(_cumulative(parts)), sum_value=parts.get("seconds", 0.0))
    return family


def _cumulative(parts: dict[str, float]) -> Iterator[tuple[str, float]]:
    total = 0.0
    for place, bound in enumerate((*BUCKETS, float("inf"))):
        total += parts.get(str(place), 0)
        yield ("+Inf" if bound == float("inf") else str(bound)), total


class MetricsEndpoint:
    """Asked for with the token of `HOOPWEB_METRICS_TOKEN`; without that setting it does not exist."""

    def __init__(self, board: Board, token: str) -> None:
        self._board, self._token = board, token

    def routes(self) -> list[Route]:
        return [Route("/metrics", self.metrics, methods=["GET"])] if self._token else []

    async def metrics(self, request: Request) -> Response:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return Response(status_code=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
        try:
            await self._board.put()
            values, gauges = await self._board.read()
        except (redis.exceptions.RedisError, OSError):
            # Our own counters alone would look as if every other process had restarted.
            return PlainTextResponse("the counters of the other processes cannot be read", status_code=503)
        registry = CollectorRegistry()
        registry.register(DataPlane(values, gauges))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
