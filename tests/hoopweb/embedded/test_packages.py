"""Packages come by uv where it may and can install them, and by pip in every other case."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from hoopweb.embedded import packages

SAID = '#!/bin/sh\necho {name} "$@" >> {log}\n[ "$1" = config ] && printf \'%s\\n\' "{told}"\nexit {status}\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def program(path: Path, log: Path, *, told: str = "", status: int = 0) -> None:
    path.write_text(SAID.format(name=path.name, log=log, told=told, status=status), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def installed_by(
    monkeypatch: pytest.MonkeyPatch, log: Path, *, told: str = "", uv_status: int | None = 0, pip_status: int = 0
) -> str:
    """Install something; which program was asked last, of a pip that was `told` and a uv that is there or not."""
    uv, pip = log.parent / "uv", log.parent / "pip"
    if uv_status is not None:
        program(uv, log, status=uv_status)
    program(pip, log, told=told, status=pip_status)
    monkeypatch.setattr(packages, "UV", uv)
    monkeypatch.setattr(packages, "_PIP", (str(pip),))
    packages.install("--constraint", "pins", "something")
    return log.read_text(encoding="utf-8").splitlines()[-1]


def test_uv_installs_where_pip_was_told_of_pypi_or_nothing(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    asked = installed_by(monkeypatch, log, told="global.extra-index-url='https://more.example'")

    assert asked.startswith("uv pip install")
    assert asked.endswith("--constraint pins something")


@pytest.mark.parametrize(
    "told", [":env:.index-url='https://mirror.example'", "global.index-url='https://m.example'", "user.no-index='true'"]
)
def test_pip_installs_where_it_was_told_of_another_index(monkeypatch: pytest.MonkeyPatch, log: Path, told: str) -> None:
    assert installed_by(monkeypatch, log, told=f"global.timeout='9'\n{told}").startswith("pip install")
    assert "uv" not in log.read_text(encoding="utf-8")


def test_pip_installs_where_uv_fails(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    assert installed_by(monkeypatch, log, uv_status=2).startswith("pip install")


def test_uv_is_asked_for_once_and_pip_installs_without_it(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    assert installed_by(monkeypatch, log, uv_status=None).endswith("--no-compile --constraint pins something")
    assert "--only-binary uv" in log.read_text(encoding="utf-8")


def test_what_nobody_could_install_is_an_error(
    monkeypatch: pytest.MonkeyPatch, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "_has_uv", lambda: False)
    program(log.parent / "pip", log, status=1)
    monkeypatch.setattr(packages, "_PIP", (str(log.parent / "pip"),))

    with pytest.raises(subprocess.CalledProcessError):
        packages.install("something")
    assert packages.main(["something"]) == 1
    assert "could not be installed" in capsys.readouterr().err
