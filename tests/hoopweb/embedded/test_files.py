"""Files that are read while they are written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hoopweb.embedded.files import write_whole


def torn_reads(path: Path, write: Callable[[Path, str], object]) -> int:
    """How many of the reads beside two thousand writes found something that is not JSON."""
    write(path, json.dumps({"postgres": 0}))
    over = threading.Event()

    def writing() -> None:
        for number in range(2000):
            write(path, json.dumps({"postgres": number}))
        over.set()

    writer = threading.Thread(target=writing)
    writer.start()
    torn = 0
    while not over.is_set():
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            torn += 1
    writer.join()
    return torn


def test_reader_finds_the_old_or_the_new_text(tmp_path: Path) -> None:
    assert torn_reads(tmp_path / "pids.json", write_whole) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pids.json"]


def test_plain_writing_is_read_in_parts(tmp_path: Path) -> None:
    """The control: what the reader above would notice."""
    for _ in range(20):
        if torn_reads(tmp_path / "pids.json", lambda path, text: path.write_text(text, encoding="utf-8")):
            return
    pytest.fail("no torn read in forty thousand: the test above proves nothing")
