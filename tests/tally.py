"""What a run of tests says at its end, and writes down for the gate, which adds the runs up.

The first run reads every file of tests. How many of which drive the running product it writes down as well, so that the
second one need not read the others again, and loses none.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

import pytest

from tests.turn import SAID

TALLY = "HOOPWEB_GATE_TALLY"  # names the file
PRODUCT = "HOOPWEB_GATE_PRODUCT"  # names the file that says where tests drive the running product, and how many
OUTCOMES = ("failed", "passed", "skipped", "xfailed", "xpassed", "error", "rerun")


class Tally(TypedDict):
    """What a run counted."""

    counts: dict[str, int]  # by pytest's words for outcomes
    skipped: dict[str, int]  # by reason
    failed: list[str]  # node ids, of errors too
    ran: dict[str, int]  # tests by file, whatever came of them


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines say how much was not tested, and why."""
    stats = terminalreporter.stats
    reasons = Counter(_reason(report) for report in stats.get("skipped", []))
    terminalreporter.section("skipped")
    terminalreporter.write_line(f"{sum(reasons.values())} skipped" + (":" if reasons else ", everything was tested"))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count} x {reason}")
    terminalreporter.write_line(SAID)
    if tally := os.environ.get(TALLY):
        counts = {word: len(stats.get(word, [])) for word in OUTCOMES}
        # A test that fails and then fails to clean up is one test.
        failed = list(dict.fromkeys(report.nodeid for word in ("failed", "error") for report in stats.get(word, [])))
        reports = [report for word in OUTCOMES for report in stats.get(word, [])]
        ran = _by_file({report.nodeid for report in reports if isinstance(report, pytest.TestReport)})
        told: Tally = {"counts": counts, "skipped": reasons, "failed": failed, "ran": ran}
        Path(tally).write_text(json.dumps(told), encoding="utf-8")


def tell_product_files(items: Iterable[pytest.Item]) -> None:
    """Write down how many tests of which file drive the running product, in the order they were found."""
    if told := os.environ.get(PRODUCT):
        found = _by_file(item.nodeid for item in items if item.get_closest_marker("e2e"))
        unfinished = Path(f"{told}.{os.getpid()}")  # each worker tells the same
        unfinished.write_text(json.dumps(found), encoding="utf-8")
        unfinished.replace(told)


def missing(found: Mapping[str, int], ran: Mapping[str, int]) -> list[str]:
    """A sentence for each file of which fewer tests ran than were found."""
    return [
        f"{file}: {count} found, {ran.get(file, 0)} ran" for file, count in found.items() if ran.get(file, 0) < count
    ]


def _by_file(tests: Iterable[str]) -> dict[str, int]:
    return dict(Counter(test.partition("::")[0] for test in tests))


def _reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")
