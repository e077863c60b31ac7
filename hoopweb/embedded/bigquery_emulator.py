"""The BigQuery emulator in an environment of its own, for `make run-bigquery` and the tests.

`python -m hoopweb.embedded.bigquery_emulator` makes the environment (some 650 MB, once) beside the product's. It needs
an older sqlglot than the product, and its DuckDB extension is installed from the package index, not downloaded.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hoopweb.embedded.command import Command
from hoopweb.embedded.packages import install
from hoopweb.embedded.problem import StackProblem

REQUIREMENTS = Path(__file__).with_name("bigquery-emulator.txt")
_EXTENSION = "from duckdb_extensions import import_extension; import_extension('spatial')"
_READY = "ready"


def environment_directory() -> Path:
    """Inside the product's own environment, so that one directory holds everything that was installed."""
    return Path(sys.prefix) / "bigquery-emulator"


def is_ready() -> bool:
    """Whether the environment of exactly these requirements is there."""
    mark = environment_directory() / _READY
    return mark.exists() and mark.read_text(encoding="utf-8") == REQUIREMENTS.read_text(encoding="utf-8")


def ensure_emulator() -> None:
    """Make the environment where it is missing; one process makes it, others wait. Raises StackProblem."""
    directory = environment_directory()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready():
            return
        shutil.rmtree(directory, ignore_errors=True)
        try:
            _make(directory)
        except (OSError, subprocess.CalledProcessError) as error:
            raise StackProblem(f"the BigQuery emulator could not be installed: {type(error).__name__}") from None
        (directory / _READY).write_text(REQUIREMENTS.read_text(encoding="utf-8"), encoding="utf-8")


def emulator_command(*, rest_port: int, grpc_port: int) -> Command:
    """The emulator on loopback. It keeps everything in memory."""
    directory = environment_directory()
    return Command(
        name="bigquery",
        argv=[
            str(directory / "bin" / "bqemulator"),
            "start",
            *("--rest-port", str(rest_port)),
            *("--grpc-port", str(grpc_port)),
        ],
        environment=_environment(directory),
        directory=directory,
    )


def _make(directory: Path) -> None:
    """Compiled as far as the emulator loads it, when it does."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    python = str(directory / "bin" / "python")
    install("-r", str(REQUIREMENTS), python=python)
    subprocess.run([python, "-c", _EXTENSION], check=True, env={**os.environ, **_environment(directory)})


def _environment(directory: Path) -> dict[str, str]:
    """DuckDB keeps its extensions below HOME; the emulator would download others without the second variable."""
    return {"HOME": str(directory), "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false"}


if __name__ == "__main__":
    ensure_emulator()
