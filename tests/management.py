"""Management commands of a running copy without a start of Django each: a server that loaded it forks for every one.

`python -m tests.management FD` serves on the inherited SOCK_SEQPACKET socket FD until its other end is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
_LARGEST_REQUEST = 1 << 20


class ManagementServer:
    """Runs `manage.py ARGUMENTS` with `env`, several at once from several threads. `close` ends it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.management", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=env,
                cwd=PROJECT,
                pass_fds=[theirs.fileno()],
            )
        self._sending = threading.Lock()

    def run(self, *arguments: str, stdin: str | None, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` would answer. Raises TimeoutExpired, after which the command no longer runs."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            given.write((stdin or "").encode())
            given.seek(0)
            told, tells = os.pipe()
            try:
                request = json.dumps(arguments).encode()
                with self._sending:
                    descriptors = [given.fileno(), out.fileno(), error.fileno(), tells]
                    socket.send_fds(self._control, [request], descriptors)
            finally:
                os.close(tells)
            with os.fdopen(told, "rb") as answer:
                status = _await(answer.fileno(), arguments, timeout_s)
            texts = []
            for written in (out, error):
                written.seek(0)
                texts.append(written.read().decode())
        return subprocess.CompletedProcess(["manage.py", *arguments], status, *texts)

    def close(self) -> None:
        self._control.close()
        self._process.wait(60)


def _await(told: int, arguments: tuple[str, ...], timeout_s: float) -> int:
    """The status of the command, which names its pid first; -1 where it ended without saying one."""
    deadline = time.monotonic() + timeout_s
    heard = b""
    while select.select([told], [], [], max(0.0, deadline - time.monotonic()))[0]:
        more = os.read(told, 64)
        if not more:
            words = heard.split()
            return int(words[1]) if len(words) > 1 else -1
        heard += more
    if heard:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(heard.split()[0]), signal.SIGKILL)
    raise subprocess.TimeoutExpired(["manage.py", *arguments], timeout_s)


def serve(control: socket.socket) -> None:
    """Load Django and the commands, then fork for every request until the other end is closed."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hoopweb.settings")
    import django
    from django.core.checks import run_checks
    from django.core.management import get_commands, load_command_class

    from hoopweb.loading import nothing_thrown_away
    from tests.gate import OURS

    with nothing_thrown_away():
        django.setup()
        for name, app in get_commands().items():
            if isinstance(app, str) and app.partition(".")[0] in OURS:
                load_command_class(app, name)
        run_checks()  # as most commands do first: it loads every URL and the console behind them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _LARGEST_REQUEST, 4)
        if not request:
            return
        if os.fork() == 0:
            control.close()
            _become(json.loads(request), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(arguments: list[str], descriptors: list[int]) -> None:
    """Run one command in this fork, with the streams given, say pid and status, and exit."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, tells = descriptors
    os.write(tells, f"{os.getpid()} ".encode())
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    sys.argv = ["manage.py", *arguments]
    status = 1
    try:
        import manage

        manage.main()
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(tells, str(status).encode())
        os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
