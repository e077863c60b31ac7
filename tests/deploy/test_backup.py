"""The backup of docs/operations.md with PostgreSQL's own tools: dumped, restored into an empty database, gone on with.

The restored product has a home of its own with the secrets of the backup and the anchors as they are now. The shared
stack stays what it was.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from hoopweb.embedded.postgres import CONTROL, postgres_binaries
from hoopweb.embedded.secrets import write_secret
from tests.chaos.servers import wait_until
from tests.stack import PROJECT, Stack, stack_environment

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("HOOPWEB_SOAK"), reason="starts a second product, command by command: make soak"
    ),
]
RESTORED = "hoopweb_restored"


def tool(name: str, *arguments: object) -> None:
    subprocess.run([str(postgres_binaries() / name), *map(str, arguments)], check=True, timeout=120)


def bundle(stack: Stack, target: Path) -> int:
    """Export, which signs a checkpoint and anchors it. Returns the size of the log."""
    done = stack.manage("audit_bundle", "-o", str(target))
    assert done.returncode == 0, done.stderr
    return int(json.loads(target.read_text().partition("\n")[0])["size"])


@pytest.fixture
def restored(stack: Stack, tmp_path: Path) -> Iterator[tuple[Stack, int]]:
    """A product on a database restored from a dump older than the newest anchors, and the log's size it had lost."""
    dump, home = tmp_path / "control.dump", tmp_path / "home"
    bundle(stack, tmp_path / "before.bundle")
    tool("pg_dump", "-Fc", "-d", stack.superuser_dsn(CONTROL), "-f", dump)
    assert stack.psql("-c", "select count(*) from encounters").returncode == 0
    lost = bundle(stack, tmp_path / "lost.bundle")
    home.mkdir()
    for kept in ("secrets", "anchors"):
        shutil.copytree(stack.home / kept, home / kept)
    shutil.copy(stack.home / "demo.json", home)
    shutil.copy(stack.home / "ports.json", home)
    admin = stack.superuser_dsn("postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(RESTORED))
        connection.execute(drop)
        create = sql.SQL("CREATE DATABASE {} OWNER {}")
        connection.execute(create.format(sql.Identifier(RESTORED), sql.Identifier(CONTROL)))
        try:
            url = (stack.home / "secrets" / "database_url").read_text(encoding="utf-8").strip()
            url = f"{url.rpartition('/')[0]}/{RESTORED}"
            write_secret(home, "database_url", url)
            tool("pg_restore", "--no-owner", "-d", url, dump)
            yield replace(stack, home=home, env=stack_environment(home), process=None, _client=None, _tokens={}), lost
        finally:
            connection.execute(drop)


@pytest.fixture
def gateway() -> Iterator[Callable[[Stack], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(stack: Stack) -> subprocess.Popen[bytes]:
        environment = {**stack.env, "DJANGO_SETTINGS_MODULE": "hoopweb.settings"}
        command = [sys.executable, str(PROJECT / "manage.py"), "rungateway", "--workers", "1"]
        started.append(subprocess.Popen(command, env=environment, cwd=PROJECT))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


def asked(stack: Stack, port: str, token: str) -> Any:
    """What an agent gets through the gateway on `port`; None while nothing listens there."""
    try:
        with psycopg.connect(
            host="127.0.0.1", port=port, dbname="clinic", user="demo-agent", password=token, sslmode="prefer"
        ) as connection:
            return connection.execute("select count(*) from patients").fetchone()
    except psycopg.OperationalError:
        return None


def test_a_restored_product_serves_and_its_log_is_signed_again(
    restored: tuple[Stack, int], gateway: Callable[[Stack], subprocess.Popen[bytes]], tmp_path: Path
):
    product, lost = restored
    key = ("--key", product.demo["audit_vkey"])
    refused = product.manage("audit_bundle", "-o", str(tmp_path / "damaged.bundle"))
    assert (refused.returncode, "truncated" in refused.stderr) == (1, True)

    done = product.manage("restore_log", "--reason", "the test lost its disk")
    assert done.returncode == 0, done.stderr
    assert f"checkpoint of {lost} entries" in done.stdout
    acceptance = done.stdout.rpartition("--accept-restoration ")[2].strip()

    assert product.manage("audit_check").returncode == 0
    gateway(product)
    token = product.new_agent_token()
    port = product.env["HOOPWEB_POSTGRES_PORT"]
    wait_until(lambda: asked(product, port, token) is not None, within_s=90, what="the restored gateway")
    exported = tmp_path / "restored.bundle"
    assert bundle(product, exported) > 0
    told = product.manage("audit_verify", str(exported), *key)
    assert (told.returncode, told.stdout.startswith("RESTORED: ")) == (1, True)
    notes = next((product.home / "anchors").iterdir())
    accepted = product.manage(
        "audit_verify", str(exported), *key, "--anchor", str(notes), "--accept-restoration", acceptance
    )
    assert accepted.returncode == 0, accepted.stdout
    assert "the test lost its disk" in accepted.stdout
