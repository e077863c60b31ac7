"""Perl (DBD::Pg) and PHP (PDO and its pg_ functions), from Debian: both stand on libpq and ask in ways of their own."""

from __future__ import annotations

import shutil

import pytest

from tests.clients.program import PROGRAMS, printed
from tests.clients.scratch import Ways
from tests.stack import Stack

_PROGRAM = {"perl": "everything.pl", "php": "everything.php"}
# The placeholder of a prepared statement; PHP reads it as its own and makes $1 of it.
_QUERY = "SELECT id, ssn, dob FROM patients WHERE id = ?"


def run(interpreter: str, words: dict[str, str], *arguments: str) -> str:
    if shutil.which(interpreter) is None:
        pytest.skip("needs scripts of Debian: apt-get install libdbd-pg-perl php-cli php-pgsql")
    program = str(PROGRAMS / _PROGRAM[interpreter])
    return printed([interpreter, program, *arguments], words, PGSSLMODE=words["sslmode"])


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

    shown = run(interpreter, agent_words, _QUERY)

    assert shown.count("row") == 8
    assert not [value for value in stored if value in shown and not value.endswith("-01-01")]
