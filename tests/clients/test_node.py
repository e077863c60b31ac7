"""JavaScript: node-postgres (npm `pg`) with named statements, row limits, queued queries, LISTEN and pools; Postgres.js
(npm `postgres`), which pipelines and flushes where it can."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.program import PROGRAMS, printed
from tests.clients.scratch import Ways
from tests.regress.source import cache_directory
from tests.stack import Stack

_PACKAGES = {"pg": "8.23.1", "postgres": "3.4.9"}
APPLICATIONS = ("node.js", "postgresjs.mjs")


@pytest.fixture(scope="session")
def modules() -> Path:
    """The drivers at their tested versions, installed by npm once and kept below the project's cache."""
    versions = [f"{name}@{version}" for name, version in _PACKAGES.items()]
    folder = cache_directory() / "-".join(["node", *versions])
    if not all((folder / "node_modules" / name / "package.json").exists() for name in _PACKAGES):
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
                *versions,
            ],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder / "node_modules"


def run(modules: Path, words: dict[str, str], program: str, *arguments: str) -> str:
    return printed(["node", str(PROGRAMS / program), *arguments], words, NODE_PATH=str(modules))


@pytest.mark.parametrize("program", APPLICATIONS)
def test_node_application_sees_what_it_sees_directly(scratch: Ways, modules: Path, program: str) -> None:
    direct, through = (run(modules, scratch.words(way), program) for way in ("direct", "through"))

    assert "heard" in direct
    assert "hello" in direct
    assert through == direct


@pytest.mark.parametrize("program", APPLICATIONS)
def test_node_named_statement_is_masked_every_time(
    stack: Stack, agent_words: dict[str, str], modules: Path, program: str
) -> None:
    with stack.direct() as direct:
        stored = [row[0] for row in direct.execute("SELECT ssn FROM patients WHERE id <= 8")]

    shown = run(modules, agent_words, program, "SELECT id, ssn FROM patients WHERE id = $1")

    assert shown.count("row SELECT 1") == 8
    assert not [value for value in stored if value in shown]
