"""The gateway's memory while results of several sizes pass: `python -m benchmarks.bigquery_memory [ROWS…]`.

The service is `bigquery_rows`, which makes rows while they are read, so nobody else's memory is in the figures. Read is
as the official client does: pages by their token, one after another, each dropped when the next is asked for.
"""

from __future__ import annotations

import sys
import time

import httpx
import yaml

from benchmarks.bigquery_rows import DATASET, PROJECT, TABLE, running_rows, text_for
from benchmarks.world import World, peak_rss_mb, reset_peak, running_world

SIZES = (30_000, 300_000, 1_000_000)
PAGE = 10_000
CONNECTION = "bench-rows"


def main(sizes: list[int]) -> None:
    with running_world(workers=1) as world, running_rows() as address:
        _connect(world, address)
        token = world.manage("agent_token", "bench-bq", "--ttl", "3600")
        base = f"{world.demo['http_url']}/c/{CONNECTION}/bigquery/v2/projects/{PROJECT}"
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=base, headers=headers, timeout=300, trust_env=False) as client:
            _until_served(client)
            _read(client, PAGE)  # what is loaded once is loaded
            for rows in sizes:
                reset_peak(world.gateway_pid)
                before = peak_rss_mb(world.gateway_pid)
                size = _read(client, rows)
                after = peak_rss_mb(world.gateway_pid)
                print(f"{rows} rows, {size / 1e6:.0f} MB: {before:.0f} MiB before, peak +{after - before:.0f} MiB")


def _read(client: httpx.Client, rows: int) -> int:
    """Bytes of a whole result."""
    body = {"query": text_for(rows), "useLegacySql": False, "timeoutMs": 60_000, "maxResults": PAGE}
    answer = client.post("/queries", json=body)
    page = answer.raise_for_status().json()
    job, size, read = page["jobReference"]["jobId"], len(answer.content), len(page["rows"])
    assert "078-05" not in answer.text
    while page.get("pageToken"):
        answer = client.get(f"/queries/{job}", params={"pageToken": page["pageToken"], "maxResults": PAGE})
        page = answer.raise_for_status().json()
        size, read = size + len(answer.content), read + len(page["rows"])
    assert read == rows, (read, rows)
    return size


def _connect(world: World, address: str) -> None:
    document = {
        "apiVersion": "hoopweb/v1",
        "connections": [
            {"name": CONNECTION, "kind": "bigquery", "project": PROJECT, "api_endpoint": address}
            | {"credentials": {"anonymous": True}}
        ],
        "agents": [{"name": "bench-bq", "groups": ["ai-agents"], "owner": "admin"}],
        "access": [{"name": "bench-bq", "groups": ["ai-agents"], "connections": [CONNECTION], "operations": ["read"]}],
        "masking": [
            {"name": f"bench-{column}", "connections": [CONNECTION], "technique": "redact"}
            | {"columns": [f"{DATASET}.{TABLE}.{column}"]}
            for column in ("ssn", "name")
        ],
    }
    rules = world.home / "bench-rows.yaml"
    rules.write_text(yaml.safe_dump(document), encoding="utf-8")
    world.manage("apply", "-f", str(rules))


def _until_served(client: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while client.get("/datasets").status_code != httpx.codes.OK:
        if time.monotonic() > deadline:
            raise SystemExit("the gateway does not serve the connection")
        time.sleep(0.2)


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or list(SIZES))
