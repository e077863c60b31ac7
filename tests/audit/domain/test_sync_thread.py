"""The thread that syncs on order, compiled and interpreted: what it answers, and that nobody has to wait with it."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.domain.sync_thread import SyncThread, SyncThreadPython

MAKES = [SyncThreadPython] if SyncThread is SyncThreadPython else [SyncThreadPython, SyncThread]


@pytest.fixture(params=MAKES, ids=lambda make: make.__module__.rsplit(".", 1)[-1])
def thread(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


def outcome(thread: Any) -> int:
    assert select.select([thread.answers], [], [], 10)[0], "no answer"
    return int(thread.outcome())


def test_what_is_ordered_is_answered_once(thread: Any, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        for _ in range(3):
            file.write(b"x" * 5000)
            thread.order(file.fileno())
            assert outcome(thread) == 0
            with pytest.raises(BlockingIOError):
                thread.outcome()


def test_sync_that_fails_says_why(thread: Any) -> None:
    with Path(os.devnull).open("wb") as file:  # takes every write, and has no disk
        thread.order(file.fileno())

        assert outcome(thread) == errno.EINVAL


def test_file_that_is_not_open_is_no_success(thread: Any) -> None:
    thread.order(900_000)

    assert outcome(thread) == errno.EBADF


def test_second_order_waits_for_the_first_answer(thread: Any, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        thread.order(file.fileno())
        with pytest.raises(RuntimeError):
            thread.order(file.fileno())
        outcome(thread)
        thread.order(file.fileno())
        assert outcome(thread) == 0
        with pytest.raises(RuntimeError):
            thread.order(-1)


def held() -> tuple[set[str], int]:
    """This process's threads, and how many files it has."""
    return set(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def nothing_new_since(before: tuple[set[str], int]) -> bool:
    """A thread that was joined is listed until the kernel has buried it; so may be one of an earlier test."""
    deadline = time.monotonic() + 60
    while not (gone := held()[0] <= before[0] and held()[1] <= before[1]) and time.monotonic() < deadline:
        time.sleep(0.001)
    return gone


@pytest.mark.parametrize("make", MAKES)
def test_it_ends_with_its_file_numbers(make: Any) -> None:
    before = held()
    made = make()
    assert len(held()[0] - before[0]) == 1

    made.close()
    made.close()
    with pytest.raises(RuntimeError):
        made.order(1)

    assert nothing_new_since(before)


@pytest.mark.skipif(SyncThread is SyncThreadPython, reason="nobody compiled it")
def test_compiled_one_ends_when_it_is_forgotten() -> None:
    before = held()

    made = SyncThread()
    del made

    assert nothing_new_since(before)


@pytest.mark.skipif(SyncThread is SyncThreadPython, reason="nobody compiled it")
def test_compiled_one_answers_while_the_interpreter_is_held(tmp_path: Path) -> None:
    """The control: the interpreted one often cannot, unless it is given the lock while it is ordered to."""
    switch, answered = sys.getswitchinterval(), {make: set[bool]() for make in MAKES}
    sys.setswitchinterval(30)  # nobody is asked for the lock
    try:
        for make in MAKES * 5:
            made = make()
            with (tmp_path / "file").open("wb") as file:
                time.sleep(0.05)  # the thread waits for its order
                made.order(file.fileno())
                answered[make].add(_answered_while_held(made, within_ms=60_000 if make is SyncThread else 300))
                outcome(made)
            made.close()
    finally:
        sys.setswitchinterval(switch)

    assert False in answered[SyncThreadPython]
    assert answered[SyncThread] == {True}


class _Polled(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


def _answered_while_held(made: Any, *, within_ms: int) -> bool:
    """Whether an answer came while the lock was never let go of: a function that is called this way keeps it."""
    polled = _Polled(made.answers, select.POLLIN, 0)
    return bool(ctypes.PyDLL(None).poll(ctypes.byref(polled), 1, within_ms))


_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Says "<" to the log, waits while the file HELD is there, fails while FAILS is, and says ">" when it is done. */
int fdatasync(int file) {
    int log = open(getenv("SYNC_LOG"), O_WRONLY | O_APPEND);
    write(log, "<", 1);
    while (access(getenv("SYNC_HELD"), F_OK) == 0) usleep(1000);
    int failed = access(getenv("SYNC_FAILS"), F_OK) == 0;
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    int done = failed ? -1 : real(file);
    write(log, failed ? "!" : ">", 1);
    close(log);
    if (failed) errno = EIO;
    return done;
}
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("a C compiler is missing")
    there = tmp_path_factory.mktemp("shim")
    (there / "shim.c").write_text(_SHIM, encoding="ascii")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", there / "shim.so", there / "shim.c", "-ldl"], check=True)
    return there / "shim.so"


_HELD = """
import asyncio, sys
from pathlib import Path
from audit.domain.journal import Journal
import audit.shared_sync
from audit.domain.sync_thread import SyncThreadPython
if sys.argv[2] == "interpreted":
    audit.shared_sync.SyncThread = SyncThreadPython
root, held, fails, log = (Path(sys.argv[1]) / name for name in ("journal", "held", "fails", "log"))

async def reached(sync):
    told = asyncio.get_running_loop().create_future()
    sync.when_reached(told.set_result)
    return await told

async def main():
    journal = Journal(root, journal_id="j" * 36, key=bytes(32), key_id=bytes(8))
    sync = audit.shared_sync.SharedSync(journal)
    journal.append(b"zero")
    assert await reached(sync)  # the first is of a segment whose name has to be on the disk as well
    log.write_bytes(b"")
    held.touch()
    journal.append(b"first")
    first = asyncio.create_task(reached(sync))
    while log.read_bytes() != b"<":
        await asyncio.sleep(0.001)
    others = []
    for number in range(5):
        journal.append(b"other")
        others.append(asyncio.create_task(reached(sync)))
    await asyncio.sleep(0.2)  # and the loop goes on meanwhile
    assert not first.done() and not any(other.done() for other in others) and log.read_bytes() == b"<"
    held.unlink()
    assert await first
    assert all([await other for other in others])
    assert log.read_bytes() == b"<><>", log.read_bytes()  # one for all who came meanwhile
    fails.touch()
    journal.append(b"lost")
    assert not await reached(sync)
    fails.unlink()
    journal.append(b"after")
    assert not await reached(sync)
    assert log.read_bytes() == b"<><><!", log.read_bytes()  # and none is tried again
    await sync.close()
    print("as it should")

asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["interpreted", "compiled"])
def test_nobody_is_told_before_the_disk_has_it(tmp_path: Path, shim: Path, way: str) -> None:
    """On a disk that is slow, and one that fails once: seen from below, whoever calls `fdatasync`."""
    (tmp_path / "log").touch()
    (tmp_path / "journal").mkdir()
    env = {**os.environ, "LD_PRELOAD": str(shim)}
    env |= {f"SYNC_{name.upper()}": str(tmp_path / name) for name in ("log", "held", "fails")}

    done = subprocess.run(
        [sys.executable, "-c", _HELD, str(tmp_path), way], env=env, capture_output=True, text=True, timeout=120,
        check=False, cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip

    assert (done.stdout.strip(), done.returncode) == ("as it should", 0), done.stderr
    assert done.stderr.splitlines() == ["journal not synced: error=EIO", "journal not synced: error=OSError"]
