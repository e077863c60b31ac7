"""`make bench`: what the gateway costs, each figure beside a direct connection in the same run.

A full run takes about ten minutes on two cores; `--quick` about one, to see that everything works.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import bouncer, bulk, parts, transactions
from benchmarks.backlog import Backlog
from benchmarks.forwarder import running_forwarder
from benchmarks.local_postgres import running_local
from benchmarks.report import Report
from benchmarks.secured_postgres import running_secured
from benchmarks.world import (
    DURABILITIES,
    KEPT,
    WIDE_ROWS,
    Endpoint,
    World,
    add_local,
    add_secured,
    load,
    running_world,
    wide_table,
)

LATEST = Path(__file__).parent / "results" / "latest.json"
SQL = "SELECT id, name, ssn, dob, city, amount, seen, status FROM wide"
MODES = ("simple", "extended", "prepared")


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: int
    rows: int
    scale: int
    shapes: int
    sustained: int  # seconds


FULL = Effort(rounds=3, seconds=2, rows=WIDE_ROWS, scale=10, shapes=200, sustained=40)
QUICK = Effort(rounds=1, seconds=1, rows=50_000, scale=1, shapes=20, sustained=3)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--bulk", action="store_true", help="the large reads and nothing else")
    parser.add_argument("--sockets", action="store_true", help="an upstream by Unix socket and nothing else")
    parser.add_argument("--output", type=Path, default=LATEST, help="where the JSON goes (default %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="gateway processes (default: one a core, %(default)s)"
    )
    options = parser.parse_args(arguments)
    report = Report(
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        quick=options.quick,
        durability=", ".join(DURABILITIES),
        peer=bouncer.version(),
    )
    print("starting a stack of its own", flush=True)
    with running_world(workers=options.workers, secured=True) as world:
        effort = QUICK if options.quick else FULL
        if options.bulk:
            measure_bulk(world, report, effort)
        elif options.sockets:
            report.sockets = measure_sockets(world, world.direct(load(world, scale=1, rows=1)), effort)
        else:
            measure(world, report, effort, workers=options.workers)
    report.write(options.output)
    print(report.table())
    print(f"\nwritten to {options.output}")


def measure(world: World, report: Report, effort: Effort, *, workers: int) -> None:
    print(f"loading pgbench scale {effort.scale} and {effort.rows} wide rows", flush=True)
    direct = world.direct(load(world, scale=effort.scale, rows=effort.rows))
    gateways = [world.gateway(f"bench-{kept}", name=f"gateway, {kept}") for kept in DURABILITIES]
    kept = world.gateway(KEPT, name="gateway, os, results kept")
    plain = world.gateway("bench-plain")
    backlog = Backlog(world)
    with bouncer.running_bouncer(direct) as peers, running_forwarder(direct, processes=workers) as floor:
        print("measuring pgbench", flush=True)
        report.transactions = transactions.measure(
            [direct, *gateways, kept, *floor, *peers],
            modes=MODES,
            clients=(1, 16),
            rounds=effort.rounds,
            seconds=effort.seconds,
            settle=backlog.settle,
        )
        print("measuring an upstream by Unix socket", flush=True)
        report.sockets = measure_sockets(world, direct, effort)
        print("measuring a load that goes on", flush=True)
        report.sustained = transactions.sustained([direct, gateways[0], kept], backlog, seconds=effort.sustained)
        print("measuring bulk reads", flush=True)
        report.bulk = bulk_reads(world, direct, [plain, *peers[:1]], gateways[0], effort.rounds)
    report.bulk += secured_reads(world, direct, effort.rows, effort.rounds)
    print("measuring the parts", flush=True)
    report.parts = parts.measure(world, direct, gateways[0], shapes=effort.shapes, seconds=effort.seconds / 2)


def measure_sockets(world: World, direct: Endpoint, effort: Effort) -> list[transactions.Line]:
    """A server of its own that is reached both ways, so that nothing but the way to it differs."""
    with running_local(direct.password, scale=effort.scale) as (tcp, local):
        by_tcp, by_socket = add_local(world, tcp, local)
        return transactions.measure(
            [tcp, local, by_tcp, by_socket],
            modes=("simple", "prepared"),
            clients=(1, 16),
            rounds=effort.rounds,
            seconds=effort.seconds,
            settle=Backlog(world).settle,
        )


def measure_bulk(world: World, report: Report, effort: Effort) -> None:
    direct = world.direct(load(world, scale=1, rows=effort.rows))
    gateways = [world.gateway("bench-plain"), world.gateway("bench-os", name="gateway, os")]
    report.bulk = bulk_reads(world, direct, gateways[:1], gateways[1], effort.rounds)
    report.bulk += secured_reads(world, direct, effort.rows, effort.rounds)


def secured_reads(world: World, direct: Endpoint, rows: int, rounds: int) -> list[bulk.BulkLine]:
    """The same with every leg inside TLS: direct, and to the gateway and from it to the same server."""
    assert world.certificates is not None
    with running_secured(world.certificates, direct.password, fill=wide_table(rows)) as secured:
        if secured is None:
            return []
        add_secured(world, direct, secured)
        plain, masked = (
            world.gateway(connection, name="gateway, TLS", tls=True) for connection in ("bench-tls-plain", "bench-tls")
        )
        pid = world.gateway_pid
        return [
            *bulk.measure("8 columns, plain, TLS", SQL, [secured, plain], rounds=rounds, gateway_pid=pid),
            *bulk.measure("8 columns, 2 masked, TLS", SQL, [secured, masked], rounds=rounds, gateway_pid=pid),
        ]


def bulk_reads(
    world: World, direct: Endpoint, others: list[Endpoint], masked: Endpoint, rounds: int
) -> list[bulk.BulkLine]:
    pid = world.gateway_pid
    plain = bulk.measure("8 columns, plain", SQL, [direct, *others], rounds=rounds, gateway_pid=pid)
    two = bulk.measure("8 columns, 2 masked", SQL, [direct, masked], rounds=rounds, gateway_pid=pid)
    copied = [
        line
        for form in ("csv", "binary")
        for line in bulk.measure(
            f"8 columns, 2 masked, COPY {form}",
            f"COPY ({SQL}) TO STDOUT (FORMAT {form})",
            [direct, masked],
            rounds=rounds,
            gateway_pid=pid,
        )
    ]
    return plain + two + copied
