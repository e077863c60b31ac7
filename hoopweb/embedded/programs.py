"""The product's own programs, as the embedded stack starts them."""

from __future__ import annotations

import os
import signal
import sys

from audit.sinks.schedule import QUEUE
from hoopweb.embedded.command import Command
from hoopweb.embedded.configuration import HOST, PROJECT, Configuration

# Ended together, before the services they use.
SERVICES = ("web", "gateway", "worker", "evidence", "scheduler")


def service_commands(configuration: Configuration) -> list[Command]:
    """Web, gateway, the two workers and the scheduler, in starting order."""
    celery = [sys.executable, "-m", "celery", "-A", "hoopweb.celery", "--quiet"]
    return [
        _program(
            configuration,
            "web",
            [
                *(sys.executable, "-m", "uvicorn", "hoopweb.asgi:application"),
                *("--host", HOST, "--port", str(configuration.web_port)),
                *("--lifespan", "on", "--no-access-log", "--timeout-graceful-shutdown", "5"),
                # Sixteen kilobytes would unpack to a message of sixteen megabytes, before anybody has signed in.
                *("--ws-per-message-deflate", "false"),
            ],
        ),
        _program(
            configuration,
            "gateway",
            _manage("rungateway", "--workers", str(configuration.gateway_workers)),
            stop_timeout_s=30.0,
        ),
        # SIGTERM to the worker's main process is a warm stop; to its whole group it would wedge the pool.
        _program(
            configuration,
            "worker",
            [*celery, "worker", "--concurrency", "1", "--without-gossip", "--without-mingle", "-l", "WARNING"],
        ),
        # Sinks, anchors and reports: they wait for other people's servers, and nobody waits for them.
        _program(
            configuration,
            "evidence",
            [
                *(*celery, "worker", "-Q", QUEUE, "-n", "evidence@%h", "--pool", "threads", "--concurrency", "4"),
                *("--without-gossip", "--without-mingle", "-l", "WARNING"),
            ],
        ),
        # A process of its own rather than `worker -B`: beat inside a worker survives the worker's kill -9.
        _program(
            configuration,
            "scheduler",
            [*celery, "beat", "-l", "WARNING", "--schedule", str(configuration.home / "schedule"), "--pidfile="],
        ),
    ]


def demo_command(configuration: Configuration, *, migrate: bool = False) -> Command:
    """Load the demo; `migrate`: after the control database was brought up to date, by the same process."""
    return _program(configuration, "demo", _manage("load_demo", *(["--migrate"] if migrate else [])))


def manage_command(configuration: Configuration, name: str, *arguments: str) -> Command:
    """A management command, run to its end."""
    return _program(configuration, name, _manage(*arguments))


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT / "manage.py"), *arguments]


def _program(configuration: Configuration, name: str, argv: list[str], *, stop_timeout_s: float = 10.0) -> Command:
    return Command(
        name=name,
        argv=argv,
        directory=PROJECT,
        environment=_environment(configuration),
        stop_signal=signal.SIGTERM,
        stop_timeout_s=stop_timeout_s,
    )


def _environment(configuration: Configuration) -> dict[str, str]:
    """What the programs need on top of the supervisor's own environment."""
    return {
        "HOOPWEB_HOME": str(configuration.home),
        "DJANGO_SETTINGS_MODULE": "hoopweb.settings",
        "PYTHONUNBUFFERED": "1",
        # They would load the whole console. What must hold at a start, load_demo has looked at.
        "CELERY_SKIP_CHECKS": "1",
        # No news here: WhiteNoise serves from the finders, and a container's only user may well be root.
        "PYTHONWARNINGS": "ignore:No directory at,ignore:You're running the worker",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")])),
    }
