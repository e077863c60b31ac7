"""The README's five minutes, pasted into a shell against the running product: what it shows is what one gets."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import Counter

import pytest

from hoopweb.embedded.postgres import postgres_binaries
from tests.stack import PROJECT, Stack

pytestmark = pytest.mark.timeout(600)
README = (PROJECT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What differs from run to run, and what stands for it. Column widths follow the values, so runs of blanks count once.
_VARIES = (
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"\btok_[a-z0-9]+"), "<token>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<web>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"), "<time>"),
    (re.compile(r"\d+(?= entries| checkpoints|, sha256| at <time>)"), "<n>"),
    (re.compile(r"\b(log of|names|opened) \d+"), r"\1 <n>"),
    (re.compile(r"-{2,}"), "-"),
    (re.compile(r"\s+"), " "),
)


def blocks(kind: str) -> list[str]:
    return [text for language, text in _BLOCK.findall(README) if language == kind]


def shape(line: str) -> str:
    for pattern, word in _VARIES:
        line = pattern.sub(word, line)
    return line.strip()


def shapes(text: str) -> list[str]:
    return [shape(line) for line in text.splitlines() if line.strip()]


def script(stack: Stack) -> str:
    """Every block but the first (clone and `make run`: the stack is that), with this copy's ports and programs."""
    named = {
        "port=6432": f"port={stack.demo['postgres']['port']}",
        "http://127.0.0.1:8000": stack.demo["web_url"],
        ".venv/bin/python": sys.executable,
        ".venv/bin/psql": str(postgres_binaries() / "psql"),
        "evidence.bundle": str(stack.home / "readme.bundle"),
    }
    lines = ["set -u"]
    for block in blocks("sh")[1:]:
        for shown, meant in named.items():
            block = block.replace(shown, meant)
        in_background = block.rstrip().endswith("&")
        if in_background:
            lines.append(f"HELD=$({_held(stack)})")
        lines.append(block)
        if in_background:  # a person reads its answer before going on
            lines.append(f'until test "$({_held(stack)})" -gt "$HELD"; do sleep 0.2; done; sleep 1')
    return "\n".join(lines)


def _held(stack: Stack) -> str:
    """The command that prints how many statements were ever held."""
    counted = "SELECT count(*) FROM audit_logentry WHERE kind = 'review.opened'"
    return shlex.join([str(postgres_binaries() / "psql"), "-XAtc", counted, str(stack.demo["control_dsn"])])


@pytest.fixture(scope="module")
def transcript(stack: Stack) -> str:
    done = subprocess.run(
        ["/bin/bash", "-c", script(stack)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**stack.env, "PAGER": "cat"},
        cwd=PROJECT,
        timeout=300,  # the five minutes of its title
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_readme_starts_the_way_the_stack_does() -> None:
    clone, *_ = blocks("sh")

    assert clone.splitlines() == ["git clone <this repository> hoopweb && cd hoopweb", "make run"]


def test_readme_shows_what_its_commands_print(transcript: str) -> None:
    shown = Counter(line for block in blocks("text") for line in shapes(block))

    # A background client and the shell share the terminal: the lines are compared, the order below.
    assert Counter(shapes(transcript)) == shown


def test_readme_shows_every_answer_in_order(transcript: str) -> None:
    printed = shapes(transcript)

    for block in blocks("text"):
        expected = [line for line in shapes(block) if not line.startswith('"status"')]
        places = [printed.index(line) for line in expected]
        assert places == sorted(places), block


def test_readme_commands_have_outputs() -> None:
    assert len(blocks("sh")) - 1 == len(blocks("text"))
