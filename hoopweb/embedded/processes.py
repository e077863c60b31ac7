"""The supervisor: starts programs, reads their output, brings them back after a crash, stops them in order.

Every program leads a session (and process group) of its own, so that a Ctrl-C reaches only the supervisor, and is
leashed to it by the kernel (`Command.death_signal`), so that not even kill -9 of the supervisor leaves one behind.
Programs must be started from the main thread: the leash is tied to the thread that forked (prctl(2)).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from hoopweb.embedded.command import Command
from hoopweb.embedded.files import write_whole
from hoopweb.embedded.output import Output
from hoopweb.embedded.problem import StackProblem

_FIRST_DELAY_S, _LAST_DELAY_S = 0.5, 10.0
_STEADY_S = 30.0  # up for this long: the next crash is a new story and the delay starts small again
_MAX_LINE = 65_536
_KILLED_WITHIN_S = 5.0


class Supervisor:
    """`pids` is kept as a file of {name: pid} for people and tests."""

    def __init__(self, *, output: Output, pids: Path) -> None:
        self._output = output
        self._pids_file = pids
        self._services: list[_Service] = []
        self._stopping = False
        self._hurry = asyncio.Event()

    def start(self, command: Command) -> None:
        """Keep this program running until `stop`."""
        service = _Service(command)
        service.task = asyncio.create_task(self._keep(service), name=command.name)
        self._services.append(service)

    async def run(self, command: Command) -> int:
        """Run a program to its end and return its status; cancelled, it is killed."""
        process = await self._spawn(command)
        try:
            await self._relay(command, process)
            return await process.wait()
        finally:
            _kill_group(process)

    def restarts(self, name: str) -> int:
        """How often a program had to be brought back."""
        return sum(service.restarts for service in self._services if service.command.name == name)

    def check(self) -> None:
        """Raise what made a program impossible to start at all."""
        for service in self._services:
            if service.task is not None and service.task.done() and not service.task.cancelled():
                service.task.result()

    def hurry(self) -> None:
        """Stop without waiting for anybody's good manners (a second Ctrl-C)."""
        self._hurry.set()

    async def stop(self, order: Sequence[Sequence[str]]) -> None:
        """Stop everything: the named groups one after the other, what is in no group last."""
        self._stopping = True
        named = {name for group in order for name in group}
        rest = [service.command.name for service in self._services if service.command.name not in named]
        for group in [*order, rest]:
            services = [service for service in self._services if service.command.name in group]
            await asyncio.gather(*(self._stop_one(service) for service in services))
        self._pids_file.unlink(missing_ok=True)

    async def _keep(self, service: _Service) -> None:
        delay = _FIRST_DELAY_S
        while not self._stopping:
            started = time.monotonic()
            process = service.process = await self._spawn(service.command)
            self._write_pids()
            await self._relay(service.command, process)
            status = await process.wait()
            _kill_group(process)  # its own children must not outlive it
            if self._stopping:
                return
            delay = _FIRST_DELAY_S if time.monotonic() - started > _STEADY_S else delay
            self._output.line("hoopweb", f"{service.command.name} {_ending(status)}, starting it again in {delay:g} s")
            service.restarts += 1
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LAST_DELAY_S)

    async def _spawn(self, command: Command) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(*command.argv, limit=_MAX_LINE, **command.start_options())
        except OSError as error:
            raise StackProblem(f"{command.name} cannot be started: {error.strerror} ({command.argv[0]})") from None

    async def _relay(self, command: Command, process: asyncio.subprocess.Process) -> None:
        """Copy output line by line until the program closes it."""
        reading = asyncio.create_task(self._copy_lines(command.name, process))
        waiting = asyncio.create_task(process.wait())
        try:
            await waiting
            await asyncio.wait({reading}, timeout=1.0)  # a grandchild may hold the pipe open
        finally:
            waiting.cancel()
            reading.cancel()

    async def _copy_lines(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the limit: readline has dropped what it held
                continue
            if not line:
                return
            self._output.line(name, line.decode("utf-8", "replace").rstrip("\n"))

    async def _stop_one(self, service: _Service) -> None:
        process = service.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(service.command.stop_signal)
            if not await self._ended_within(process, service.command.stop_timeout_s):
                self._output.line("hoopweb", f"{service.command.name} did not stop in time and was killed")
                _kill_descendants(process.pid)
                _kill_group(process)
                # `wait` also waits for the pipe, which one that got away would keep open.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _KILLED_WITHIN_S)
        if process is not None:
            _kill_group(process)
        if service.task is not None:
            service.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, StackProblem):
                await service.task

    async def _ended_within(self, process: asyncio.subprocess.Process, timeout_s: float) -> bool:
        ended, hurry = asyncio.create_task(process.wait()), asyncio.create_task(self._hurry.wait())
        done, pending = await asyncio.wait({ended, hurry}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return ended in done

    def _write_pids(self) -> None:
        pids = {service.command.name: service.process.pid for service in self._services if service.process}
        try:
            write_whole(self._pids_file, json.dumps(pids))
        except OSError as error:  # a full disk: the programs are kept running all the same
            self._output.line("hoopweb", f"{self._pids_file.name} not written: {error.strerror}")


class _Service:
    """A program that is kept running."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.process: asyncio.subprocess.Process | None = None
        self.task: asyncio.Task[None] | None = None
        self.restarts = 0


def _kill_descendants(pid: int) -> None:
    """Kill what the program started and what that started, in sessions of their own too, as PostgreSQL's backends are.

    Where the kernel tells no children (/proc/PID/task/TID/children), none.
    """
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # ended meanwhile
            for child in map(int, listing.read_text(encoding="ascii").split()):
                _kill_descendants(child)
                os.kill(child, signal.SIGKILL)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill whatever is left of the program's process group, the program included."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _ending(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
