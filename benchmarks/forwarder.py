"""The floor: processes that copy bytes and look at nothing, written in C, as many as the gateway has.

What a hop costs on this machine whatever it does: two more sends, two more wake-ups and their context switches. A
gateway of any language has at most this ratio here.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.bouncer import wait_listening
from benchmarks.world import Endpoint
from hoopweb.embedded.ports import free_port

SOURCE = Path(__file__).with_suffix(".c")


@contextmanager
def running_forwarder(
    direct: Endpoint, *, processes: int, work_us: float = 0, name: str = "forwarder (C)"
) -> Iterator[list[Endpoint]]:
    """One endpoint; none where there is no C compiler.

    `work_us`: processor time it spends on a request and its answer, to no purpose.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        yield []
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "forwarder"
        subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE)], check=True)
        running = [
            subprocess.Popen(
                [str(program), str(port), str(direct.port), str(int(work_us * 500))], start_new_session=True
            )
            for _ in range(processes)
        ]
        try:
            wait_listening(port)
            yield [replace(direct, name=name, port=port)]
        finally:
            for process in running:
                process.terminate()
                process.wait(10)
