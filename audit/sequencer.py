"""The sequencer: a process of its own that takes a data-plane process's journal into the log.

Placing, hashing and storing entries costs about as much as serving the statements they are about; in the same
interpreter the two would take turns. The data plane only says how far the journal reaches, and hears how far the log
does.

    data plane → {"to": place, "at_least": size of the log, "transaction": entries}      one line of JSON, over a pipe
    sequencer  → {"size": size of the log, "to": place, "entries": so many more} per transaction, or {"error": kind}

It starts with the first batch and ends with its data plane (end of the pipe), in the middle of nothing but one
transaction: `append.JournalSpan` makes sure that whoever goes on takes in nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection

from audit import cores

# Sessions come first: entries in the journal are safe, and nobody waits for them.
NICE = 10
_CLOSE_WITHIN_S = 5.0
_KEPT = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PGSSLROOTCERT"})
_KEPT_PREFIXES = ("LC_", "PYTHON", "SSL_CERT_")


class SequencerFailed(RuntimeError):
    """The batch is not known to be in the log; it is still in the journal."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One transaction of the sequencer is committed."""

    size: int  # of the log
    place: int  # up to which the log has the journal
    entries: int  # that this transaction took in


class Sequencer:
    """One journal's. `take_in` is called by one task."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: Process | None = None

    async def take_in(self, place: int, *, at_least: int, transaction: int, taken: Callable[[Taken], None]) -> None:
        """Return when the log holds the journal up to `place`; `taken` is told of every transaction of so many entries.

        Raises SequencerFailed.
        """
        try:
            process = self._process = self._process or await self._start()
            assert process.stdin is not None
            request = {"to": place, "at_least": at_least, "transaction": transaction}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            while (answer := await self._answer(process)).place < place:
                taken(answer)
        except (OSError, ValueError) as error:
            await self.close()
            raise SequencerFailed(type(error).__name__) from None
        taken(answer)

    async def _answer(self, process: Process) -> Taken:
        assert process.stdout is not None
        answer = json.loads(await process.stdout.readline() or b'{"error": "ended"}')
        if "error" in answer:
            if answer["error"] == "ended":
                await self.close()
            raise SequencerFailed(answer["error"])
        return Taken(int(answer["size"]), int(answer["to"]), int(answer["entries"]))

    async def close(self) -> None:
        """End the process, after its transaction."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _CLOSE_WITHIN_S)
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _start(self) -> Process:
        root = str(settings.BASE_DIR)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "audit.sequencer_process",
            stdin=PIPE,
            stdout=PIPE,
            env={**_plain_environment(), "PYTHONPATH": root},
            cwd=root,
        )
        # Over the pipe, not in the arguments, which every account of the machine may read. All it needs to know.
        known = {
            "directory": str(self._directory),
            "database": connection.settings_dict,
            "keys": settings.HOOPWEB_EVIDENCE_KEYS,
            "cores": sorted(cores.usable()),  # the data plane itself may stay on one of them
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(known, default=str).encode() + b"\n")
        return process


def _plain_environment() -> dict[str, str]:
    """What a program and libpq need of the environment; the installation's secrets may be among the rest."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
