"""pgbench, select-only: one indexed row per statement, where a gateway's own cost shows most."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.backlog import Backlog
from benchmarks.world import Endpoint
from hoopweb.embedded.postgres import postgres_binaries

_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_LATENCY = re.compile(r"^latency average = ([0-9.]+) ms", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    tps: float
    latency_ms: float


@dataclass(frozen=True)
class Line:
    """Medians over the rounds of one endpoint in one mode."""

    mode: str
    clients: int
    endpoint: str
    tps: float
    ratio: float
    added_us: float
    note: str = ""


@dataclass(frozen=True)
class Sustained:
    """One endpoint under a load that goes on for longer than a burst. `behind`: entries when it ended."""

    endpoint: str
    seconds: int
    tps: float
    ratio: float
    taken_in: float  # entries a second the log took in meanwhile
    behind: int
    note: str = ""


def measure(
    endpoints: list[Endpoint],
    *,
    modes: tuple[str, ...],
    clients: tuple[int, ...],
    rounds: int,
    seconds: int,
    settle: Callable[[], None],
) -> list[Line]:
    """Interleave the endpoints within every round, so that a slow minute of the machine hits all of them alike.

    `settle` returns when nothing is left to do of the run before, which nobody else's run shall pay for.
    """
    lines: list[Line] = []
    for mode in modes:
        for count in clients:
            runs: dict[str, list[Run | str]] = {endpoint.name: [] for endpoint in endpoints}
            for _ in range(rounds):
                for endpoint in endpoints:
                    settle()
                    runs[endpoint.name].append(pgbench(endpoint, mode=mode, clients=count, seconds=seconds))
            lines += _lines(mode, count, runs)
    return lines


def sustained(endpoints: list[Endpoint], backlog: Backlog, *, seconds: int) -> list[Sustained]:
    """16 clients for so long that the log's pace shows; the first endpoint is the direct one."""
    found: list[Sustained] = []
    for endpoint in endpoints:
        backlog.settle()
        size, began = backlog.size(), time.monotonic()
        run = pgbench(endpoint, mode="simple", clients=16, seconds=seconds)
        taken_in, behind = (backlog.size() - size) / (time.monotonic() - began), backlog.behind()
        if isinstance(run, str):
            found.append(Sustained(endpoint.name, seconds, 0, 0, taken_in, behind, note=run))
            continue
        direct = found[0].tps if found else run.tps
        found.append(Sustained(endpoint.name, seconds, run.tps, run.tps / direct if direct else 0, taken_in, behind))
    backlog.settle()
    return found


def pgbench(endpoint: Endpoint, *, mode: str, clients: int, seconds: int) -> Run | str:
    """One run; a sentence when this endpoint cannot carry it."""
    command = [str(postgres_binaries() / "pgbench"), "-n", "-S", "-M", mode, "-c", str(clients), "-j",
               str(min(clients, 2)), "-T", str(seconds), endpoint.dsn()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    tps, latency = _TPS.search(done.stdout), _LATENCY.search(done.stdout)
    if done.returncode != 0 or tps is None or latency is None:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "error" in line]
        return (said or done.stderr.splitlines() or ["no output"])[0][:160]
    return Run(tps=float(tps.group(1)), latency_ms=float(latency.group(1)))


def _lines(mode: str, clients: int, runs: dict[str, list[Run | str]]) -> list[Line]:
    direct = [run for run in runs["direct"] if isinstance(run, Run)]
    if not direct:
        raise SystemExit(f"pgbench failed on the direct connection: {runs['direct'][0]}")
    base_tps, base_ms = median(run.tps for run in direct), median(run.latency_ms for run in direct)
    lines = []
    for name, results in runs.items():
        good = [run for run in results if isinstance(run, Run)]
        if len(good) < len(results):
            problem = next(run for run in results if isinstance(run, str))
            lines.append(Line(mode, clients, name, tps=0, ratio=0, added_us=0, note=problem))
            continue
        tps, latency = median(run.tps for run in good), median(run.latency_ms for run in good)
        lines.append(Line(mode, clients, name, tps, tps / base_tps, (latency - base_ms) * 1000))
    return lines
