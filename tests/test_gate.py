"""The gate's second run of tests reads no file in which the first found nothing for it, and misses no test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests import gate
from tests.tally import PRODUCT, TALLY

_CONFTEST = """
import pytest
from tests.tally import pytest_terminal_summary, tell_product_files

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    tell_product_files(items)
"""
_SETTINGS = "[pytest]\naddopts = --import-mode=importlib -p no:django -p no:cacheprovider\nmarkers = e2e\n"
_READ = "from pathlib import Path\nwith Path(__file__).with_suffix('.read').open('a') as read: read.write('x')\n"
_UNIT = "def test_unit():\n    pass\n"
_DRIVES = "import pytest\n@pytest.mark.e2e\ndef test_drives():\n    pass\n"
_FILES = {"one/test_unit.py": _UNIT, "one/test_both.py": _UNIT + _DRIVES, "two/test_drives.py": _DRIVES}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(gate.PROJECT))
    monkeypatch.setattr(gate, "PROJECT", tmp_path)
    (tmp_path / "pytest.ini").write_text(_SETTINGS)
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    for name, tests in _FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(_READ + tests)
    return tmp_path


def run(project: Path) -> tuple[list[str], list[int], dict[str, int]]:
    """The gates that failed, how many tests passed in each run, and how often each file was read."""
    tests = [(marked, gate._pytest(marked, jobs=1, bound_s=0)) for marked in ("not e2e", "e2e")]
    tallies = {name: project / f"{name}.json" for name, _ in tests}
    failed = gate._failed([], tests, tallies, product=project / "product.json")
    counts = [json.loads(path.read_text())["counts"]["passed"] for path in tallies.values() if path.exists()]
    return failed, counts, {path.stem: len(path.read_text()) for path in project.rglob("*.read")}


def test_second_run_reads_the_files_it_has_tests_in(project: Path) -> None:
    failed, counts, read = run(project)

    assert (failed, counts) == ([], [2, 2])
    assert read == {"test_unit": 1, "test_both": 2, "test_drives": 2}


def test_what_is_made_ready_for_the_second_run_is_no_gate(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tests = [("not e2e", gate._pytest("not e2e", jobs=1, bound_s=0))]
    ready = [("made ready", (sys.executable, "-c", "open('made', 'w'); raise SystemExit(1)"))]

    failed = gate._failed([], tests, {"not e2e": project / "tally.json"}, product=project / "product.json", ready=ready)

    assert failed == []
    assert (project / "made").exists()
    assert "made ready: failed (1)" in capfd.readouterr().out, "nobody is told why the second run begins late"


def test_a_gate_within_a_gate_tells_the_outer_one_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer = project / "outer.json"
    monkeypatch.setenv(PRODUCT, str(outer))
    monkeypatch.setenv(TALLY, str(outer))

    gate._passes("again", gate._pytest("e2e", jobs=1, bound_s=0))

    assert not outer.exists()


def test_files_that_nobody_told_are_all_read(project: Path) -> None:
    (project / "conftest.py").write_text("from tests.tally import pytest_terminal_summary\n")

    failed, counts, read = run(project)

    assert (failed, counts) == ([], [2, 2])
    assert read == {"test_unit": 2, "test_both": 2, "test_drives": 2}


@pytest.mark.parametrize(
    ("file", "kept", "said"),
    [
        pytest.param("two/test_drives.py", "", "MISSING two/test_drives.py: 1 found, 0 ran", id="all of a file"),
        pytest.param("one/test_both.py", _DRIVES, "MISSING one/test_both.py: 2 found, 1 ran", id="one of a file"),
    ],
)
def test_what_was_found_and_did_not_run_fails_the_gate(
    project: Path, capfd: pytest.CaptureFixture[str], file: str, kept: str, said: str
) -> None:
    lost = f"    exec({_DRIVES.replace('drives', 'is_lost')!r})\n"
    (project / file).write_text(f"{_READ}{kept}if Path(__file__).with_suffix('.read').read_text() == 'x':\n{lost}")

    failed, _, _ = run(project)

    assert failed == ["e2e"]
    assert [line for line in capfd.readouterr().out.splitlines() if line.startswith("MISSING")] == [said]
