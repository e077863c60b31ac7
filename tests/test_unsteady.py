"""The gate asks a few failures once more, alone; and some never."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests import gate
from tests.unsteady import MOST, may_be_the_machine

_SETTINGS = "[pytest]\naddopts = --import-mode=importlib -p no:django -p no:cacheprovider\n"
_FAILS_ONCE = """
from pathlib import Path

def test_fails_once():
    been = Path(__file__).with_suffix(".been")
    if not been.exists():
        been.touch()
        raise AssertionError

def test_passes():
    pass
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project whose runs of tests count as ours do."""
    monkeypatch.setenv("PYTHONPATH", str(gate.PROJECT))
    monkeypatch.setattr(gate, "PROJECT", tmp_path)
    (tmp_path / "pytest.ini").write_text(_SETTINGS)
    (tmp_path / "conftest.py").write_text("from tests.tally import pytest_terminal_summary\n")
    return tmp_path


def passes(project: Path, folder: str, tests: str) -> tuple[bool, dict[str, int]]:
    """The gate's verdict on `tests` in this folder, and what it counted."""
    (project / folder).mkdir(parents=True)
    (project / folder / "test_here.py").write_text(tests)
    tally = project / "tally.json"
    passed = gate._tests_pass("here", (sys.executable, "-m", "pytest", "-q"), tally)
    return passed, json.loads(tally.read_text())["counts"]


def test_what_failed_once_and_passes_alone_is_named_and_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passed, counts = passes(project, "tests/chaos", _FAILS_ONCE)

    assert passed
    assert (counts["failed"], counts["passed"], counts["rerun"]) == (0, 2, 1)
    assert "UNSTEADY tests/chaos/test_here.py::test_fails_once" in capsys.readouterr().out


def test_what_fails_alone_too_fails_the_gate(project: Path) -> None:
    passed, counts = passes(project, "tests/chaos", "def test_fails():\n    assert False\n")

    assert not passed
    assert counts["failed"] == 1


def test_what_may_be_a_leak_is_never_asked_again(project: Path) -> None:
    passed, counts = passes(project, "tests/bypass", _FAILS_ONCE)

    assert not passed
    assert (counts["failed"], counts["passed"]) == (1, 1)


def test_a_run_that_did_not_come_to_its_tests_is_not_asked_again(project: Path) -> None:
    passed = gate._tests_pass(
        "here", (sys.executable, "-m", "pytest", "-q", "--no-such-option"), project / "tally.json"
    )

    assert not passed


def test_many_failures_are_no_accident() -> None:
    few = [f"tests/chaos/test_chaos.py::test_{number}" for number in range(MOST)]

    assert may_be_the_machine(few)
    assert not may_be_the_machine([*few, "tests/chaos/test_chaos.py::test_more"])
    assert not may_be_the_machine([])
