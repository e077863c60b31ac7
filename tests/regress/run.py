"""One regression file through psql, as pg_regress runs it, and what differs between two such runs."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

PSQL = "/usr/lib/postgresql/15/bin/psql"
DIFFERENCES = Path(__file__).with_name("expected_differences.txt")


@dataclass(frozen=True, slots=True)
class Side:
    """Where psql connects, and the directory its results (COPY TO files) may go to."""

    dsn: str
    results: Path


def run_file(name: str, *, files: Path, side: Side, timeout_s: float = 120) -> str:
    """Everything psql printed for `sql/<name>.sql`, errors and notices in their places."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PG")},
        "PGTZ": "PST8PDT",
        "PGDATESTYLE": "Postgres, MDY",
        "PGOPTIONS": "-c intervalstyle=postgres_verbose",
        "PG_ABS_SRCDIR": str(files),
        "PG_ABS_BUILDDIR": str(side.results),
        "PG_LIBDIR": "/nonexistent",  # regress.so is not built: its C functions fail on both sides alike
        "PG_DLSUFFIX": ".so",
        "LANG": "C",
        "LC_MESSAGES": "C",
    }
    variables = ("-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on")
    with (files / "sql" / f"{name}.sql").open("rb") as script:
        done = subprocess.run(
            [PSQL, "-X", "-a", "-q", *variables, "-d", side.dsn],
            stdin=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=side.results,
            timeout=timeout_s,
            check=False,
        )
    return done.stdout.decode("utf-8", "replace").replace(str(side.results), "<results>")


def difference(name: str, direct: str, through: str) -> str:
    """A unified diff, empty when the outputs are the same."""
    return "\n".join(
        difflib.unified_diff(
            direct.splitlines(), through.splitlines(), f"{name} (direct)", f"{name} (gateway)", lineterm="", n=2
        )
    )


def hunks(changed: str) -> dict[str, str]:
    """Digest → text of every hunk of a unified diff. Where it stands and what surrounds it is not part of a digest."""
    found: dict[str, str] = {}
    for hunk in re.split(r"(?m)^@@ .*$", changed)[1:]:
        lines = [line.rstrip() for line in hunk.splitlines() if line[:1] in {"+", "-"}]
        # Sorted: rows of a query without ORDER BY come in any order.
        found[hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]] = hunk
    return found


def expected_differences() -> dict[str, frozenset[str]]:
    """Test name → digests of the hunks that may differ."""
    listed: dict[str, frozenset[str]] = {}
    for line in DIFFERENCES.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(":")
            digests, _, _reason = rest.strip().partition(" because ")
            listed[name] = listed.get(name, frozenset()) | frozenset(digests.split())
    return listed


def unexpected(name: str, changed: str) -> str:
    """The hunks of a difference that nobody listed, each with its digest; empty when all are."""
    listed = expected_differences().get(name, frozenset())
    return "\n".join(f"{name}: {digest}{text}" for digest, text in hunks(changed).items() if digest not in listed)
