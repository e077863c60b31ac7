"""How soon a held client goes on after the decision: native PostgreSQL, REST (`wait_s`) and WebSocket.

`python -m benchmarks.resume [ROUNDS]`. The decision is made over REST in the web process, the client waits in a
gateway process, and both are told through Redis. A round holds one UPDATE, decides, and takes two moments by the clock
of this machine: the client hears of it, and the client has its result. Both are counted from `decided_at`, which the
control database stamps before the decision is even committed.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
from websockets.sync.client import connect

from benchmarks.world import World, running_world

ROUNDS = 20
AGENT = "demo-agent"
RESULTS = Path(__file__).with_name("results") / "resume.json"


@dataclass
class Moments:
    """When a client heard of the decision and had its result: seconds since the epoch."""

    told: float = 0.0
    done: float = 0.0


@dataclass
class Product:
    """The demo, as its agent and its reviewer use it."""

    world: World
    agent: httpx.Client
    reviewer: httpx.Client
    token: str
    delays: dict[str, list[Moments]] = field(default_factory=dict)

    @classmethod
    def of(cls, world: World) -> Product:
        web, users = str(world.demo["web_url"]), world.demo["users"]
        assert isinstance(users, dict)
        token = world.manage("agent_token", AGENT, "--ttl", "3600")
        agent, reviewer = (_client(web, bearer) for bearer in (token, users["reviewer"]["token"]))
        return cls(world, agent, reviewer, token)

    def dsn(self) -> str:
        listener: Any = self.world.demo["postgres"]
        return (
            f"host={listener['host']} port={listener['port']} dbname=clinic user={AGENT} password={self.token} "
            f"sslmode={listener['sslmode']}"
        )

    def decide(self) -> float:
        """Approve the one review that waits; return when that was decided, seconds since the epoch."""
        while not (waiting := self.reviewer.get("/api/v1/reviews", params={"status": "pending"}).json()["results"]):
            time.sleep(0.02)
        time.sleep(0.1)  # the client waits by now, as clients do
        body = {"decision": "approve", "reason": "measured"}
        answer = self.reviewer.post(f"/api/v1/reviews/{waiting[0]['id']}/decision", json=body).raise_for_status()
        return datetime.fromisoformat(answer.json()["decided_at"]).timestamp()


def _client(web: str, bearer: str) -> httpx.Client:
    return httpx.Client(base_url=web, headers={"Authorization": f"Bearer {bearer}"}, timeout=60, trust_env=False)


def native(product: Product, text: str) -> Moments:
    moments = Moments()

    def noticed(notice: Any) -> None:
        if str(notice.message_primary).startswith("approved"):
            moments.told = time.time()

    with psycopg.connect(product.dsn(), autocommit=True) as client:
        client.add_notice_handler(noticed)
        client.execute(text.encode())
        moments.done = time.time()
    return moments


def rest(product: Product, text: str) -> Moments:
    """One answer, so hearing and having are one moment."""
    body = {"statement": text, "wait_s": 60}
    product.agent.post("/api/v1/connections/clinic/statements", json=body).raise_for_status()
    now = time.time()
    return Moments(now, now)


def websocket(product: Product, text: str) -> Moments:
    url = f"{product.world.demo['web_url']}/ws/v1/connections/clinic/".replace("http", "ws", 1)
    moments = Moments()
    with connect(url, additional_headers={"Authorization": f"Bearer {product.token}"}, proxy=None) as socket:
        socket.send(json.dumps({"statement": text}))
        while not moments.done:
            kind = json.loads(socket.recv(timeout=60))["type"]
            moments.told = moments.told or (time.time() if kind == "resumed" else 0.0)
            moments.done = time.time() if kind == "completed" else 0.0
    return moments


SURFACES: dict[str, Callable[[Product, str], Moments]] = {"PostgreSQL": native, "REST": rest, "WebSocket": websocket}


def measure(product: Product, rounds: int) -> None:
    """Every surface once a round, interleaved. Texts are new with every run: no approval of an earlier one fits."""
    run = int(time.time())
    for number in range(rounds + 1):
        for place, (name, surface) in enumerate(SURFACES.items()):
            text = f"UPDATE patients SET phone = '{run}-{place}{number}' WHERE id = {10 + number}"
            kept: list[Moments] = []
            client = threading.Thread(target=lambda text=text, ask=surface, kept=kept: kept.append(ask(product, text)))
            client.start()
            decided = product.decide()
            client.join()
            if number:  # the first round warms up
                product.delays.setdefault(name, []).append(Moments(kept[0].told - decided, kept[0].done - decided))


def table(product: Product) -> str:
    lines = ["| client | told, median ms | slowest | result, median ms | slowest |", "|---|---|---|---|---|"]
    for name, delays in product.delays.items():
        told, done = ([1000 * getattr(delay, part) for delay in delays] for part in ("told", "done"))
        figures = (statistics.median(told), max(told), statistics.median(done), max(done))
        lines.append(f"| {name} | " + " | ".join(f"{figure:.0f}" for figure in figures) + " |")
    return "\n".join(lines)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with running_world(workers=2) as world:
        product = Product.of(world)
        measure(product, rounds)
        print(table(product))
        kept = {name: [vars(delay) for delay in delays] for name, delays in product.delays.items()}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"rounds": rounds, "seconds": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
