"""Perl (DBD::Pg) and PHP (PDO and its pg_ functions), from Debian: both stand on libpq and ask in ways of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.scratch import Ways
from tests.stack import Stack

_PROGRAMS = Path(__file__).with_name("programs")
_PROGRAM = {"perl": "everything.pl", "php": "everything.php"}
# The placeholder of a prepared statement; PHP reads it as its own and makes $1 of it.
_QUERY = "SELECT id, ssn, dob FROM patients WHERE id = ?"


def run(interpreter: str, words: dict[str, str], *arguments: str) -> str:
    if shutil.which(interpreter) is None:
        pytest.skip("needs scripts of Debian: apt-get install libdbd-pg-perl php-cli php-pgsql")
    done = subprocess.run(
        [interpreter, str(_PROGRAMS / _PROGRAM[interpreter]), *arguments],
        env={
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
            "PGHOST": words["host"],
            "PGPORT": words["port"],
            "PGDATABASE": words["dbname"],
            "PGUSER": words["user"],
            "PGPASSWORD": words["password"],
            "PGSSLMODE": words["sslmode"],
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("interpreter", _PROGRAM)
def test_script_sees_what_it_sees_directly(scratch: Ways, interpreter: str) -> None:
    direct, through = (run(interpreter, scratch.words(way)) for way in ("direct", "through"))

    assert "copied" in direct
    assert through == direct


@pytest.mark.parametrize("interpreter", _PROGRAM)
def test_prepared_read_of_a_script_is_masked_every_time(
    stack: Stack, agent_words: dict[str, str], interpreter: str
) -> None:
    with stack.direct() as direct:
        stored = [str(value) for row in direct.execute("SELECT ssn, dob FROM patients WHERE id <= 8") for value in row]

    printed = run(interpreter, agent_words, _QUERY)

    assert printed.count("row") == 8
    assert not [value for value in stored if value in printed and not value.endswith("-01-01")]
