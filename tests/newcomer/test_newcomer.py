"""A stranger gets from a clone to a governed agent and checked evidence in ten minutes, with the README's commands.

`make test` walks the part after the installation against the running stack; `make soak` clones, installs and starts.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser
from psycopg import sql

from hoopweb.embedded.account import remove_server_directory, server_account
from hoopweb.embedded.ports import free_port
from hoopweb.embedded.postgres import accepts_login, prepare_postgres
from tests.chaos.servers import wait_until
from tests.chromium import needs_chromium, running_chromium
from tests.newcomer.journey import COMMANDS, Newcomer, demo_of, whole_journey
from tests.stack import PROJECT, Stack, stack_environment

MINUTES = 10
README = (PROJECT / "README.md").read_text(encoding="utf-8")
SCHEMA = """
CREATE SCHEMA ward_book;
CREATE TABLE ward_book.guest (
  guest_no bigint PRIMARY KEY, family_name text, nhs_number text, born_on date, mobile text, ward text
);
INSERT INTO ward_book.guest
  SELECT n, 'Abernathy', '943 476 ' || lpad(n::text, 4, '0'), date '1951-03-01' + n::int,
         '(415) 555-' || lpad(n::text, 4, '0'), 'W' || n % 5 FROM generate_series(1, 2400) n;
ANALYZE ward_book.guest;
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    needs_chromium,
]


@pytest.fixture
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@pytest.fixture
def database() -> Iterator[Mapping[str, str]]:
    """A PostgreSQL server of the newcomer's own, with a role that may read; what its owner knows about it."""
    home = Path(tempfile.mkdtemp(prefix="hoopweb-second-"))
    home.chmod(0o755)
    server = prepare_postgres(home=home, port=free_port(), account=server_account(), settings={"fsync": "off"})
    command = server.command()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command.argv, **command.start_options() | quiet)
    try:
        wait_until(lambda: accepts_login(server), within_s=120, what="the second PostgreSQL")
        name = f"ward{time.time_ns() % 1_000_000}"
        role, password = sql.Identifier(name), sql.Literal(name)
        with psycopg.connect(server.dsn(), autocommit=True) as owner:
            owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
            owner.execute(sql.SQL("CREATE DATABASE {}").format(role))
        with psycopg.connect(server.dsn(database=name), autocommit=True) as owner:
            owner.execute(SCHEMA)
            owner.execute(sql.SQL("GRANT USAGE ON SCHEMA ward_book TO {}").format(role))
            owner.execute(sql.SQL("GRANT SELECT ON ward_book.guest TO {}").format(role))
        place = {"host": "127.0.0.1", "port": str(server.port), "database": name}
        yield {"name": name, **place, "username": name, "password": name}
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(20)
        remove_server_directory(home, "postgres")
        shutil.rmtree(home, ignore_errors=True)


def test_every_command_is_in_the_readme():
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S))

    for command in ("git clone", "make run", *COMMANDS.values()):
        assert command.partition("{")[0].strip() in blocks


def test_newcomer_gets_from_a_database_to_checked_evidence(
    stack: Stack, browser: Browser, database: Mapping[str, str], tmp_path: Path
):
    newcomer = Newcomer(
        directory=PROJECT,
        environment=stack.env,
        web_url=stack.demo["web_url"],
        postgres_port=stack.demo["postgres"]["port"],
        browser=browser,
        database=database,
    )

    whole_journey(newcomer, tmp_path)

    assert sum(newcomer.took.values()) < MINUTES * 60, newcomer.took


@pytest.mark.skipif(not os.environ.get("HOOPWEB_SOAK"), reason="clones and installs: make soak")
def test_newcomer_from_a_clone_in_ten_minutes(browser: Browser, database: Mapping[str, str], tmp_path: Path):
    began = time.monotonic()
    clone, home = Path(tempfile.mkdtemp(prefix="hoopweb-newcomer-")) / "hoopweb", tmp_path / "home"
    clone.parent.chmod(0o755)
    subprocess.run(["git", "clone", "--quiet", f"file://{PROJECT}", str(clone)], check=True)
    environment = stack_environment(clone / ".hoopweb")
    del environment["HOOPWEB_HOME"]
    running = subprocess.Popen(["make", "run"], cwd=clone, env=environment, stdout=subprocess.DEVNULL)
    try:
        demo_file = clone / ".hoopweb" / "demo.json"
        wait_until(lambda: demo_file.exists() or running.poll() is not None, within_s=MINUTES * 60, what="make run")
        assert running.poll() is None, "make run ended"
        installed_s = time.monotonic() - began
        demo = demo_of(demo_file.parent)
        newcomer = Newcomer(
            directory=clone,
            environment=environment,
            web_url=str(demo["web_url"]),
            postgres_port=int(environment["HOOPWEB_POSTGRES_PORT"]),
            browser=browser,
            database=database,
        )
        whole_journey(newcomer, tmp_path)
        took = {"clone, install, start": round(installed_s, 1), **newcomer.took}
        print(took)
        assert time.monotonic() - began < MINUTES * 60, took
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)
        for server in ("postgres", "redis"):
            remove_server_directory(clone / ".hoopweb", server)
        shutil.rmtree(clone.parent, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
