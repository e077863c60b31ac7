"""The commands against the running product, as a person types them: arguments, files, environment, exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from hoopweb.embedded.postgres import postgres_binaries
from tests.stack import PROJECT, Stack


@dataclass(frozen=True)
class Shell:
    """Somebody's machine: a configuration directory, and none of the product's own settings."""

    stack: Stack
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HOOPWEB_", "DJANGO_"))}
        return {
            **inherited,
            "XDG_CONFIG_HOME": str(self.directory),
            "PYTHONPATH": str(PROJECT),
            "PATH": f"{postgres_binaries()}:{inherited['PATH']}",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "hoopweb.cli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.directory,
        )

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(stdin, timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="module")
def shell(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The demo agent as the default profile, and a reviewer."""
    shell = Shell(stack, tmp_path_factory.mktemp("shell"))
    agent, server = stack.demo["agents"]["demo-agent"], stack.demo["web_url"]
    secret_file = shell.directory / "secret"
    secret_file.write_text(agent["client_secret"] + "\n", encoding="utf-8")
    signed_in = shell.run(
        "login", "--server", server, "--client-id", agent["client_id"], "--secret-file", str(secret_file)
    )
    assert signed_in.returncode == 0, signed_in.stderr
    token = stack.demo["users"]["reviewer"]["token"]
    reviewer = shell.run("--profile", "reviewer", "login", "--server", server, "--token-file", "-", stdin=token)
    assert reviewer.returncode == 0, reviewer.stderr
    return shell


def update(patient: int) -> str:
    """A write that is held, different with every run."""
    return f"update patients set phone = '({time.time_ns() % 900 + 100}) 555-01{patient}' where id = {patient}"


def held(process: subprocess.Popen[str]) -> str:
    """The review's id out of what a waiting command said first."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "this statement waits for approval (rule phi-writes): http" in line
    return line.rstrip().rstrip("/").rpartition("/")[2]


def test_login_keeps_a_private_token_and_no_secret(shell: Shell):
    kept = shell.directory / "hoopweb" / "default.json"

    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert shell.stack.demo["agents"]["demo-agent"]["client_secret"] not in kept.read_text(encoding="utf-8")
    assert json.loads(kept.read_text(encoding="utf-8"))["server"] == shell.stack.demo["web_url"]


def test_login_with_a_wrong_secret_keeps_nothing(shell: Shell):
    done = shell.run(
        "--profile", "stranger", "login", "--server", shell.stack.demo["web_url"],
        "--client-id", "no-such-agent", "--secret-file", "-", stdin="canary-5b1d",
    )  # fmt: skip

    assert done.returncode == 5
    assert "canary-5b1d" not in done.stdout + done.stderr
    assert not (shell.directory / "hoopweb" / "stranger.json").exists()
    assert shell.run("--profile", "stranger", "connections").returncode == 5


def test_an_expired_token_is_replaced_from_the_secret_file(shell: Shell):
    kept = shell.directory / "hoopweb" / "default.json"
    login = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps({**login, "expires_at": 1.0}), encoding="utf-8")

    done = shell.run("connections", "--format", "json")

    assert done.returncode == 0, done.stderr
    assert {"name": "clinic", "kind": "postgres", "phi": True, "operations": ["read", "write"]} in json.loads(
        done.stdout
    )
    assert json.loads(kept.read_text(encoding="utf-8"))["expires_at"] > time.time()


def test_query_shows_masked_rows(shell: Shell):
    with shell.stack.direct() as direct:
        row = direct.execute("select state, ssn from patients where id = 5").fetchone()
    assert row is not None

    done = shell.run(
        "query", "clinic", "-", "-p", "5", "--format", "csv", stdin="select state, ssn from patients where id = $1"
    )

    assert done.returncode == 0, done.stderr
    assert list(csv.reader(io.StringIO(done.stdout))) == [["state", "ssn"], [row[0], "[REDACTED]"]]
    assert "ssn (ssn)" in done.stderr
    assert row[1] not in done.stdout + done.stderr


def test_query_that_is_denied_has_its_own_status_and_says_what_is_allowed(shell: Shell):
    done = shell.run("query", "clinic", "drop table patients")

    assert done.returncode == 3
    assert done.stdout == ""
    assert "denied: no access rule gives demo-agent ddl statements" in done.stderr
    assert "rule: access" in done.stderr
    assert "permitted: on connection clinic you may run read, write statements" in done.stderr


def test_query_the_database_refuses_fails_otherwise(shell: Shell):
    assert shell.run("query", "clinic", "selec 1").returncode == 1


def test_held_query_completes_once_a_reviewer_approves(shell: Shell):
    statement = update(21)
    process = shell.start("query", "clinic", statement)
    review = held(process)

    listed = shell.run("--profile", "reviewer", "reviews", "list", "--format", "json")
    seen = shell.run("--profile", "reviewer", "reviews", "show", review)
    approved = shell.run("--profile", "reviewer", "reviews", "approve", review, "--reason", "checked by phone")
    out, err = process.communicate(timeout=120)

    assert review in [entry["id"] for entry in json.loads(listed.stdout)]
    assert statement in seen.stdout
    assert approved.returncode == 0, approved.stderr
    assert process.returncode == 0, err
    assert (out, "UPDATE 1" in err) == ("", True)
    with shell.stack.direct() as direct:
        row = direct.execute("select phone from patients where id = 21").fetchone()
    assert row is not None
    assert row[0] in statement


def test_held_query_may_be_left_and_its_denial_fetched_later(shell: Shell):
    left = shell.run("query", "clinic", update(22), "--wait", "0")
    later = left.stderr.rpartition("hoopweb result ")[2].split()[0]
    review = left.stderr.splitlines()[0].rstrip("/").rpartition("/")[2]

    denied = shell.run("--profile", "reviewer", "reviews", "deny", review, "--reason", "not this patient")
    fetched = shell.run("result", later)

    assert left.returncode == 4
    assert denied.returncode == 0, denied.stderr
    assert fetched.returncode == 3
    assert "a reviewer denied this statement: not this patient" in fetched.stderr


def test_an_agent_does_not_decide(shell: Shell):
    left = shell.run("query", "clinic", update(23), "--wait", "0")
    review = left.stderr.splitlines()[0].rstrip("/").rpartition("/")[2]

    tried = shell.run("reviews", "approve", review, "--reason", "myself")

    assert tried.returncode == 3
    assert "agents neither read nor decide" in tried.stderr


def test_explain_runs_nothing_and_names_masks(shell: Shell):
    done = shell.run("explain", "clinic", "select ssn from patients where ssn like '9%' limit 3")

    assert done.returncode == 0, done.stderr
    assert "require_approval" in done.stdout
    assert "drop the comparison on the protected column" in done.stdout
    assert "masked  ssn by ssn (redact)" in done.stdout


def test_connect_runs_psql_with_a_ticket_of_its_own(shell: Shell):
    port = str(shell.stack.demo["postgres"]["port"])
    sql = "select ssn from patients where id = 5"

    first, second = (shell.run("connect", "--port", port, "clinic", "--", "-XAtc", sql) for _ in range(2))

    assert (first.returncode, first.stdout) == (0, "[REDACTED]\n"), first.stderr
    assert (second.returncode, second.stdout) == (0, "[REDACTED]\n"), second.stderr


def test_the_ticket_psql_got_is_used_up(shell: Shell):
    port = str(shell.stack.demo["postgres"]["port"])

    done = shell.run("connect", "--port", port, "clinic", "-XAt", "-c", "select 1", "-c", r"\! psql -wXAtc 'select 2'")

    assert done.stdout == "1\n"
    assert "FATAL" in done.stderr


def test_sessions_are_listed_and_a_live_one_is_ended(shell: Shell):
    with shell.stack.connect() as connection:
        connection.execute("select 1")
        live = shell.run("sessions", "list", "--live", "--connection", "clinic", "--format", "json")
        newest = json.loads(live.stdout)[0]
        killed = shell.run("sessions", "kill", newest["id"])

    assert (newest["subject"], newest["protocol"]) == ("demo-agent", "postgres")
    assert killed.returncode == 0, killed.stderr
    assert newest["id"] in killed.stdout


def test_names_that_look_like_paths_reach_no_other_address(shell: Shell):
    done = shell.run("query", "../tickets", "select 1")

    assert done.returncode == 1
    assert done.stdout == ""
