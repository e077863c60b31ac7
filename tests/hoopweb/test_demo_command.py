"""`manage.py demo`: one value of demo.json, or one sentence."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    settings.HOOPWEB_HOME = tmp_path
    return tmp_path


def shown(path: str) -> str:
    out = StringIO()
    call_command("demo", path, stdout=out)
    return out.getvalue().strip()


def test_demo_prints_a_value_by_its_path(home: Path) -> None:
    (home / "demo.json").write_text(json.dumps({"users": {"reviewer": {"token": "t0"}}}), encoding="utf-8")

    assert shown("users.reviewer.token") == "t0"
    assert json.loads(shown("users.reviewer")) == {"token": "t0"}


def test_demo_names_what_is_missing(home: Path) -> None:
    with pytest.raises(CommandError, match="does not exist, expected a running demo"):
        shown("web_url")

    (home / "demo.json").write_text(json.dumps({"users": {"reviewer": {}}}), encoding="utf-8")
    with pytest.raises(CommandError, match=r"no admin in users\.admin, expected reviewer"):
        shown("users.admin")
