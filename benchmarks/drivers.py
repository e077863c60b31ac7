"""`python -m benchmarks.drivers`: what one statement takes with ordinary drivers, microseconds at one client.

Drivers do what pgbench does not: they describe a statement once and execute it without, put statements into
transactions, write, want some rows only, and send many statements at once (`executemany`: the time of one of them).
Direct and through the gateway (durability `os`) in turns; medians over all rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from statistics import median
from typing import Any

import asyncpg
import psycopg

from benchmarks.world import Endpoint, load, running_world

ROUNDS, WARM, COUNTED = 3, 50, 400
BATCHES, BATCH = 5, 200
_READ = "SELECT abalance FROM pgbench_accounts WHERE aid = {}"
_WRITE = "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = {}"
Samples = dict[str, list[float]]


def main() -> None:
    taken: dict[str, Samples] = {"direct": {}, "gateway": {}}
    with running_world(workers=1) as world:
        direct = world.direct(load(world, scale=1, rows=1))
        ways = {"direct": direct, "gateway": world.gateway("bench-os")}
        for _ in range(ROUNDS):
            for name, endpoint in ways.items():
                _psycopg(endpoint, taken[name])
                asyncio.run(_asyncpg(endpoint, taken[name]))
    print("| statement | direct, µs | gateway, µs | times |\n|---|---|---|---|")
    for step, samples in taken["direct"].items():
        before, since = median(samples) * 1e6, median(taken["gateway"][step]) * 1e6
        print(f"| {step} | {before:.0f} | {since:.0f} | {since / before:.1f} |")


def _psycopg(endpoint: Endpoint, samples: Samples) -> None:
    with psycopg.connect(endpoint.dsn()) as connection:
        cursor = connection.cursor()
        for number in _numbers():
            with _timed(samples, "psycopg: BEGIN and a read", number):
                cursor.execute(_READ.format("%s"), (number,)).fetchall()
            with _timed(samples, "psycopg: a read in a transaction", number):
                cursor.execute(_READ.format("%s"), (number + 1,)).fetchall()
            with _timed(samples, "psycopg: COMMIT of reads", number):
                connection.commit()
        connection.autocommit = True
        for number in _numbers():
            with _timed(samples, "psycopg: a read by itself", number):
                cursor.execute(_READ.format("%s"), (number,)).fetchall()
            with _timed(samples, "psycopg: a write by itself", number):
                cursor.execute(_WRITE.format("%s"), (number,))
        for _ in range(BATCHES):
            with _timed(samples, "psycopg: one of 200 writes at once", statements=BATCH):
                cursor.executemany(_WRITE.format("%s"), [(number,) for number in range(1, BATCH + 1)])


async def _asyncpg(endpoint: Endpoint, samples: Samples) -> None:
    async with _connected(endpoint) as connection:
        prepared = await connection.prepare(_READ.format("$1"))

        async def in_transaction(number: int) -> None:
            async with connection.transaction():
                await prepared.fetchrow(number)

        steps: dict[str, Callable[[int], Awaitable[Any]]] = {
            "asyncpg: fetch, prepared": prepared.fetch,
            "asyncpg: fetchrow, prepared": prepared.fetchrow,
            "asyncpg: fetchrow in a transaction of its own": in_transaction,
            "asyncpg: a write by itself": lambda number: connection.execute(_WRITE.format("$1"), number),
        }
        for step, run in steps.items():
            for number in _numbers():
                with _timed(samples, step, number):
                    await run(number)
        for _ in range(BATCHES):
            with _timed(samples, "asyncpg: one of 200 writes at once", statements=BATCH):
                await connection.executemany(_WRITE.format("$1"), [(number,) for number in range(1, BATCH + 1)])


def _numbers() -> Iterator[int]:
    yield from range(1, WARM + COUNTED + 1)


@contextmanager
def _timed(samples: Samples, step: str, number: int = WARM + 1, *, statements: int = 1) -> Iterator[None]:
    """Seconds of one statement of a step; the first steps find nothing remembered and are left out."""
    began = time.perf_counter()
    yield
    if number > WARM:
        samples.setdefault(step, []).append((time.perf_counter() - began) / statements)


@asynccontextmanager
async def _connected(endpoint: Endpoint) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(
        host=endpoint.host,
        port=endpoint.port,
        user=endpoint.user,
        password=endpoint.password,
        database=endpoint.database,
        ssl=False,
    )
    try:
        yield connection
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
