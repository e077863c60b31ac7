"""`manage.py rungateway`: the data plane. Several processes share the ports (SO_REUSEPORT)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from argparse import SUPPRESS, ArgumentParser
from typing import Any

import uvloop
from django.core.management.base import BaseCommand, CommandError

from audit import cores
from gateway.domain.credentials import CredentialProblem

RESTART_DELAY_S = 0.5
# New objects before the youngest are looked at, and how often before older ones are.
COLLECT_EVERY = (10_000, 20, 20)


class Command(BaseCommand):
    help = "Run the data plane: native PostgreSQL and HTTP listeners."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workers", type=int, default=1, help="processes that share the ports (default 1)")
        parser.add_argument(
            "--unpinned",
            action="store_true",
            help="do not keep workers on a core each where there are as many as cores",
        )
        parser.add_argument("--core", type=int, help=SUPPRESS)  # the supervisor's word to a worker

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["workers"] > 1:
            supervise(options["workers"], pinned=not options["unpinned"])
            return
        if options["core"] is not None:
            with contextlib.suppress(OSError):  # taken away meanwhile: any other does
                cores.stay_on(options["core"])
        try:
            uvloop.run(serve())
        except (CredentialProblem, OSError) as error:
            raise CommandError(f"the gateway cannot start: {error}") from None


async def serve() -> None:
    from gateway.runtime import build_runtime  # noqa: PLC0415  after Django is set up, inside the event loop

    stop, hurry = asyncio.Event(), asyncio.Event()
    told: set[signal.Signals] = set()

    def hear(number: signal.Signals) -> None:
        """The same signal twice means at once. A terminal's Ctrl-C and the supervisor's SIGTERM are one wish."""
        if number in told:
            hurry.set()
        told.add(number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear, number)
    runtime = build_runtime()
    loop.add_signal_handler(signal.SIGHUP, runtime.reload)
    spare_the_collector()
    await runtime.serve(stop, hurry)


def spare_the_collector() -> None:
    """Never look again for garbage among what was loaded by now: a look at all of it halts every session for 0.1 s.

    Statements leave hardly any cycles, so that looking every 700 objects finds nothing most of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)


def supervise(workers: int, *, pinned: bool = True) -> None:
    """Keep `workers` single-process gateways running; pass signals on; end when all have ended.

    `pinned`: on one core each, where there are as many of them.
    """
    stopping = False
    children: list[subprocess.Popen[bytes]] = []
    told: set[int] = set()

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        told.clear()  # whoever asks twice means at once
        end_children()

    def end_children() -> None:
        for child in children:
            if child.pid not in told:
                told.add(child.pid)
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(signal.SIGTERM)

    def reload(_number: int, _frame: object) -> None:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGHUP)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, reload)
    signal.signal(signal.SIGINT, stop)
    places = cores.dealt(workers) if pinned else [None] * workers
    children.extend(_start_worker(core) for core in places)
    while any(child.poll() is None for child in children):
        if stopping:  # the signal may have come in the very moment a child was started, and was not its own yet
            end_children()
        time.sleep(RESTART_DELAY_S)
        for index, child in enumerate(children):
            if child.poll() is not None and not stopping:
                children[index] = _start_worker(places[index])


def _start_worker(core: int | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, sys.argv[0], "rungateway"]
    if core is not None:
        command += ["--core", str(core)]
    return subprocess.Popen(command, env=os.environ)  # noqa: S603  our own command
