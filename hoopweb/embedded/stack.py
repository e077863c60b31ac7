"""From an empty directory to a running product, and back to nothing: the sequence behind `make run`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial

import httpx

from hoopweb.embedded import bigquery_demo, postgres, redis
from hoopweb.embedded.account import server_account
from hoopweb.embedded.bigquery_emulator import ensure_emulator
from hoopweb.embedded.command import Command
from hoopweb.embedded.configuration import Configuration, require_room
from hoopweb.embedded.guide import guide
from hoopweb.embedded.output import Output
from hoopweb.embedded.ports import remembered_port
from hoopweb.embedded.problem import StackProblem
from hoopweb.embedded.processes import Supervisor
from hoopweb.embedded.programs import SERVICES, demo_command, manage_command, service_commands
from hoopweb.embedded.secrets import ensure_secrets

Work = Callable[[Configuration, Supervisor, Output], Coroutine[None, None, None]]

_READY_WITHIN_S = 120.0
_CRASHES_BEFORE_READY = 4
_HELD_BACK = "demo"  # `hoopweb.health.DEMO_PART`, which needs Django's settings to be imported
_REFRESH_S = 6 * 3600  # the demo's tokens live twelve hours; demo.json is written anew well before
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_stack(configuration: Configuration, output: Output) -> None:
    """Start everything, stay until told to stop, stop everything. Raises StackProblem when it cannot start."""
    await _supervised(_run, configuration, output)


async def prepare_home(configuration: Configuration, output: Output) -> None:
    """Do all that a first start does before its programs, then stop: the next start, or a copy's, takes seconds."""
    await _supervised(_prepare, configuration, output)


async def _supervised(work: Work, configuration: Configuration, output: Output) -> None:
    _forget_demo(configuration)
    require_room(configuration)
    supervisor = Supervisor(output=output, pids=configuration.home / "pids.json")
    running = asyncio.create_task(work(configuration, supervisor, output))
    stop = _stop_on_signals(supervisor)
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            output.line("hoopweb", "stopping")
            running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        waiting.cancel()
        _forget_demo(configuration)
        await supervisor.stop([SERVICES, ("redis",), ("postgres",)])
        output.line("hoopweb", "everything is stopped")


async def _prepare(configuration: Configuration, supervisor: Supervisor, output: Output) -> None:
    say = partial(output.line, "hoopweb")
    ensure_secrets(configuration.home)
    await _start_postgres(configuration, supervisor, say)
    await _start_redis(configuration, supervisor, say)
    say("migrating the control database and loading the demo")
    demo = demo_command(configuration, migrate=True)
    await _must_succeed(supervisor, demo, "the control database could not be migrated, or the demo not loaded")


async def _run(configuration: Configuration, supervisor: Supervisor, output: Output) -> None:
    say = partial(output.line, "hoopweb")
    started = time.monotonic()
    await _prepare(configuration, supervisor, output)
    for command in service_commands(configuration):
        say(f"starting {command.name}")
        supervisor.start(command)
    await _until_healthy(configuration, supervisor)
    if configuration.bigquery:
        await _start_warehouse(configuration, supervisor, say)
    _publish_demo(configuration)
    say(f"ready after {time.monotonic() - started:.0f} s")
    output.text(guide(configuration))
    while True:
        await asyncio.sleep(_REFRESH_S)
        if await supervisor.run(demo_command(configuration)) == 0:
            _publish_demo(configuration)


async def _start_postgres(configuration: Configuration, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    """The embedded PostgreSQL always runs: it holds the clinic even where the control database is elsewhere."""
    say("starting PostgreSQL")
    home = configuration.home
    server = postgres.prepare_postgres(home=home, port=remembered_port(home, "postgres"), account=server_account())
    supervisor.start(server.command())
    await _until(lambda: postgres.accepts_login(server), supervisor, "postgres")
    if not configuration.database_url:
        postgres.provision_control(server)
    postgres.provision_clinic(server)


async def _start_redis(configuration: Configuration, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    if configuration.redis_url:
        return
    say("starting Redis")
    home = configuration.home
    server = redis.prepare_redis(home=home, port=remembered_port(home, "redis"), account=server_account())
    supervisor.start(server.command())
    await _until(lambda: redis.answers(server.url), supervisor, "redis")


async def _start_warehouse(configuration: Configuration, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    """The emulator and its clinic, then the rules of the connection `warehouse`."""
    say("starting the BigQuery emulator (its environment is made once)")
    await asyncio.to_thread(ensure_emulator)
    warehouse = await asyncio.to_thread(bigquery_demo.prepare_warehouse, configuration.home)
    supervisor.start(warehouse.command)
    await _until(lambda: bigquery_demo.answers(warehouse.url), supervisor, "bigquery")
    apply = manage_command(configuration, "warehouse", "apply", "-f", str(warehouse.rules), "--as", "admin")
    await _must_succeed(supervisor, apply, "the warehouse's rules could not be applied")


async def _must_succeed(supervisor: Supervisor, command: Command, problem: str) -> None:
    status = await supervisor.run(command)
    if status != 0:
        raise StackProblem(f"{problem} (status {status}, see the lines above)")


async def _until(check: Callable[[], bool], supervisor: Supervisor, name: str) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while not await asyncio.to_thread(check):
        _require_progress(supervisor, [name], deadline, name)
        await asyncio.sleep(0.1)


async def _until_healthy(configuration: Configuration, supervisor: Supervisor) -> None:
    """Return when /healthz misses nothing but demo.json, which is told next; give up when a program keeps crashing or
    time is over."""
    deadline = time.monotonic() + _READY_WITHIN_S
    failing = "web"
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                answer = await client.get(f"{configuration.web_url}/healthz")
                parts = answer.json().get("failing", [])
                if answer.status_code == httpx.codes.OK or parts == [_HELD_BACK]:
                    return
                failing = ", ".join(parts) or failing
            _require_progress(supervisor, SERVICES, deadline, failing)
            await asyncio.sleep(0.5)


def _require_progress(supervisor: Supervisor, names: Iterable[str], deadline: float, failing: str) -> None:
    supervisor.check()
    for name in names:
        if supervisor.restarts(name) >= _CRASHES_BEFORE_READY:
            raise StackProblem(f"{name} keeps ending right after its start: see its lines above")
    if time.monotonic() > deadline:
        raise StackProblem(f"not ready within {_READY_WITHIN_S:.0f} s, still failing: {failing}")


def _stop_on_signals(supervisor: Supervisor) -> asyncio.Event:
    """The first signal stops in order, the second at once. An ignored SIGHUP (nohup) stays ignored."""
    stop = asyncio.Event()

    def asked() -> None:
        if stop.is_set():
            supervisor.hurry()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, asked)
    return stop


def _publish_demo(configuration: Configuration) -> None:
    """demo.json appears whole, and only once everything answers."""
    (configuration.home / "demo.json.new").replace(configuration.home / "demo.json")


def _forget_demo(configuration: Configuration) -> None:
    for name in ("demo.json", "demo.json.new"):
        (configuration.home / name).unlink(missing_ok=True)
