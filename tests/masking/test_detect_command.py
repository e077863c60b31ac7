from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from masking.management.commands.detect import answer

ROOT = Path(__file__).resolve().parents[2]


def test_answer_has_the_contracts_shape() -> None:
    assert answer('{"text": "SSN 123-45-6789"}') == {
        "spans": [{"start": 4, "end": 15, "class": "ssn", "score": 0.99}],
        "masked": "SSN [SSN]",
    }


def test_malformed_lines_are_answered_without_quoting_them() -> None:
    for line in ("not json 123-45-6789", "[]", "{}", '{"text": 7}', "[" * 100_000):
        assert answer(line) == {"error": 'malformed line, expected a JSON object with a string "text"'}


def test_command_answers_each_line_before_the_next_is_sent() -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "detect"],
        cwd=ROOT,
        env=dict(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers = []
    for line in ('{"text": "seen by Dr. Smith"}', "malformed", '{"text": "\\ud800 stable"}'):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answers.append(json.loads(process.stdout.readline()))
    process.stdin.close()

    assert process.wait(timeout=30) == 0
    assert answers[0]["masked"] == "seen by [NAME]"
    assert "error" in answers[1]
    assert answers[2] == {"spans": [], "masked": "\ud800 stable"}
