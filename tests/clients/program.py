"""A client's program, run as the person would who wrote it: its connection comes by PG* variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAMS = Path(__file__).with_name("programs")


def printed(argv: Sequence[str], words: Mapping[str, str], **more: str) -> str:
    """What the program printed; it must succeed. `words`: libpq keywords, `more`: further variables."""
    done = subprocess.run(
        argv,
        env={
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
            "PGHOST": words["host"],
            "PGPORT": words["port"],
            "PGDATABASE": words["dbname"],
            "PGUSER": words["user"],
            "PGPASSWORD": words["password"],
            **more,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
