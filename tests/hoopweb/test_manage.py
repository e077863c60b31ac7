"""manage.py says one sentence where a newcomer would meet a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.stack import PROJECT


def run(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOPWEB_")}
    return subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), *arguments],
        capture_output=True,
        text=True,
        env={**inherited, "DJANGO_SETTINGS_MODULE": "hoopweb.settings", "HOOPWEB_HOME": str(home), **env},
        check=False,
        timeout=60,
    )


def test_manage_without_a_running_stack_says_so_in_one_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "agent_token", "demo-agent", HOOPWEB_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("hoopweb: the control database does not answer, expected `make run`")


def test_manage_names_a_malformed_variable(tmp_path: Path) -> None:
    done = run(tmp_path, "check", HOOPWEB_WEB_PORT="eighty")

    assert done.returncode == 1
    assert done.stderr == "hoopweb: HOOPWEB_WEB_PORT is 'eighty', expected a whole number\n"
