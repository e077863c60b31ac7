"""BigQuery through the gateway beside the emulator reached directly: latency, MB/s of large results, memory.

`python -m benchmarks.bigquery [ROWS]`. Both sides are asked over plain HTTP with the calls the official client makes,
so that no client's own work is in the figures; the emulator's is in both, and the gateway asks for a dry run besides.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from benchmarks.world import World, peak_rss_mb, reset_peak, running_world
from tests.bigquery.service import PROJECT, Service, running_service

ROWS = 200_000
PAGE = 20_000
ROUNDS = 15
CONNECTION = "bench-warehouse"
_TABLE = """
CREATE TABLE bench.wide AS SELECT n AS id, CONCAT('078-05-', CAST(n AS STRING)) AS ssn,
  CONCAT('Name ', CAST(n AS STRING)) AS name, n * 1.5 AS score,
  DATE '1950-03-07' AS born, TIMESTAMP '2026-01-02 03:04:05+00' AS seen,
  'a line of text that is as long as such lines are' AS note FROM UNNEST(GENERATE_ARRAY(1, {rows})) AS n
"""
_SMALL = "SELECT id, name FROM bench.wide LIMIT 1"
_PLAIN = "SELECT id, score, born, seen, note AS a, note AS b, note AS c FROM bench.wide"
_MASKED = "SELECT id, score, born, seen, ssn AS a, name AS b, note AS c FROM bench.wide"


@dataclass(frozen=True)
class Side:
    """One way to the warehouse."""

    name: str
    client: httpx.Client

    def query(self, text: str) -> dict[str, object]:
        body = {"query": text, "useLegacySql": False, "timeoutMs": 60_000}
        answer = self.client.post("/queries", json=body)
        content: dict[str, object] = answer.raise_for_status().json()
        assert content.get("jobComplete"), content
        return content

    def read(self, text: str) -> tuple[float, int, int]:
        """Seconds, bytes and rows of a whole result, page by page."""
        begun = time.perf_counter()
        body = {"query": text, "useLegacySql": False, "timeoutMs": 60_000, "maxResults": PAGE}
        answer = self.client.post("/queries", json=body)
        page = answer.raise_for_status().json()
        size, rows = len(answer.content), len(page.get("rows", []))
        job = page["jobReference"]["jobId"]
        while page.get("pageToken"):
            answer = self.client.get(f"/queries/{job}", params={"pageToken": page["pageToken"], "maxResults": PAGE})
            page = answer.raise_for_status().json()
            size, rows = size + len(answer.content), rows + len(page.get("rows", []))
        return time.perf_counter() - begun, size, rows


def main(rows: int) -> None:
    with running_world(workers=1) as world, running_service() as service:
        service.make_dataset("bench")
        service.sql(_TABLE.format(rows=rows))
        _connect(world, service)
        base = f"/bigquery/v2/projects/{PROJECT}"
        token = world.manage("agent_token", "bench-bq", "--ttl", "3600")
        gateway = f"{world.demo['http_url']}/c/{CONNECTION}{base}"
        headers = {"Authorization": f"Bearer {token}"}
        options = {"timeout": 300, "trust_env": False}
        with (
            httpx.Client(base_url=f"{service.emulator_url}{base}", **options) as there,  # type: ignore[arg-type]
            httpx.Client(base_url=gateway, headers=headers, **options) as here,  # type: ignore[arg-type]
        ):
            sides = [Side("direct", there), Side("gateway", here)]
            _until_served(sides[1])
            _latency(sides)
            for what, text in (("plain", _PLAIN), ("two columns masked", _MASKED)):
                _bulk(what, text, sides, world, rows)


def _latency(sides: list[Side]) -> None:
    took: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(ROUNDS):
        for side in sides:  # interleaved, so that both meet the same machine
            begun = time.perf_counter()
            side.query(_SMALL)
            took[side.name].append(time.perf_counter() - begun)
    direct, gateway = (statistics.median(took[side.name]) * 1e3 for side in sides)
    print(f"one row: direct {direct:.1f} ms, gateway {gateway:.1f} ms, {gateway / direct:.2f} times as long")


def _bulk(what: str, text: str, sides: list[Side], world: World, expected: int) -> None:
    speeds: dict[str, float] = {}
    for side in sides:
        reset_peak(world.gateway_pid)
        before = peak_rss_mb(world.gateway_pid)
        seconds, size, rows = side.read(text)
        assert rows == expected, (rows, expected)
        speeds[side.name] = size / 1e6 / seconds
        grown = peak_rss_mb(world.gateway_pid) - before
        told = f"{size / 1e6:.0f} MB, {speeds[side.name]:.1f} MB/s, the gateway's peak +{grown:.0f} MiB"
        print(f"{expected} rows, {what}, {side.name}: {told}")
    print(f"{expected} rows, {what}: {speeds['gateway'] / speeds['direct']:.2f} of direct")


def _connect(world: World, service: Service) -> None:
    key = world.home / "bench-key.json"
    key.write_text(json.dumps(service.key), encoding="utf-8")
    connection = {
        "name": CONNECTION,
        "kind": "bigquery",
        "project": PROJECT,
        "api_endpoint": service.url,
        "credentials": {"file": str(key)},
        "scan_text": False,
    }
    masking = [
        {"name": f"bench-bq-{column}", "connections": [CONNECTION], "columns": [f"bench.wide.{column}"]}
        | {"technique": technique}
        for column, technique in (("ssn", "redact"), ("name", "redact"))
    ]
    document = {
        "apiVersion": "hoopweb/v1",
        "connections": [connection],
        "agents": [{"name": "bench-bq", "groups": ["ai-agents"], "owner": "admin"}],
        "access": [{"name": "bench-bq", "groups": ["ai-agents"], "connections": [CONNECTION], "operations": ["read"]}],
        "masking": masking,
    }
    rules = Path(world.home / "bench-bigquery.yaml")
    rules.write_text(yaml.safe_dump(document), encoding="utf-8")
    world.manage("apply", "-f", str(rules))


def _until_served(side: Side) -> None:
    deadline = time.monotonic() + 60
    while side.client.get("/datasets").status_code != httpx.codes.OK:
        if time.monotonic() > deadline:
            raise SystemExit("the gateway does not serve the connection")
        time.sleep(0.2)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
