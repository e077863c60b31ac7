"""BigQuery's door when somebody is switched off: what is held, runs or is waited for ends, and nothing runs later.

Quotas, too, are told in BigQuery's own words.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from tests.bigquery.conftest import CONNECTION, DATASET, apply
from tests.bigquery.service import PROJECT, Service
from tests.bigquery.test_governed import MARK, texts_run, until, ward_of
from tests.stack import Stack

pytestmark = pytest.mark.e2e

BASE = f"/c/{CONNECTION}/bigquery/v2/projects/{PROJECT}"
AGENT = "leaving-agent"
HELD = f"UPDATE {DATASET}.patients SET ssn = 'new-{MARK}', ward = 81 WHERE id = 181"
RUNNING = f"SELECT id FROM {DATASET}.wards WHERE id = {MARK}"
SLOWLY = f"SELECT name FROM {DATASET}.wards WHERE id <> {MARK}"
COUNT = f"SELECT COUNT(*) FROM {DATASET}.wards"
WHY = "the agent is not registered or is switched off"


@dataclass(frozen=True, slots=True)
class Agent:
    """Calls BigQuery with one token, whatever becomes of it."""

    address: str
    token: str = field(repr=False)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"{self.address}{BASE}/{path}"
        return httpx.request(method, url, headers=headers, timeout=90, trust_env=False, **options)

    def begin(self, text: str) -> str:
        answer = self.ask("POST", "jobs", json={"configuration": {"query": query(text)}})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["jobReference"]["jobId"])

    def job(self, job_id: str) -> dict[str, Any]:
        body: dict[str, Any] = self.ask("GET", f"jobs/{job_id}").json()
        return body


class SlowRequest:
    """jobs.query whose body does not end until somebody says so: it is let in when its head has come."""

    def __init__(self, agent: Agent, text: str) -> None:
        body = json.dumps(query(text)).encode()
        place = urlsplit(agent.address)
        self._sock = socket.create_connection((place.hostname or "", place.port or 0), 60)
        head = f"POST {BASE}/queries HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {agent.token}\r\n"
        self._sock.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body[:-1])
        self._rest = body[-1:]

    def end(self) -> tuple[int, bytes]:
        with self._sock as sock:
            sock.sendall(self._rest)
            heard = b"".join(iter(lambda: sock.recv(65_536), b""))
        return int(heard.split(b" ", 2)[1]), heard


@dataclass(slots=True)
class Left:
    """What an agent had on its way when it was switched off."""

    agent: Agent
    held: str
    review: str
    running: str
    answered: list[httpx.Response]
    slow: tuple[int, bytes]
    slow_before: tuple[int, bytes]
    before: dict[str, int]


def query(text: str) -> dict[str, Any]:
    return {"query": text, "useLegacySql": False}


def registered(*, enabled: bool) -> dict[str, Any]:
    row = {"name": AGENT, "groups": ["ai-agents"], "owner": "admin", "enabled": enabled}
    return {"apiVersion": "hoopweb/v1", "agents": [row]}


def calls(held: str) -> dict[str, tuple[str, str]]:
    return {
        "jobs.get": ("GET", f"jobs/{held}"),
        "jobs.getQueryResults": ("GET", f"queries/{held}?timeoutMs=0"),
        "jobs.list": ("GET", "jobs"),
        "tabledata.list": ("GET", f"datasets/{DATASET}/tables/wards/data"),
        "tables.get": ("GET", f"datasets/{DATASET}/tables/wards"),
        "datasets.list": ("GET", "datasets"),
    }


@pytest.fixture(scope="module")
def left(stack: Stack, warehouse: str, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Left:
    directory = tmp_path_factory.mktemp("leaving")
    apply(stack, directory, registered(enabled=True))
    agent = Agent(warehouse, stack.new_agent_token(AGENT))
    until(lambda: agent.ask("GET", "datasets").status_code == 200, 60)
    slow_before = SlowRequest(agent, SLOWLY).end()
    held = agent.begin(HELD)
    until(lambda: "hoopweb_review" in agent.job(held)["configuration"]["labels"])
    service.shim.delay_s = 300.0
    running = agent.begin(RUNNING)
    until(lambda: agent.job(running)["status"]["state"] == "RUNNING")
    until(lambda: RUNNING in texts_run(service))  # the gateway says so when it sends it there
    answered: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answered.append(agent.ask("GET", f"queries/{held}", params={"timeoutMs": 60_000}))
    )
    waiting.start()
    before = {name: agent.ask(*call).status_code for name, call in calls(held).items()}
    review = agent.job(held)["configuration"]["labels"]["hoopweb_review"].rstrip("/").rsplit("/", 1)[-1]
    slow = SlowRequest(agent, SLOWLY + " LIMIT 7")

    apply(stack, directory, registered(enabled=False))

    until(lambda: agent.ask("GET", f"jobs/{held}").status_code == 401, 60)
    heard = slow.end()
    waiting.join(90)
    service.shim.delay_s = 0.0
    return Left(agent, held, review, running, answered, heard, slow_before, before)


@pytest.mark.parametrize("name", list(calls("")))
def test_no_call_is_answered_any_more(left: Left, name: str) -> None:
    assert left.before[name] == 200  # the control

    heard = left.agent.ask(*calls(left.held)[name])

    assert heard.status_code == 401
    assert heard.headers["www-authenticate"].startswith("Bearer ")
    error = heard.json()["error"]
    assert (error["code"], error["status"]) == (401, "UNAUTHENTICATED")
    assert error["errors"] == [{"reason": "required", "domain": "global", "message": error["message"]}]


def test_neither_can_it_cancel_or_begin(left: Left) -> None:
    assert left.agent.ask("POST", f"jobs/{left.held}/cancel").status_code == 401
    assert left.agent.ask("POST", "queries", json=query(COUNT)).status_code == 401


def test_who_waits_for_a_held_job_hears_that_it_ended(left: Left) -> None:
    (heard,) = left.answered

    assert heard.status_code == 400
    (error,) = heard.json()["error"]["errors"]
    assert (error["reason"], error["message"]) == ("stopped", f"the job was ended: {WHY}")


def test_a_request_that_arrives_slowly_runs_nothing(left: Left, service: Service) -> None:
    assert left.slow_before[0] == 200  # the control: as slowly, but in time

    status, heard = left.slow

    assert status == 403
    assert WHY in heard.decode()
    ran = texts_run(service)
    assert SLOWLY in ran
    assert SLOWLY + " LIMIT 7" not in ran


def _runs(body: dict[str, Any]) -> bool:
    configuration = body.get("configuration", {})
    return "query" in configuration and not configuration.get("dryRun")


def test_the_running_job_is_cancelled_at_the_service(left: Left, stack: Stack, service: Service) -> None:
    cancelled = until(lambda: [seen for seen in service.shim.requests if seen.path.endswith("/cancel")])

    begun = {
        seen.body["jobReference"]["jobId"]
        for seen in service.shim.requests
        if _runs(seen.body) and seen.body["configuration"]["query"]["query"] == RUNNING
    }
    assert begun & {seen.path.split("/")[-2] for seen in cancelled}
    reasons = until(lambda: found if len(found := closing_reasons(stack)) >= 2 else None)
    assert set(reasons) == {WHY}


def test_the_held_job_never_runs(left: Left, stack: Stack, service: Service, tmp_path: Any) -> None:
    before = ward_of(service, 181)
    body = {"decision": "approve", "reason": "checked with the ward"}
    decided = stack.rest("POST", f"/api/v1/reviews/{left.review}/decision", user="reviewer", json=body)
    assert decided.status_code != 200, decided.text
    assert stack.rest("GET", f"/api/v1/reviews/{left.review}", user="reviewer").json()["status"] == "withdrawn"

    apply(stack, tmp_path, registered(enabled=True))
    until(lambda: left.agent.ask("GET", "datasets").status_code == 200, 60)
    job = left.agent.job(left.held)

    assert job["status"]["state"] == "DONE"
    assert job["status"]["errorResult"] == {"reason": "stopped", "message": f"the job was ended: {WHY}"}
    assert ward_of(service, 181) == before
    again = left.agent.ask("GET", f"queries/{left.held}", params={"timeoutMs": 0})
    assert again.json()["error"]["errors"][0]["reason"] == "stopped"


def closing_reasons(stack: Stack) -> list[str]:
    """Why sessions of the agent ended that did not end by themselves."""
    with psycopg.connect(stack.demo["control_dsn"]) as control:
        rows = control.execute(
            "SELECT close_reason FROM audit_sessionrecord WHERE subject = %s AND protocol = 'bigquery'"
            " AND closed_at IS NOT NULL AND close_reason NOT IN ('finished', 'refused')",
            [AGENT],
        ).fetchall()
    return [str(reason) for (reason,) in rows]


LIMITS: list[tuple[str, dict[str, Any], str]] = [
    ("statements", {"statements_per_minute": 2}, "rateLimitExceeded"),
    ("rows", {"rows_per_day": 1}, "quotaExceeded"),
]


@pytest.fixture(scope="module")
def hurried(stack: Stack, warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Agent]:
    """An agent for each quota."""
    document = {
        "apiVersion": "hoopweb/v1",
        "agents": [{"name": f"quick-{name}", "groups": ["ai-agents"], "owner": "admin"} for name, _, _ in LIMITS],
        "quotas": [
            {"name": f"bq-{name}", "agents": [f"quick-{name}"], "connections": [CONNECTION], **limit}
            for name, limit, _ in LIMITS
        ],
    }
    apply(stack, tmp_path_factory.mktemp("quotas"), document)

    def named(name: str) -> Agent:
        agent = Agent(warehouse, stack.new_agent_token(f"quick-{name}"))
        until(lambda: agent.ask("GET", "datasets").status_code == 200, 60)
        return agent

    return named


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, _, reason in LIMITS])
def test_a_quota_is_told_in_bigquerys_words(hurried: Callable[[str], Agent], name: str, reason: str) -> None:
    agent = hurried(name)

    answers = [agent.ask("POST", "queries", json=query(f"{COUNT} WHERE id <> {n}")) for n in range(6)]
    job = agent.begin(COUNT)
    ended = until(lambda: (found := agent.job(job))["status"]["state"] == "DONE" and found)

    assert answers[0].status_code == 200  # the control
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert refused.status_code == 403
    (error,) = refused.json()["error"]["errors"]
    assert error["reason"] == reason
    assert f"bq-{name}" in error["message"]
    assert ended["status"]["errorResult"]["reason"] == reason
    polled = agent.ask("GET", f"queries/{job}", params={"timeoutMs": 0})
    assert (polled.status_code, polled.json()["error"]["errors"][0]["reason"]) == (403, reason)
