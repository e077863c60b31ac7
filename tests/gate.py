"""`make test` and `make lint`: every gate in turn, even after one failed; the verdict comes last."""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
_BIN = Path(sys.executable).parent
OURS = ("hoopweb", "gateway", "approvals", "masking", "audit", "analysis")
# Apps with migrations of ours. Not oidc_provider: its own lag behind BigAutoField and are not ours to write.
_MIGRATED = ("gateway", "approvals", "masking", "audit")
_PARTS_S, _PRODUCT_S = 5 * 60, 9 * 60  # of the fifteen minutes promised on two cores

LINT: tuple[tuple[str, tuple[str, ...]], ...] = (
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


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=("lint", "test"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-bound", action="store_true", help="let the tests take as long as they need")
    options = parser.parse_args()
    steps = list(LINT) if "lint" in options.parts else []
    if "test" in options.parts:
        bounded = not options.no_bound
        steps.append(("tests", _pytest("not e2e", jobs=options.jobs, bound_s=_PARTS_S if bounded else 0)))
        # Serially: two copies of the whole product would only fight for the cores and for the clock of every timeout.
        steps.append(("the running product", _pytest("e2e", jobs=1, bound_s=_PRODUCT_S if bounded else 0)))
    failed = [name for name, argv in steps if not _passes(name, argv)]
    print(
        f"\n{len(steps) - len(failed)} of {len(steps)} gates passed"
        + (f", failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def _pytest(marked: str, *, jobs: int, bound_s: int) -> tuple[str, ...]:
    parallel = ("-n", str(jobs)) if jobs > 1 else ()
    bound = ("--session-timeout", str(bound_s)) if bound_s else ("--timeout", "0")
    return (sys.executable, "-m", "pytest", "-q", "-m", marked, *parallel, *bound)


def _passes(name: str, argv: Sequence[str]) -> bool:
    print(f"== {name}", flush=True)
    started = time.monotonic()
    status = subprocess.run(argv, cwd=PROJECT, check=False).returncode
    print(
        f"== {name}: {'passed' if status == 0 else f'failed ({status})'} in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
