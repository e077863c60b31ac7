"""One regression file through psql, as pg_regress runs it, and what differs between two such runs."""

from __future__ import annotations

import difflib
import os
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


def expected_differences() -> dict[str, str]:
    """Test name → why its output may differ."""
    lines = DIFFERENCES.read_text(encoding="utf-8").splitlines()
    listed = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name.strip(): reason.strip() for name, _, reason in listed}
