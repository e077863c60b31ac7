"""The parts by themselves: an unseen statement's price, masking in MB/s, appends to the log in a second."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import psycopg

from benchmarks.world import PROJECT, Endpoint, World
from gateway.protocols.postgres.datarow import mask_rows
from gateway.protocols.postgres.server import encode_data_row
from masking.detectors.text import mask as mask_note
from masking.engines.registry import TECHNIQUES, compile_mask
from masking.engines.types import MaskOptions, MaskValue, target_for

_BATCH = 1000
_FIVE_TABLES = (
    "SELECT a.abalance AS c{n}, b.bbalance, t.tbalance, h.delta, o.aid FROM pgbench_accounts a "
    "JOIN pgbench_branches b USING (bid) JOIN pgbench_tellers t USING (bid) "
    "LEFT JOIN pgbench_history h ON h.aid = a.aid JOIN pgbench_accounts o ON o.aid = a.aid "
    "WHERE a.aid = 7 AND t.tid = 7"
)


@dataclass(frozen=True)
class Part:
    what: str
    value: float
    unit: str


def measure(world: World, direct: Endpoint, gateway: Endpoint, *, shapes: int, seconds: float) -> list[Part]:
    return [*first_sight(direct, gateway, shapes=shapes), *masking(seconds), *log_appends(world, seconds)]


def first_sight(direct: Endpoint, gateway: Endpoint, *, shapes: int) -> list[Part]:
    """Median latency of statements of shapes nobody sent before, of one shape with other literals, and sent again.

    The second time makes ready what every later one uses: so the third has a line of its own. A new shape is new in
    the names of its outputs alone, or the server's reading of it is new as well (`analysis.alike`).
    """
    shaped = "SELECT bid, bbalance FROM pgbench_branches WHERE bid = {n}"
    statements = [f"SELECT bid AS b{n}, bbalance AS c{n} FROM pgbench_branches WHERE bid = 1" for n in range(shapes)]
    unlike = [f"SELECT bid AS b, bbalance + {n} AS c FROM pgbench_branches WHERE bid = 1" for n in range(shapes)]
    rounds = {
        "of a new shape": statements,
        "of a new shape, read unlike any": unlike,
        "of a known shape": [shaped.format(n=n) for n in range(shapes)],
        "sent again": statements,
        "sent a third time": statements,
        "of a new shape, five tables": [_FIVE_TABLES.format(n=n) for n in range(shapes)],
        "of a new shape, five tables, read unlike any": [
            _FIVE_TABLES.format(n=n).replace(f"a.abalance AS c{n}", f"a.abalance + {n} AS c") for n in range(shapes)
        ],
    }
    parts = []
    for endpoint in (direct, gateway):
        with psycopg.connect(endpoint.dsn(), autocommit=True, prepare_threshold=None) as connection:
            connection.execute("SELECT 1")
            connection.execute(shaped.format(n=shapes).encode())
            for name, sent in rounds.items():
                taken = median(_timed(connection, sql) for sql in sent)
                parts.append(Part(f"statement, {endpoint.name}, {name}", taken * 1000, "ms"))
    return parts


def _timed(connection: psycopg.Connection[tuple[object, ...]], sql: str) -> float:
    started = time.perf_counter()
    connection.execute(sql.encode()).fetchall()
    return time.perf_counter() - started


def masking(seconds: float) -> list[Part]:
    """A result of one column of text, one technique at a time, as the data path does it; MB of values."""
    usual = {"year": "19{n:02d}-03-07", "zip3": "{n:05d}"}
    options = MaskOptions(data_class="bench", this_year=2026, key=b"k" * 32)
    parts = []
    for technique in sorted(TECHNIQUES):
        shape = usual.get(technique, "{n:03d}-41-6637 person {n}")
        values = [shape.format(n=n % 100 if technique == "year" else n).encode() for n in range(_BATCH)]
        rows, size = b"".join(encode_data_row([value]) for value in values), sum(map(len, values))
        mask = compile_mask(technique, target=target_for(type_oid=25, binary=False), options=options)
        batches = _per_second(lambda rows=rows, mask=mask: _masked(rows, mask), seconds)  # type: ignore[misc]
        parts.append(Part(f"masking, {technique}", batches * size / 1e6, "MB/s"))
    return [*parts, _scanning(seconds)]


def _masked(rows: bytes, mask: MaskValue) -> None:
    mask_rows(rows, 0, len(rows), width=1, masks=[(0, mask, False)], counts=[0])


def _scanning(seconds: float) -> Part:
    """The free-text detectors over notes of the usual length, one in ten with something to find."""
    notes = [
        "Patient seen for follow-up of hypertension. Blood pressure well controlled on current regimen; continue "
        f"lisinopril 10 mg daily and recheck in {n} weeks." + (" Call (707) 555-0142." if n % 10 == 0 else "")
        for n in range(50)
    ]
    batches = _per_second(lambda: [mask_note(note) for note in notes], seconds)
    return Part("detectors over notes", batches * sum(map(len, notes)) / 1e6, "MB/s")


def _per_second(work: Callable[[], object], seconds: float) -> float:
    work()
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        work()
        done += 1
    return done / elapsed


def log_appends(world: World, seconds: float) -> list[Part]:
    """In a process of its own, with the stack's settings: entries made durable by 1 and 64 waiters, and taken in."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.log_appends", str(seconds)],
        cwd=PROJECT,
        env=world.env | {"DJANGO_SETTINGS_MODULE": "hoopweb.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"the log could not be measured: {done.stderr.strip()[-300:]}")
    rates: dict[str, float] = json.loads(done.stdout)
    return [Part(f"log appends, {how}", rate, "entries/s") for how, rate in rates.items()]
