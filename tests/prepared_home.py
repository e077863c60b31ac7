"""A home made ready once a run, from which every copy of the product starts: it saves half of a first start."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
# The directory. `make test` makes it beside its first run (tests/gate.py); tests/services.py names it otherwise.
PREPARED = "HOOPWEB_TEST_PREPARED"
# A copy picks ports of its own, and its Redis starts empty.
_LEFT_BEHIND = ("ports.json", "redis", "lock", "pids.json")


def copy_prepared(home: Path, environment: Mapping[str, str]) -> None:
    """Fill the empty `home` from the prepared one, which whoever comes first makes, with `environment`."""
    where = os.environ.get(PREPARED)
    if not where:  # no run of the tests
        return
    prepared = Path(where)
    ensure_prepared(prepared, environment)
    home.mkdir(parents=True, exist_ok=True)
    # A link stands for servers placed elsewhere (hoopweb/embedded/account.py), which no two copies may share.
    entries = [str(e) for e in prepared.iterdir() if e.name not in _LEFT_BEHIND and not e.is_symlink()]
    # With owners: the servers' data belong to their own account.
    subprocess.run(["cp", "-a", *entries, str(home)], check=True)


def ensure_prepared(prepared: Path, environment: Mapping[str, str]) -> None:
    """Make it where nobody has; wait for whoever is making it."""
    with Path(f"{prepared}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not prepared.exists():
            _prepare(prepared, environment)


def _prepare(prepared: Path, environment: Mapping[str, str]) -> None:
    partial = prepared.with_name(f"{prepared.name}.partial")
    done = subprocess.run(
        [sys.executable, "-m", "hoopweb.embedded", "--with-parent", "--prepare"],
        env={**environment, "HOOPWEB_HOME": str(partial)},
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    partial.rename(prepared)


def main() -> None:
    from tests.stack import stack_environment  # which fills its homes from here

    prepared = Path(os.environ[PREPARED])
    ensure_prepared(prepared, stack_environment(prepared))


if __name__ == "__main__":
    main()
