"""`connect --listen`: ordinary programs, many connections, no password, for the user who opened the port alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import create_engine, text

from hoopweb.cli.forward import startup_packet
from tests.hoopweb.cli.test_commands import Shell, shell

__all__ = ["shell"]


@pytest.fixture(scope="module")
def port(shell: Shell) -> Iterator[int]:
    process = shell.start("connect", "--listen", "0", "--port", str(shell.stack.demo["postgres"]["port"]), "clinic")
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"port=(\d+) dbname=clinic", line)
    assert found, line or process.communicate()[1]
    yield int(found[1])
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


def address(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=whoever dbname=whatever"


def test_each_connection_gets_a_ticket_of_its_own(port: int):
    def ask(_: int) -> tuple[object, ...] | None:
        with psycopg.connect(address(port), autocommit=True) as agent:
            return agent.execute("select count(*), max(ssn) from patients where id <= 3").fetchone()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(6)))

    assert {answer and answer[0] for answer in answers} == {3}
    assert not any("-" in str(answer and answer[1]) for answer in answers)  # masked, as for every other client


def test_pool_of_an_ordinary_library_works(port: int):
    engine = create_engine(f"postgresql+psycopg://127.0.0.1:{port}/clinic", pool_size=3)
    with engine.connect() as one, engine.connect() as two, engine.connect() as three:
        counts = [each.execute(text("select count(*) from encounters")).scalar() for each in (one, two, three)]
    engine.dispose()

    assert len(set(counts)) == 1


def test_rules_answer_as_everywhere(port: int):
    with (
        psycopg.connect(address(port), autocommit=True) as agent,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="rule access"),
    ):
        agent.execute("drop table patients")


def test_what_cannot_be_bought_is_told_at_once(shell: Shell):
    done = shell.run("connect", "--listen", "0", "nowhere")

    assert done.returncode not in {0, 130}
    assert "no such connection" in done.stderr


def test_program_and_port_do_not_go_together(shell: Shell):
    assert shell.run("connect", "--listen", "0", "clinic", "--", "-c", "select 1").returncode == 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_other_users_of_the_machine_are_refused(port: int):
    probe = f"exec 3<>/dev/tcp/127.0.0.1/{port}; head -c 90 <&3 | tr -d '\\0'"

    said = subprocess.run(
        ["/bin/bash", "-c", probe], capture_output=True, text=True, user="nobody", check=False, cwd="/"
    )

    assert "for the user who opened it" in said.stdout, said.stderr


def test_startup_message_keeps_what_else_the_client_asks_for():
    asked = b"user\0x\0database\0y\0application_name\0report\0options\0\0\0"
    packet = (8 + len(asked)).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + asked

    said = startup_packet(packet, user="demo-agent", database="clinic")

    assert int.from_bytes(said[:4], "big") == len(said)
    assert said[8:] == b"user\0demo-agent\0database\0clinic\0application_name\0report\0options\0\0\0"
