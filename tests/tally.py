"""What a run of tests says at its end, and writes down for the gate, which adds the runs up.

The first run reads every file of tests. Which of them drive the running product it writes down as well, so that the
second one need not read the others again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

import pytest

TALLY = "HOOPWEB_GATE_TALLY"  # names the file
PRODUCT = "HOOPWEB_GATE_PRODUCT"  # names the file of those that drive the running product
OUTCOMES = ("failed", "passed", "skipped", "xfailed", "xpassed", "error", "rerun")


class Tally(TypedDict):
    """What a run counted."""

    counts: dict[str, int]  # by pytest's words for outcomes
    skipped: dict[str, int]  # by reason
    failed: list[str]  # node ids, of errors too


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines say how much was not tested, and why."""
    stats = terminalreporter.stats
    reasons = Counter(_reason(report) for report in stats.get("skipped", []))
    terminalreporter.section("skipped")
    terminalreporter.write_line(f"{sum(reasons.values())} skipped" + (":" if reasons else ", everything was tested"))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count} x {reason}")
    if tally := os.environ.get(TALLY):
        counts = {word: len(stats.get(word, [])) for word in OUTCOMES}
        # A test that fails and then fails to clean up is one test.
        failed = list(dict.fromkeys(report.nodeid for word in ("failed", "error") for report in stats.get(word, [])))
        told: Tally = {"counts": counts, "skipped": reasons, "failed": failed}
        Path(tally).write_text(json.dumps(told), encoding="utf-8")


def tell_product_files(items: Iterable[pytest.Item]) -> None:
    """Write down the files of all tests that drive the running product, in the order they were found."""
    if told := os.environ.get(PRODUCT):
        marked = [item for item in items if item.get_closest_marker("e2e")]
        files = list(dict.fromkeys(item.nodeid.partition("::")[0] for item in marked))
        unfinished = Path(f"{told}.{os.getpid()}")  # each worker tells the same
        unfinished.write_text(json.dumps(files), encoding="utf-8")
        unfinished.replace(told)


def _reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")
