"""One long-running program of the stack, and how to start it so that it never outlives its supervisor."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoopweb.embedded.account import SAME_ACCOUNT, Account

_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Command:
    """`death_signal` reaches the program when its supervisor dies without stopping it (kill -9 included)."""

    name: str
    argv: Sequence[str]
    account: Account = SAME_ACCOUNT
    environment: Mapping[str, str] | None = None
    directory: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL

    def start_options(self) -> dict[str, Any]:
        """Keyword arguments common to `subprocess.Popen` and `asyncio.create_subprocess_exec`.

        A session of its own keeps a terminal's Ctrl-C for the supervisor, which stops things in order.
        """
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "start_new_session": True,
            "env": {**os.environ, **(self.environment or {})},
            "cwd": self.directory,
            "umask": 0o077,  # mail, journals and schedules are nobody else's to read
            # Runs after the change of user, which would otherwise clear the setting (prctl(2)).
            "preexec_fn": _leash(self.death_signal, os.getpid()),
        }
        if self.account.uid is not None:
            options |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return options


def die_with_parent(signal_number: signal.Signals) -> None:
    """Have the kernel send this process `signal_number` when its parent ends. Linux only; elsewhere it does nothing."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)


def _leash(death_signal: signal.Signals, supervisor: int) -> Callable[[], None]:
    def in_child() -> None:
        die_with_parent(death_signal)
        if os.getppid() != supervisor:  # it died between fork and prctl
            os._exit(1)

    return in_child
