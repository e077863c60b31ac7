"""The results as JSON for machines and as tables for people."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.bulk import BulkLine
from benchmarks.parts import Part
from benchmarks.transactions import Line, Sustained


@dataclass
class Report:
    """Everything one run measured, with what is needed to judge it."""

    started_at: str
    quick: bool
    durability: str
    peer: str | None
    transactions: list[Line] = field(default_factory=list)
    sockets: list[Line] = field(default_factory=list)  # an upstream by TCP and by its Unix socket, beside each other
    sustained: list[Sustained] = field(default_factory=list)
    bulk: list[BulkLine] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def write(self, path: Path) -> None:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    def table(self) -> str:
        peer = self.peer or "pgbouncer is not installed: no peer figures"
        title = f"durability {self.durability}, {peer}" + (", QUICK RUN: not for comparing" if self.quick else "")
        pgbench, local = (
            _transactions("pgbench -S", self.transactions),
            _transactions("pgbench -S, upstream by TCP and by Unix socket", self.sockets),
        )
        return "\n\n".join([title, pgbench, local, self._sustained(), self._bulk(), self._parts()])

    def _sustained(self) -> str:
        rows = [["pgbench -S -M simple -c 16", "through", "tps", "of direct", "log entries/s", "behind at the end"]]
        for line in self.sustained:
            figures = [f"{line.tps:.0f}", f"{line.ratio:.2f}"] if not line.note else ["-", line.note]
            rows.append([f"-T {line.seconds}", line.endpoint, *figures, f"{line.taken_in:.0f}", str(line.behind)])
        return _aligned(rows)

    def _bulk(self) -> str:
        rows = [["read", "through", "seconds", "MB/s", "of direct", "gateway CPU s", "gateway peak MiB"]]
        for line in self.bulk:
            if line.note:
                rows.append([line.what, line.endpoint, "-", "-", "-", "-", line.note])
                continue
            speed = f"{line.megabytes / line.seconds:.0f}"
            peak = f"{line.peak_mb:.0f}" if line.peak_mb else ""
            spent = f"{line.cpu_s:.2f}" if line.cpu_s else ""
            rows.append([line.what, line.endpoint, f"{line.seconds:.2f}", speed, f"{line.ratio:.2f}", spent, peak])
        return _aligned(rows)

    def _parts(self) -> str:
        return _aligned([["part", "", ""], *([part.what, f"{part.value:.2f}", part.unit] for part in self.parts)])


def _transactions(title: str, lines: list[Line]) -> str:
    rows = [[title, "clients", "through", "tps", "of direct", "added us"]]
    for line in lines:
        numbers = [f"{line.tps:.0f}", f"{line.ratio:.2f}", f"{line.added_us:+.0f}"]
        rows.append(
            [line.mode, str(line.clients), line.endpoint, *(numbers if not line.note else ["-", "-", line.note])]
        )
    return _aligned(rows)


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
