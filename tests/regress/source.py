"""PostgreSQL's own regression SQL, from Debian's source package, fetched once and kept below the home's cache.

The files are not ours to redistribute with this project, so they are never committed: `apt-get source` downloads and
verifies the package with lists of its own (no root needed, nothing of the machine's apt configuration is touched).
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from itertools import dropwhile
from pathlib import Path

PACKAGE = "postgresql-15"
_SOURCES = "deb-src http://deb.debian.org/debian bookworm main\n"
_FETCH_TIMEOUT_S = 300


def cache_directory() -> Path:
    """Below HOOPWEB_HOME when the run has one that outlives it, else below the project's own default home."""
    home = os.environ.get("HOOPWEB_TEST_CACHE") or Path(__file__).resolve().parents[2] / ".hoopweb" / "cache"
    return Path(home)


def regression_files() -> Path:
    """The directory with `sql/`, `data/` and `parallel_schedule`; downloads when it is not there yet."""
    home = cache_directory() / "postgresql-regress"
    found = sorted(home.glob("postgresql-15*/src/test/regress"))
    if not found:
        home.mkdir(parents=True, exist_ok=True)
        _unpack(_download(home), home)
        found = sorted(home.glob("postgresql-15*/src/test/regress"))
    assert found, f"Debian's source package {PACKAGE} holds no regression tests"
    return found[-1]


def schedule(files: Path) -> list[str]:
    """Every test in the order of PostgreSQL's own schedule; groups one after another."""
    lines = (files / "parallel_schedule").read_text(encoding="utf-8").splitlines()
    return [name for line in lines if line.startswith("test:") for name in line.partition(":")[2].split()]


def _download(home: Path) -> Path:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "sources.list").write_text(_SOURCES, encoding="utf-8")
    options = {
        "Dir::State": home / "state",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": home / "cache",
        "Dir::Etc::SourceList": home / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
    }
    argv = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    for command in (["update"], ["source", "--download-only", PACKAGE]):
        done = subprocess.run(
            [*argv, *command], cwd=home, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"apt-get {command[0]}: {done.stderr[-500:]}"
    return sorted(home.glob("*.orig.tar.*"))[-1]


def _unpack(archive: Path, home: Path) -> None:
    # As a stream, up to the folder's end: it lies in the first fifth, and to unpack all takes longer than to run it.
    within = "/src/test/regress/"
    with tarfile.open(archive, "r|*") as content:
        for member in dropwhile(lambda each: within not in each.name, content):
            if within not in member.name:
                break
            content.extract(member, home, filter="data")
    archive.unlink()
