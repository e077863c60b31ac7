"""Run by `benchmarks.parts` in the stack's environment: prints {"1 waiting": entries/s, …}."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import django

from audit.domain.entry import Entry, Json


def main() -> None:
    django.setup()
    seconds = float(sys.argv[1])
    rates = {f"{waiters} waiting": asyncio.run(rate(waiters, seconds)) for waiters in (1, 64)}
    print(json.dumps(rates | {"taken in from a journal": taken_in()}))


def taken_in(statements: int = 10_000) -> float:
    """How fast the sequencer follows: a journal of so many statements, two entries each, into the log."""
    from audit.domain.chain import prepare  # noqa: PLC0415 - as above
    from audit.domain.journaled import pack  # noqa: PLC0415
    from audit.domain.sealing import evidence_sealer  # noqa: PLC0415
    from audit.process_journal import open_journal  # noqa: PLC0415
    from audit.sequencer_process import Intake, collect_seldom  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as root:
        journal, sealer = open_journal(Path(root)), evidence_sealer()
        for entry in _statements(statements):
            journal.append(pack(prepare(entry, gateway="bench", sealer=sealer)))
        collect_seldom()
        started = time.perf_counter()
        for _ in Intake(journal.directory).take_in(journal.end, at_least=0):
            pass
        elapsed = time.perf_counter() - started
        journal.close(taken_in=True)
    return 2 * statements / elapsed


def _statements(count: int) -> Iterator[Entry]:
    """As the gateway spells them: the same shapes over and over, the text sealed."""
    columns, classes = ["public.wide.id", "public.wide.ssn"], ["ssn"]
    who: dict[str, Json] = {"subject": "bench", "connection": "bench", "protocol": "postgres", "kind": "select"}
    may: dict[str, Json] = {"tables_read": ["public.wide"], "columns_read": columns, "classes": classes}
    may |= {"complete": True, "decision": "allow", "rule": "bench", "snapshot": 1, "durability": "os"}
    did: dict[str, Json] = {"status": "completed", "rows": 1, "bytes": 40, "command_tag": "SELECT 1", "masked": []}
    run = f"{time.time_ns():x}"
    for number in range(count):
        session, statement = f"{run}-{number % 16}", f"{run}-{number}"
        text = {"statement": f"SELECT ssn FROM wide WHERE id = {number}"}
        yield Entry("statement.authorised", {**who, **may}, session, statement, sensitive=text)
        yield Entry("statement.completed", {**who, **did}, session, statement)


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
