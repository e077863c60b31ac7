"""The evidence worker of the running product: delivers, is killed, and goes on; makes a report with progress."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.stack import Stack

CANARY = "canary-7c1e-412-55-6789"


def until(true: Callable[[], Any], *, within_s: float = 90) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)
    return found


@pytest.fixture
def sink_file(stack: Stack, tmp_path: Path) -> Iterator[Path]:
    """A sink of the running product that writes a file."""
    name = f"e2e-{os.getpid()}"
    document = tmp_path / "sink.yaml"
    document.write_text(
        f"apiVersion: hoopweb/v1\nsinks:\n  - {{name: {name}, format: ocsf, url: 'file:///{name}.jsonl'}}\n"
    )
    done = stack.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr
    yield stack.home / "sinks" / f"{name}.jsonl"
    with psycopg.connect(stack.demo["control_dsn"], autocommit=True) as connection:
        connection.execute("DELETE FROM audit_sink WHERE name = %s", [name])


def delivered(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]  # behind the last line's end one may be half written


def ask(stack: Stack, text: str) -> None:
    with stack.connect() as connection:
        connection.execute(text).fetchall()


def test_events_reach_a_file_also_over_the_death_of_the_worker(stack: Stack, sink_file: Path) -> None:
    ask(stack, f"SELECT id FROM patients WHERE id = 21 AND '{CANARY}' = '{CANARY}'")
    until(lambda: [e for e in delivered(sink_file) if e["metadata"]["event_code"] == "statement.completed"])

    before = stack.pids()["evidence"]
    os.kill(before, signal.SIGKILL)
    ask(stack, "SELECT id FROM patients WHERE id = 22")
    until(lambda: stack.pids()["evidence"] != before)
    until(lambda: len([e for e in delivered(sink_file) if e["metadata"]["event_code"] == "session.opened"]) >= 2)

    events = delivered(sink_file)
    places = sorted({event["metadata"]["sequence"] for event in events})
    assert places == list(range(places[0], places[-1] + 1))  # nothing lost; what came twice has one id
    assert len({event["metadata"]["uid"] for event in events}) == len(places)
    assert CANARY not in sink_file.read_text(encoding="utf-8")


def test_a_report_is_made_by_the_worker_and_downloaded(stack: Stack) -> None:
    ask(stack, "SELECT id FROM patients WHERE id = 23")
    user = stack.demo["users"]["admin"]
    with httpx.Client(base_url=stack.demo["web_url"], follow_redirects=True, trust_env=False, timeout=60) as client:
        signed_in = client.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', signed_in.text).group(1)
        form = {"username": user["username"], "password": user["password"], "csrfmiddlewaretoken": token}
        client.post("/admin/login/?next=/admin/", data=form)
        page = client.get("/admin/audit/logentry/reports/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text).group(1)
        period = dict(re.findall(r'name="(since|until)" value="([^"]+)"', page.text.partition("sign_off")[0]))

        made = client.post(
            "/admin/audit/logentry/reports/",
            data={**period, "report": "activity", "make": "1", "csrfmiddlewaretoken": token},
        )

        def ready_page() -> str:
            text = client.get(made.url).text
            return text if "activity.pdf" in text else ""

        ready = until(ready_page)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', ready).group(1)
        (url,) = re.findall(r'action="([^"]+)"[^\n]*', ready.partition("activity.pdf")[2])[:1]
        document = client.post(url, data={"csrfmiddlewaretoken": token})

    assert document.content.startswith(b"%PDF")
    assert "no-store" in document.headers["Cache-Control"]
