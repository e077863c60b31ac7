"""Run by `benchmarks.parts` in the stack's environment: prints {"1": entries/s, "64": entries/s}."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import django

from audit.domain.entry import Entry


def main() -> None:
    django.setup()
    seconds = float(sys.argv[1])
    print(json.dumps({str(waiters): asyncio.run(rate(waiters, seconds)) for waiters in (1, 64)}))


async def rate(waiters: int, seconds: float) -> float:
    from audit.writer import AuditWriter  # noqa: PLC0415 - its models load only after django.setup()

    writer = AuditWriter()
    await writer.start()
    deadline = time.perf_counter() + seconds

    async def append() -> int:
        count = 0
        while time.perf_counter() < deadline:
            await writer.append(
                Entry(
                    kind="benchmark.appended",
                    body={"connection": "bench", "rule": "bench", "columns_read": ["public.wide.ssn"], "rows": count},
                    sensitive={"statement": "SELECT ssn FROM wide WHERE id = 1"},
                )
            )
            count += 1
        return count

    started = time.perf_counter()
    counts = await asyncio.gather(*(append() for _ in range(waiters)))
    elapsed = time.perf_counter() - started
    await writer.close()
    return sum(counts) / elapsed


if __name__ == "__main__":
    main()
