"""The supervisor: nothing it started outlives it, whatever the programs and the operator do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hoopweb.embedded.command import Command
from hoopweb.embedded.output import Output
from hoopweb.embedded.processes import Supervisor

PROJECT = Path(__file__).resolve().parents[3]
# Ignores SIGTERM and has a child that does so too.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", deaf])
print("child", child.pid, flush=True)
time.sleep(600)
"""


def python(name: str, source: str, *, stop_timeout_s: float = 5.0) -> Command:
    return Command(name=name, argv=[sys.executable, "-c", source], stop_timeout_s=stop_timeout_s)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def supervisor(tmp_path: Path, log: Path) -> Supervisor:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    return Supervisor(output=Output(descriptor=descriptor), pids=tmp_path / "pids.json")


async def test_what_programs_write_is_theirs_alone_to_read(supervisor: Supervisor, tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    source = f"import pathlib; p = pathlib.Path({str(mail)!r}); p.mkdir(); (p / 'one').write_text('link')"
    await supervisor.run(python("writer", source))

    assert [oct(path.stat().st_mode & 0o777) for path in (mail, mail / "one")] == ["0o700", "0o600"]


async def eventually(check: Callable[[], object], *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def text(log: Path) -> str:
    return log.read_text(encoding="utf-8")


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid_after(word: str, log: Path) -> int:
    return int(text(log).split(f"{word} ")[1].split()[0])


async def test_supervisor_prefixes_every_line_with_its_program(supervisor: Supervisor, log: Path) -> None:
    status = await supervisor.run(
        python("hello", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    )

    assert status == 3
    await eventually(lambda: len(text(log).splitlines()) == 2)
    assert sorted(text(log).splitlines()) == ["hello     | err", "hello     | out"]


async def test_supervisor_brings_a_killed_program_back(supervisor: Supervisor, log: Path) -> None:
    supervisor.start(python("phoenix", "import os, time; print('up', os.getpid(), flush=True); time.sleep(600)"))
    await eventually(lambda: "up " in text(log))

    os.kill(pid_after("up", log), signal.SIGKILL)
    await eventually(lambda: text(log).count("up ") == 2)

    assert "phoenix was ended by SIGKILL, starting it again in 0.5 s" in text(log)
    await supervisor.stop([])


async def test_supervisor_that_cannot_write_which_programs_run_keeps_them_running(tmp_path: Path, log: Path) -> None:
    output = Output(descriptor=os.open(log, os.O_WRONLY | os.O_CREAT))
    supervisor = Supervisor(output=output, pids=tmp_path / "missing" / "pids.json")
    supervisor.start(python("one", "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"))
    await eventually(lambda: "pid " in text(log))

    os.kill(pid_after("pid", log), signal.SIGKILL)

    await eventually(lambda: text(log).count("pid ") == 2)
    supervisor.check()
    await supervisor.stop([])


async def test_supervisor_waits_longer_after_every_crash(supervisor: Supervisor, log: Path) -> None:
    supervisor.start(python("broken", "raise SystemExit(7)"))

    await eventually(lambda: "again in 2 s" in text(log))
    await supervisor.stop([])

    assert [line.split("in ")[-1] for line in text(log).splitlines()] == ["0.5 s", "1 s", "2 s"]


async def test_stop_goes_in_order(supervisor: Supervisor, log: Path) -> None:
    source = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(print('{0} ends'))); "
        "print('{0} up', flush=True)"
    )
    for name in ("first", "second", "third"):
        supervisor.start(python(name, source.format(name) + "; time.sleep(600)"))
    await eventually(lambda: text(log).count(" up") == 3)

    await supervisor.stop([("second",), ("third",)])

    await eventually(lambda: text(log).count(" ends") == 3)
    assert [line.split("| ")[1] for line in text(log).splitlines()[3:]] == ["second ends", "third ends", "first ends"]


async def test_stop_kills_what_hangs_and_its_children(supervisor: Supervisor, log: Path) -> None:
    supervisor.start(python("stubborn", STUBBORN, stop_timeout_s=0.5))
    await eventually(lambda: "child " in text(log))
    child = pid_after("child", log)

    await supervisor.stop([])

    await eventually(lambda: "stubborn did not stop in time and was killed" in text(log))  # written by a thread
    await eventually(lambda: not alive(child))


async def test_stop_kills_children_with_sessions_of_their_own(supervisor: Supervisor, log: Path) -> None:
    """As PostgreSQL's backends have, which may compute on when their server is killed, and keep its output open."""
    supervisor.start(
        python("stubborn", STUBBORN.replace("deaf])", "deaf], start_new_session=True)"), stop_timeout_s=0.5)
    )
    await eventually(lambda: "child " in text(log))
    child = pid_after("child", log)

    await asyncio.wait_for(supervisor.stop([]), 20)

    await eventually(lambda: not alive(child))


async def test_hurry_does_not_wait_for_manners(supervisor: Supervisor, log: Path) -> None:
    supervisor.start(python("stubborn", STUBBORN, stop_timeout_s=600))
    await eventually(lambda: "child " in text(log))

    stopping = asyncio.create_task(supervisor.stop([]))
    await asyncio.sleep(0.1)
    supervisor.hurry()

    await asyncio.wait_for(stopping, timeout=10)


async def test_long_lines_do_not_stop_the_log(supervisor: Supervisor, log: Path) -> None:
    await supervisor.run(python("loud", "print('x' * 300_000); print('after')"))

    await eventually(lambda: "loud      | after" in text(log))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's leash is Linux's")
def test_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    source = f"""
import asyncio, sys
sys.path.insert(0, {str(PROJECT)!r})
from pathlib import Path
from hoopweb.embedded.command import Command
from hoopweb.embedded.output import Output
from hoopweb.embedded.processes import Supervisor
async def main():
    supervisor = Supervisor(output=Output(), pids=Path({str(tmp_path / "pids.json")!r}))
    sleeper = "import os, time; print('up', os.getpid(), flush=True); time.sleep(600)"
    supervisor.start(Command(name="sleeper", argv=[sys.executable, "-c", sleeper]))
    await asyncio.sleep(600)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    sleeper = int(process.stdout.readline().split()[-1])

    process.kill()
    process.wait()

    deadline = time.monotonic() + 60
    while alive(sleeper):
        assert time.monotonic() < deadline, "the program outlived its supervisor"
        time.sleep(0.02)


def test_output_survives_a_reader_that_left_and_one_that_never_reads() -> None:
    gone_reader, gone_writer = os.pipe()
    os.close(gone_reader)
    gone = Output(descriptor=gone_writer)
    _, deaf_writer = os.pipe()
    deaf = Output(descriptor=deaf_writer)

    started = time.monotonic()
    for _ in range(20_000):
        gone.line("a", "x" * 100)
        deaf.line("b", "x" * 100)

    assert time.monotonic() - started < 30  # nobody waited for either


async def test_output_goes_on_once_a_full_disk_has_room_again(log: Path) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    output = Output(descriptor=descriptor)
    for word in ("first", "second"):  # once the last one is taken up, the others were refused
        output.line("a", word)
    await eventually(lambda: output._lines.empty() or not output._thread.is_alive())

    room = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(room, descriptor)
    for word in ("third", "fourth"):
        output.line("a", word)

    await eventually(lambda: "fourth" in text(log))
    output.close()
    assert "first" not in text(log)
    assert "lines lost" in text(log)
    assert [line for line in text(log).splitlines() if line.endswith("fourth")] == ["a         | fourth"]
