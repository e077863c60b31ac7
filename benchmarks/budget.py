"""What a gateway's own work may cost: `python -m benchmarks.budget`, ratios to a direct connection in the same run.

A forwarder in C spends so many microseconds of its processor on each request with its answer, to no purpose. So the
ratios are what a gateway would have here whose work costs that much, its hop included: what to aim at.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from benchmarks.forwarder import running_forwarder
from benchmarks.transactions import measure
from benchmarks.world import load, running_world

WORK_US = (0, 6, 12, 25, 50)
CLIENTS = (16, 1)
ROUNDS, SECONDS = 3, 2


def main() -> None:
    """Print a row of a table for each mode, number of clients and amount of work."""
    with running_world(workers=1) as world, ExitStack() as forwarders:
        direct = world.direct(load(world, scale=10, rows=1))
        endpoints = [direct]
        for work_us in WORK_US:
            endpoints += forwarders.enter_context(
                running_forwarder(direct, processes=os.cpu_count() or 1, work_us=work_us, name=f"{work_us}")
            )
        lines = measure(
            endpoints,
            modes=("simple", "prepared"),
            clients=CLIENTS,
            rounds=ROUNDS,
            seconds=SECONDS,
            settle=lambda: None,
        )
    print("| pgbench -S | clients | own work, µs | per second | of direct | added µs |\n|---|---|---|---|---|---|")
    for line in lines:
        figures = line.note or f"{line.tps:.0f} | {line.ratio:.2f} | {line.added_us:+.0f}"
        print(f"| {line.mode} | {line.clients} | {line.endpoint} | {figures} |")


if __name__ == "__main__":
    main()
