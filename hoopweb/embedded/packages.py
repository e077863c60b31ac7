"""Installs the pinned Python packages: `python -m hoopweb.embedded.packages [--compile] REQUIREMENTS…`.

By uv, which needs a tenth of pip's time. It does not read what pip was told: where pip was told of another index than
PyPI, or of none, pip installs, as it does where uv is not to be had or could not install.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
UV = Path(sys.prefix) / "bin" / "uv"
_PIP = (sys.executable, "-m", "pip")
_QUIET = ("--quiet", "--disable-pip-version-check")
_ANOTHER_INDEX = re.compile(r"^[^=]*\.(index-url|no-index)=", re.MULTILINE)


def main(arguments: Sequence[str]) -> int:
    compiled = "--compile" in arguments
    wanted = [each for each in arguments if each != "--compile"]
    try:
        install("--constraint", str(CONSTRAINTS), *wanted, compiled=compiled)
    except subprocess.CalledProcessError:
        print("the packages could not be installed: see pip's message above", file=sys.stderr)
        return 1
    return 0


def install(*wanted: str, python: str = sys.executable, compiled: bool = False) -> None:
    """Install what is `wanted`, as requirements files or by name, for this environment's Python or another's.

    `compiled`: every module of it, now; otherwise Python compiles those that are imported, when they first are. Raises
    subprocess.CalledProcessError when pip failed too.
    """
    if _has_uv():
        compiling = ["--compile-bytecode"] if compiled else []
        uv = [str(UV), "pip", "install", "--quiet", "--python", python, *compiling, *wanted]
        if subprocess.run(uv, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return
    into = [] if python == sys.executable else ["--python", python]
    compiling = [] if compiled else ["--no-compile"]
    subprocess.run([*_PIP, *into, "install", *_QUIET, *compiling, *wanted], check=True)


def _has_uv() -> bool:
    """Whether uv may install, fetched where it is missing: once, by whichever process comes first."""
    told = subprocess.run([*_PIP, "config", "list"], capture_output=True, text=True, check=False)
    if told.returncode != 0 or _ANOTHER_INDEX.search(told.stdout):
        return False
    with UV.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not UV.exists():
            only = ("--only-binary", "uv", "--constraint", str(CONSTRAINTS), "uv")
            fetch = [*_PIP, "install", *_QUIET, *only]
            subprocess.run(fetch, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return UV.exists()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
