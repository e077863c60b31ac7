"""Where nothing can be compiled the Python serves, unless the loops are required."""

import os
import sysconfig
from pathlib import Path

import pytest

from gateway.protocols.postgres import compile as loops


@pytest.fixture(autouse=True)
def _without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "loop.pyx"
    source.write_text("")
    monkeypatch.setattr(loops, "SOURCES", (source,))
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_missing_compiler_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    loops.main()

    assert "a C compiler is missing" in capsys.readouterr().out


def test_a_missing_compiler_fails_where_the_loops_are_required() -> None:
    with pytest.raises(SystemExit, match="a C compiler is missing"):
        loops.main(["--required"])


def test_what_was_built_of_older_sources_goes_where_nothing_can_be_built(tmp_path: Path) -> None:
    built = tmp_path / f"loop{sysconfig.get_config_var('EXT_SUFFIX')}"
    built.write_bytes(b"")
    loops.main()
    assert built.exists()  # the control: newer than its source

    os.utime(built, (0, 0))
    loops.main()

    assert not built.exists()


def test_a_source_that_is_wrong_is_told_with_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "loop.pyx").write_text("cdef int broken(:\n")
    monkeypatch.setattr(loops, "_missing", str)

    with pytest.raises(SystemExit, match=r"cython failed on the inner loops: [\s\S]*loop\.pyx:1"):
        loops.main()


def test_what_is_built_is_what_the_source_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    if missing := loops._missing():
        pytest.skip(f"{missing} is missing")
    (tmp_path / "loop.pyx").write_text("cpdef int twice(int number):\n    return 2 * number\n")
    monkeypatch.setattr(loops, "SOURCES", (tmp_path / "loop.pyx",))
    loops.main()
    monkeypatch.syspath_prepend(tmp_path)

    import loop

    assert (loop.twice(21), Path(loop.__file__).suffix) == (42, ".so")
