"""node-postgres (npm `pg`): named statements, row limits, queued queries, LISTEN, pools."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.scratch import Ways
from tests.regress.source import cache_directory
from tests.stack import Stack

_PROGRAM = Path(__file__).with_name("programs") / "node.js"
_VERSION = "8.23.1"


@pytest.fixture(scope="session")
def modules() -> Path:
    """`pg` at the tested version, installed by npm once and kept below the project's cache."""
    folder = cache_directory() / f"node-pg-{_VERSION}"
    if not (folder / "node_modules" / "pg" / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                "npm",
                "install",
                "--prefix",
                str(folder),
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                f"pg@{_VERSION}",
            ],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder / "node_modules"


def run(modules: Path, words: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        ["node", str(_PROGRAM), *arguments],
        env={
            "PATH": os.environ["PATH"],
            "NODE_PATH": str(modules),
            "TZ": "UTC",
            "PGHOST": words["host"],
            "PGPORT": words["port"],
            "PGDATABASE": words["dbname"],
            "PGUSER": words["user"],
            "PGPASSWORD": words["password"],
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_node_application_sees_what_it_sees_directly(scratch: Ways, modules: Path) -> None:
    direct, through = (run(modules, scratch.words(way)) for way in ("direct", "through"))

    assert "heard news hello" in direct
    assert through == direct


def test_node_named_statement_is_masked_every_time(stack: Stack, agent_words: dict[str, str], modules: Path) -> None:
    with stack.direct() as direct:
        stored = [row[0] for row in direct.execute("SELECT ssn FROM patients WHERE id <= 8")]

    printed = run(modules, agent_words, "SELECT id, ssn FROM patients WHERE id = $1")

    assert printed.count("row SELECT 1") == 8
    assert not [value for value in stored if value in printed]
