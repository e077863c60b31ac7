"""JDBC (Debian's libpostgresql-jdbc-java): batches, server-side statements, row limits, COPY, metadata, timeouts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.scratch import Ways
from tests.stack import Stack

_PROGRAM = Path(__file__).with_name("programs") / "Jdbc.java"
_JARS = ":".join(f"/usr/share/java/{name}.jar" for name in ("postgresql", "scram-client", "scram-common"))


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("jdbc")
    done = subprocess.run(
        ["javac", "-cp", _JARS, "-d", str(folder), str(_PROGRAM)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return f"{folder}:{_JARS}"


def run(classes: str, words: dict[str, str], *arguments: str) -> str:
    url = f"jdbc:postgresql://{words['host']}:{words['port']}/{words['dbname']}?sslmode=disable"
    done = subprocess.run(
        ["java", "-cp", classes, "Jdbc", url, *arguments],
        env={"JDBC_USER": words["user"], "JDBC_PASSWORD": words["password"], "PATH": "/usr/bin:/bin", "TZ": "UTC"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_jdbc_application_sees_what_it_sees_directly(scratch: Ways, classes: str) -> None:
    direct, through = (run(classes, scratch.words(way)) for way in ("direct", "through"))

    assert "batch 300" in direct
    assert through == direct


def test_jdbc_server_side_statement_is_masked_every_time(
    stack: Stack, agent_words: dict[str, str], classes: str
) -> None:
    query = "SELECT id, ssn, dob, state FROM patients WHERE id = ?"
    with stack.direct() as direct:
        stored = {row[0] for row in direct.execute("SELECT ssn FROM patients WHERE id <= 12")}

    lines = run(classes, agent_words, query).splitlines()

    seen = [dict(word.split("=", 1) for word in line.split("|")[1:]) for line in lines]
    assert [row["id"] for row in seen] == [str(n) for n in range(1, 13)]
    assert all(row["state"] for row in seen)
    assert not {row["ssn"] for row in seen} & stored


def test_jdbc_hears_payloads_as_a_rule_shows_them(heard_words: dict[str, str], classes: str) -> None:
    heard = run(classes, heard_words, "orders", "order 11 for 536-71-9284")

    assert heard.startswith("orders: order 11 for ")
    assert "536-71-9284" not in heard
