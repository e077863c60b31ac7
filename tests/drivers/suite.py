"""A driver's own test suite, from its source package: fetched once, run in an environment of its own.

The tests are not ours to redistribute with this project, so they are never committed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.regress.source import cache_directory

_RUNNER = ("pytest==9.2.0", "pytest-timeout==2.4.0")
_FETCH_TIMEOUT_S = 600
_HANGS_AFTER_S = 120  # a test of a suite; the machine may be busy


@dataclass(frozen=True, slots=True)
class Suite:
    """`folder` is where the package keeps its tests, `needs` what they import beside the driver."""

    driver: str
    version: str
    folder: str
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # of pytest

    @property
    def pinned(self) -> str:
        return f"{self.driver}=={self.version}"

    def run(self, environment: Mapping[str, str], scratch: Path) -> dict[str, str]:
        """Run the whole suite; test → passed, failed, error or skipped."""
        scratch.mkdir(parents=True, exist_ok=True)
        tests, report = scratch / self.folder, scratch / "report.xml"
        if not tests.exists():
            # Alone: beside the tests lies the package's source, which would be imported in place of what is installed.
            shutil.copytree(self._sources() / self.folder, tests)
        argv = [self._python(), "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "--timeout", _HANGS_AFTER_S]
        done = subprocess.run(
            [*map(str, argv), *self.options, "--junitxml", str(report), self.folder],
            cwd=scratch,
            env={**_without_ours(), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert report.exists(), done.stdout[-2000:] + done.stderr[-2000:]
        return outcomes(report)

    def _home(self) -> Path:
        return cache_directory() / "drivers" / f"{self.driver}-{self.version}"

    def _python(self) -> Path:
        place = self._home() / "environment"
        python = place / "bin" / "python"
        if not (place / "complete").exists():
            venv.create(place, with_pip=True, clear=True)
            _run([str(python), "-m", "pip", "install", "-q", self.pinned, *_RUNNER, *self.needs])
            (place / "complete").touch()
        return python

    def _sources(self) -> Path:
        place = self._home() / f"{self.driver}-{self.version}"
        if not place.exists():
            self._home().mkdir(parents=True, exist_ok=True)
            _run(
                [
                    *(sys.executable, "-m", "pip", "download", "-q", "--no-deps"),
                    *("--no-binary", self.driver, "-d", str(self._home()), self.pinned),
                ]
            )
            (archive,) = self._home().glob(f"{self.driver}-*.tar.gz")
            with tarfile.open(archive) as content:
                content.extractall(self._home(), filter="data")
        return place


def outcomes(report: Path) -> dict[str, str]:
    """Read a JUnit report."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        ends = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
        found[name] = ends[0] if ends else "passed"
    return found


def _without_ours() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("HOOPWEB_", "DJANGO_", "PYTEST_"))
    }


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
