"""Builds the compiled inner loops in place: `python -m gateway.protocols.postgres.compile [--required]`.

Of the wire, the log, the session and the analysis. `_fast.pyx` are twins of Python beside them, `quick/` is the twin of
`postgres_express.py`; `state.py` are Python themselves, which `state.pxd` gives the types of a structure.

Where there is no compiler, or no Cython, it says so in one line and the Python serves: same bytes, slower. With
`--required`, as an image is built, that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[3]
SOURCES = tuple(
    _ROOT / source
    for source in (
        "analysis/_fast.pyx",
        "analysis/_lexer.pyx",
        "analysis/_making.pyx",
        "audit/domain/state.py",
        "audit/domain/_openssl.pyx",
        "audit/domain/_fast.pyx",
        "audit/domain/_intake.pyx",
        "audit/domain/_following.pyx",
        "audit/domain/_sync_thread.pyx",
        "audit/domain/_alarm.pyx",
        "masking/engines/_fast.pyx",
        "gateway/protocols/postgres/state.py",
        "gateway/protocols/postgres/_fast.pyx",
        "gateway/protocols/postgres/_copyrows.pyx",
        "gateway/session/state.py",
        "gateway/upstreams/state.py",
        "gateway/listeners/quick/passage.pyx",
        "gateway/listeners/quick/sparing.pyx",
        "gateway/listeners/quick/requests.pyx",
        "gateway/listeners/quick/entries.pyx",
        "gateway/listeners/quick/lane.pyx",
        "gateway/listeners/quick/steps.pyx",
    )
)
# NDEBUG: without it every look into an object asserts its type once more (Python.h), as Python itself is not built.
_FLAGS = ("-O2", "-DNDEBUG", "-fwrapv", "-fno-strict-aliasing", "-fno-plt", "-fPIC", "-shared")


def main(arguments: Sequence[str] = ()) -> None:
    stale = [source for source in SOURCES if not _is_built(source)]
    missing = _missing() if stale else ""
    if missing and "--required" in arguments:
        raise SystemExit(f"cannot compile the inner loops: {missing} is missing")
    if missing:
        for source in stale:  # one that was built of older sources does not know what Python passes it now
            _target(source).unlink(missing_ok=True)
        print(f"not compiling the inner loops ({missing} is missing): results are masked by slower Python")
        return
    # Cython takes a second to load and a fifth for a source: this process translates all, while compilers are at work.
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(os.cpu_count()) as builders:
        codes = (_translated(source, Path(directory) / f"{number}.c") for number, source in enumerate(stale))
        building = [builders.submit(_build, source, code) for source, code in zip(stale, codes, strict=True)]
        for each in building:
            each.result()


def _target(source: Path) -> Path:
    return source.with_name(source.stem + sysconfig.get_config_var("EXT_SUFFIX"))


def _is_built(source: Path) -> bool:
    """Newer than itself and than every declaration: one that knows another layout of a structure would not load."""
    target = _target(source)
    declared = (path for folder in {other.parent for other in SOURCES} for path in folder.glob("*.pxd"))
    newest = max(path.stat().st_mtime for path in (source, *declared))
    return target.exists() and target.stat().st_mtime >= newest


def _missing() -> str:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if shutil.which("cc") is None:
        return "a C compiler"
    if not header.exists():
        return "Python.h"
    return "" if find_spec("Cython") else "Cython"


def _translated(source: Path, code: Path) -> Path:
    cython: Any = import_module("Cython.Compiler.Main")  # where it is installed
    wanted = {"include_path": [str(_ROOT)], "language_level": 3, "output_file": str(code)}
    told = StringIO()
    with redirect_stderr(told):
        options = cython.CompilationOptions(cython.default_options, **wanted)
        failed = cython.compile_single(str(source), options, full_module_name=None).num_errors
    if failed:
        raise SystemExit(f"cython failed on the inner loops: {told.getvalue().strip()[-600:]}")
    return code


def _build(source: Path, code: Path) -> None:
    target = _target(source)
    built = code.with_suffix(".so")
    include = sysconfig.get_paths()["include"]
    _run("cc", *_FLAGS, f"-I{include}", "-o", str(built), str(code))
    shutil.copy2(built, target.with_suffix(".new"))
    target.with_suffix(".new").replace(target)  # whoever has the old one mapped keeps it


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own compiler
    if done.returncode != 0:
        raise SystemExit(f"{Path(command[0]).name} failed on the inner loops: {done.stderr.strip()[-600:]}")


if __name__ == "__main__":
    main(sys.argv[1:])
