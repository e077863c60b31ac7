"""`make run` as its user meets it: refusals in one sentence, a second copy, crashes, and a stop that leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from hoopweb.embedded import configuration
from hoopweb.embedded.configuration import Configuration, require_room
from hoopweb.embedded.ports import free_port
from hoopweb.embedded.problem import StackProblem
from tests.stack import PROJECT, Stack, running_stack, stack_environment, start_stack

PROGRAMS = {"postgres", "redis", "web", "gateway", "worker", "evidence", "scheduler"}


def run_embedded(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hoopweb.embedded"], env=env, cwd=PROJECT, capture_output=True, text=True, timeout=120
    )


def eventually(check: Callable[[], object], *, within_s: float = 90.0) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if _is_alive(one)]


def _is_alive(one: psutil.Process) -> bool:
    try:
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the one question and the other
        return False


@pytest.fixture
def home() -> Iterator[Path]:
    """Not tmp_path: below that, another account could not reach a directory."""
    directory = Path(tempfile.mkdtemp(prefix="hoopweb-home-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("variable", ["HOOPWEB_WEB_PORT", "HOOPWEB_POSTGRES_PORT", "HOOPWEB_HTTP_PORT"])
def test_taken_port_is_one_sentence_and_a_failure(home: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_embedded(stack_environment(home, **{variable: port}))

    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert f"port {port} " in sentence
    assert variable in sentence
    assert not (home / "postgres").exists()


def test_malformed_variable_is_one_sentence_and_a_failure(home: Path) -> None:
    done = run_embedded(stack_environment(home, HOOPWEB_WEB_PORT="many"))

    assert done.returncode == 1
    assert done.stderr.splitlines() == ["hoopweb: HOOPWEB_WEB_PORT is 'many', expected a whole number"]


def test_unwritable_home_is_one_sentence_and_a_failure() -> None:
    done = run_embedded(stack_environment(Path("/proc/hoopweb")))

    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("hoopweb: /proc/hoopweb cannot be written")


def test_full_disk_is_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Configuration(
        home=home, web_port=free_port(), postgres_port=free_port(), http_port=free_port(), database_url="", redis_url=""
    )
    require_room(asked)

    monkeypatch.setattr(configuration, "_NEEDED_BYTES", 2**70)

    with pytest.raises(StackProblem, match=r"^only \d+ MB are free in .*: make room or set HOOPWEB_HOME"):
        require_room(asked)


def test_starting_twice_says_so_and_harms_nothing(stack: Stack) -> None:
    before = stack.pids()

    done = run_embedded(stack.env)

    assert done.returncode == 0
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"hoopweb: hoopweb already runs from {stack.home} (process ")
    assert stack.pids() == before
    assert stack.healthz() == 200


def test_demo_json_is_private_and_complete(stack: Stack) -> None:
    demo = stack.demo

    assert stat.S_IMODE((stack.home / "demo.json").stat().st_mode) == 0o600
    assert set(demo) == {
        *("web_url", "http_url", "postgres", "users", "agents", "upstream", "control_dsn", "audit_vkey"),
    }
    assert set(demo["users"]) == {"admin", "reviewer", "reviewer2", "auditor"}
    assert all(set(user) == {"username", "password", "token"} for user in demo["users"].values())
    assert set(demo["postgres"]) == {"host", "port", "sslmode", "ca_file"}
    assert set(demo["upstream"]) == {"host", "port", "database", "username", "password"}
    assert "client_id" in demo["agents"]["demo-agent"]


def test_secrets_are_private_and_never_logged(stack: Stack) -> None:
    log = stack.log_path.read_text(encoding="utf-8", errors="replace")
    # The guide shows the two passwords a person needs to sign in; nothing else secret may be there.
    shown = {"user_admin_password", "user_reviewer_password"}

    for path in (stack.home / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.name in shown or path.read_text(encoding="utf-8") not in log, path.name


def test_gateway_role_owns_nothing_and_is_nobody_special(stack: Stack) -> None:
    with stack.direct() as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, "
            "EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid AND relkind = 'r') "
            "FROM pg_roles WHERE rolname = current_user"
        ).fetchone()

    assert row == (False, False, False, False, False, False)


@pytest.fixture(scope="module")
def copy(stack: Stack) -> Iterator[Stack]:
    """A second copy beside the session's, with its own home and ports."""
    directory = Path(tempfile.mkdtemp(prefix="hoopweb-copy-"))
    directory.chmod(0o755)
    second = start_stack(directory)
    yield second
    if second.process is not None and second.process.poll() is None:
        second.stop()
    second.remove()
    shutil.rmtree(directory, ignore_errors=True)


def test_second_copy_runs_beside_the_first(stack: Stack, copy: Stack) -> None:
    assert set(copy.pids()) == PROGRAMS
    assert not set(copy.pids().values()) & set(stack.pids().values())
    assert (stack.healthz(), copy.healthz()) == (200, 200)
    assert copy.demo["audit_vkey"] != stack.demo["audit_vkey"]
    assert copy.demo["upstream"]["port"] != stack.demo["upstream"]["port"]


@pytest.mark.parametrize("program", ["gateway", "web", "worker", "redis", "postgres"])
@pytest.mark.by_turns(2)
def test_killed_program_comes_back_by_itself(copy: Stack, program: str) -> None:
    before = copy.pids()[program]

    os.kill(before, signal.SIGKILL)
    eventually(lambda: copy.pids()[program] != before)

    copy.wait_healthy()


def demo_is_there_once_healthy(stack: Stack) -> bool:
    """As somebody who has only the contract: ask until 200, then read demo.json."""
    eventually(lambda: stack.healthz() == 200)
    return (stack.home / "demo.json").exists()


def test_stop_leaves_nothing_and_a_restart_keeps_everything(copy: Stack) -> None:
    assert copy.process is not None
    processes = family(psutil.Process(copy.process.pid))
    demo = copy.demo
    with copy.direct() as connection:
        connection.execute("UPDATE patients SET city = 'Elsewhere' WHERE id = 1")

    status = copy.stop(signal.SIGINT)

    assert status == 0
    assert len(processes) > len(PROGRAMS)
    eventually(lambda: not alive(processes), within_s=30)
    assert not (copy.home / "demo.json").exists()
    assert copy.healthz() == 0

    with ThreadPoolExecutor(1) as beside:
        told = beside.submit(demo_is_there_once_healthy, copy)
        copy.process = start_stack(copy.home, **ports_of(copy)).process
    assert told.result()
    with copy.direct() as connection:
        assert connection.execute("SELECT city, count(*) OVER () FROM patients WHERE id = 1").fetchone() == (
            "Elsewhere",
            1,
        )
    assert passwords(copy.demo) == passwords(demo)
    assert copy.demo["audit_vkey"] == demo["audit_vkey"]
    assert copy.demo["agents"] == demo["agents"]


def test_killed_supervisor_leaves_nothing(copy: Stack) -> None:
    assert copy.process is not None
    processes = family(psutil.Process(copy.process.pid))

    copy.process.kill()
    copy.process.wait()

    eventually(lambda: not alive(processes), within_s=60)


def test_running_stack_reads_its_ports_from_demo_json(stack: Stack) -> None:
    found = running_stack(stack.home)

    assert found.demo == stack.demo
    assert found.env["HOOPWEB_WEB_PORT"] == stack.env["HOOPWEB_WEB_PORT"]
    assert json.loads((stack.home / "ports.json").read_text(encoding="utf-8")).keys() == {"postgres", "redis"}


def ports_of(stack: Stack) -> dict[str, str]:
    return {name: value for name, value in stack.env.items() if name.endswith("_PORT")}


def passwords(demo: dict[str, dict[str, dict[str, str]]]) -> dict[str, str]:
    return {name: user["password"] for name, user in demo["users"].items()}
