"""`make test` and `make lint`: every gate, even after one failed; the verdict comes last.

The gates that look at the code take a core for a minute: `make test` runs them beside the tests, one by one, with what
these leave of the machine, and shows what each said when it has ended. So is the home made ready from which copies of
the product start. The tests are two runs of pytest; the second is
given the files in which the first found tests of the running product, and fails if it ran fewer of them than were
found. What they counted is added up, and the last line is one ordinary pytest summary.
A failure that may be the machine's is asked once more, alone (tests/unsteady.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.prepared_home import PREPARED
from tests.tally import OUTCOMES, PRODUCT, TALLY, Tally, missing
from tests.turn import SAID
from tests.unsteady import may_be_the_machine, taken_back

PROJECT = Path(__file__).resolve().parent.parent
_BIN = Path(sys.executable).parent
OURS = ("hoopweb", "gateway", "approvals", "masking", "audit", "analysis")
# Apps with migrations of ours. Not oidc_provider: its own lag behind BigAutoField and are not ours to write.
_MIGRATED = ("gateway", "approvals", "masking", "audit")
Step = tuple[str, tuple[str, ...]]
# Two free cores need some 6 and 7 minutes; these only end a run that hangs, so a busy machine may take its time.
_PARTS_S, _PRODUCT_S = 25 * 60, 30 * 60

LINT: tuple[Step, ...] = (
    ("style", (str(_BIN / "ruff"), "check", "--quiet", ".")),
    ("format", (str(_BIN / "ruff"), "format", "--check", "--quiet", ".")),
    ("imports", (str(_BIN / "lint-imports"), "--no-logo")),
    ("types", (str(_BIN / "mypy"), *OURS)),
    (
        "migrations",
        (
            sys.executable,
            "manage.py",
            "makemigrations",
            "--check",
            "--dry-run",
            "--settings",
            "tests.settings",
            *_MIGRATED,
        ),
    ),
)
# No gate: a copy that finds no such home makes it, or says what is wrong.
_PREPARE: Step = ("a home made ready", (sys.executable, "-m", "tests.prepared_home"))


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=("lint", "test"))
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--no-bound", action="store_true", help="let the tests take as long as they need")
    options = parser.parse_args()
    lint: list[Step] = list(LINT) if "lint" in options.parts else []
    tests: list[Step] = []
    if "test" in options.parts:
        bounded = not options.no_bound
        tests.append(("tests", _pytest("not e2e", jobs=options.jobs, bound_s=_PARTS_S if bounded else 0)))
        # A copy of the product for each worker, which runs whole folders.
        by_folder = ("--dist", "loadscope", "--no-loadscope-reorder") if options.jobs > 1 else ()
        tests.append(
            ("the running product", _pytest("e2e", *by_folder, jobs=options.jobs, bound_s=_PRODUCT_S if bounded else 0))
        )
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hoopweb-gate-") as scratch:
        Path(scratch).chmod(0o755)  # the servers' account walks through it
        os.environ[PREPARED] = str(Path(scratch) / "prepared")
        tallies = {name: Path(scratch) / f"{number}.json" for number, (name, _) in enumerate(tests)}
        failed = _failed(lint, tests, tallies, product=Path(scratch) / "product.json", ready=[_PREPARE])
        runs = [_read(path) for path in tallies.values() if path.exists()]
    count = len(lint) + len(tests)
    print(f"\n{count - len(failed)} of {count} gates passed" + (f", failed: {', '.join(failed)}" if failed else ""))
    if "test" in options.parts:
        _print_summary(runs, took_s=time.monotonic() - started)
    return 1 if failed else 0


def _pytest(marked: str, *options: str, jobs: int, bound_s: int) -> tuple[str, ...]:
    parallel = ("-n", str(jobs)) if jobs > 1 else ()
    bound = ("--session-timeout", str(bound_s)) if bound_s else ("--timeout", "0")
    return (sys.executable, "-m", "pytest", "-q", "--durations", "10", "-m", marked, *parallel, *options, *bound)


def _failed(
    lint: Sequence[Step],
    tests: Sequence[Step],
    tallies: Mapping[str, Path],
    *,
    product: Path,
    ready: Sequence[Step] = (),
) -> list[str]:
    """The names of the gates that failed. What makes `ready` for the second run is done beside the first."""
    if not tests:
        return [name for name, argv in lint if not _passes(name, argv)]
    with ThreadPoolExecutor(1) as beside:
        linting = [(name, beside.submit(_passes, name, argv, aside=True)) for name, argv in lint]
        for name, argv in ready:
            beside.submit(_passes, name, argv, aside=True)
        first, *others = [(name, argv, tallies[name]) for name, argv in tests]
        failed = [] if _tests_pass(*first, product=product) else [first[0]]
        # One that could not even look for tests told nothing: then all files are read.
        found: dict[str, int] = json.loads(product.read_text(encoding="utf-8")) if product.exists() else {}
        failed += [name for name, argv, tally in others if not _all_pass(name, (*argv, *found), tally, found)]
        return [name for name, passed in linting if not passed.result()] + failed


def _all_pass(name: str, argv: Sequence[str], tally: Path, found: Mapping[str, int]) -> bool:
    """Run tests another run has found, and say of which files some did not run."""
    passed = _tests_pass(name, argv, tally)
    lost = missing(found, _read(tally)["ran"] if tally.exists() else {})
    for sentence in lost:
        print(f"MISSING {sentence}")
    return passed and not lost


def _tests_pass(name: str, argv: Sequence[str], tally: Path, *, product: Path | None = None) -> bool:
    """Run tests, and once more alone those that failed, if their failure may be the machine's."""
    if _passes(name, argv, tally=tally, product=product):
        return True
    first = _read(tally) if tally.exists() else None
    if first is None or not may_be_the_machine(first["failed"]):
        return False
    again = (sys.executable, "-m", "pytest", "-q", "--session-timeout", str(_PARTS_S), *first["failed"])
    if not _passes(f"{name}, what failed, alone", again):
        return False
    for test in first["failed"]:
        print(f"UNSTEADY {test}: failed beside others, passed alone")
    tally.write_text(json.dumps(taken_back(first)), encoding="utf-8")
    return True


def _passes(
    name: str, argv: Sequence[str], *, tally: Path | None = None, product: Path | None = None, aside: bool = False
) -> bool:
    """Run a gate. `aside`: others go before it, and what it says is kept until it has ended, and shown in one piece."""
    if not aside:
        print(f"== {name}", flush=True)
    started = time.monotonic()
    stdout, stderr = (subprocess.PIPE, subprocess.STDOUT) if aside else (None, None)
    environment = _environment(tally, product)
    # Behind the tests, but not so far that more workers than cores keep it from its turn.
    argv = ("nice", "-n", "5", *argv) if aside else argv
    done = subprocess.run(argv, cwd=PROJECT, env=environment, check=False, stdout=stdout, stderr=stderr)
    said = "\n" + done.stdout.decode(errors="replace") if aside else ""
    verdict = "passed" if done.returncode == 0 else f"failed ({done.returncode})"
    print(f"{said}== {name}: {verdict} in {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


def _environment(tally: Path | None, product: Path | None) -> dict[str, str]:
    # One seed for all workers of a run: pytest-xdist needs every one of them to collect the same tests.
    environment = {"PYTHONHASHSEED": "0", **os.environ}
    # What is not to be told is taken away: a test of the gate runs another within it.
    for name, path in ((TALLY, tally), (PRODUCT, product)):
        environment.pop(name, None)
        if path:
            environment[name] = str(path)
    # Some hundred processes load the same modules: without the files of a first one, each compiles them anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def _read(tally: Path) -> Tally:
    content: Tally = json.loads(tally.read_text(encoding="utf-8"))
    return content


def _print_summary(runs: Sequence[Tally], *, took_s: float) -> None:
    counts: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for run in runs:
        counts.update(run["counts"])
        skipped.update(run["skipped"])
    print(f"{skipped.total()} skipped" + (":" if skipped else ", everything was tested"))
    for reason, count in skipped.most_common():
        print(f"  {count} x {reason}")
    print(SAID)
    outcome = ", ".join(f"{counts[word]} {word}" for word in OUTCOMES if counts[word]) or "no tests ran"
    print(f" {outcome} in {took_s:.2f}s ".center(100, "="))


if __name__ == "__main__":
    sys.exit(main())
