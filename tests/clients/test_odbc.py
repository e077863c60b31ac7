"""ODBC (Debian's odbc-postgresql, driven by unixODBC's isql)."""

from __future__ import annotations

import subprocess

from tests.clients.scratch import Ways
from tests.stack import Stack

_DRIVER = "/usr/lib/x86_64-linux-gnu/odbc/psqlodbcw.so"


def isql(words: dict[str, str], script: str) -> str:
    target = (
        f"Driver={_DRIVER};Server={words['host']};Port={words['port']};Database={words['dbname']};UID={words['user']};"
        f"PWD={words['password']};sslmode=disable;UseServerSidePrepare=1"
    )
    done = subprocess.run(
        ["isql", "-k", target, "-b", "-x0x7c"],
        input=script,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_odbc_sees_what_it_sees_directly(scratch: Ways) -> None:
    script = (
        "DROP TABLE IF EXISTS odbc_things\n"
        "CREATE TABLE odbc_things (id int PRIMARY KEY, label varchar(20), made date, amount numeric(8,2))\n"
        "INSERT INTO odbc_things SELECT n, 'thing ' || n, date '2024-01-01' + n, n / 4.0 FROM generate_series(1, 9) n\n"
        "SELECT * FROM odbc_things ORDER BY id\n"
        "SELECT 1/0\n"
        "SELECT count(*) FROM odbc_things\n"
        "DROP TABLE odbc_things\n"
    )

    direct, through = (isql(scratch.words(way), script) for way in ("direct", "through"))

    assert "thing 9" in direct
    assert through == direct


def test_odbc_read_is_masked(stack: Stack, agent_words: dict[str, str]) -> None:
    with stack.direct() as direct:
        stored = [row[0] for row in direct.execute("SELECT ssn FROM patients WHERE id <= 5")]

    printed = isql(agent_words, "SELECT id, ssn, state FROM patients WHERE id <= 5 ORDER BY id\n")

    assert len(printed.strip().splitlines()) == 5
    assert not [value for value in stored if value in printed]
