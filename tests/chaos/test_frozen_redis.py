"""A Redis that is there and answers nobody: what needs it only to hear sooner goes on, and nobody waits for it."""

from __future__ import annotations

import threading
import uuid
from contextlib import closing
from dataclasses import replace

import httpx
import pytest

from tests.bypass.wire import Answer, Target, Wire
from tests.chaos.servers import APP_PASSWORD, Upstream, frozen, wait_until
from tests.management import ManagementServer
from tests.reviews import pending_review, post_decision, reviewer
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: far-frozen, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true}}
access:
  - {{name: frozen, groups: [far-agents], connections: [far-frozen], operations: [read]}}
"""
_DENIAL = """
policies:
  - {name: frozen, connections: [far-frozen], when: {columns: [public.marks.label]}, action: deny}
"""


def asked(wire: Wire, sql: str, answers: list[Answer]) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.append(wire.simple(sql)), daemon=True)
    thread.start()
    return thread


def test_held_statement_is_told_decided_and_run_while_redis_is_frozen(
    fragile: Stack, upstream: Upstream, far: Target
) -> None:
    label, answers = uuid.uuid4().hex, list[Answer]()
    token = reviewer(fragile)
    with (
        Wire(far, timeout_s=120, cancel_holds=False) as wire,
        Wire(far, timeout_s=120) as other,
        frozen(fragile.pids()["redis"]),
    ):
        held = asked(wire, f"UPDATE patients SET ssn = '{label}' WHERE id = 11", answers)
        url = pending_review(fragile, label, within_s=60)
        decided = post_decision(fragile, url, "approve", token=token)
        held.join(90)
        others = other.simple("SELECT ssn FROM patients WHERE id = 12")

        assert decided.status_code == 200, decided.text
        assert [answer.tags for answer in answers] == [["UPDATE 1"]]
        assert len(others.rows) == 1

    assert upstream.query("SELECT ssn FROM patients WHERE id = 11") == [(label,)]
    fragile.wait_healthy(within_s=90)


def test_rules_change_while_redis_is_frozen(fragile: Stack, upstream: Upstream, far: Target) -> None:
    """Telling the gateways is given up soon; they ask for themselves. On a connection nobody else uses."""
    document = _DOCUMENT.format(port=upstream.server.port, password=APP_PASSWORD)
    assert fragile.manage("apply", "-f", "-", stdin=document).returncode == 0
    management = ManagementServer(fragile.env)  # the stack's own waits until Redis says that the rules hold
    with closing(management), Wire(replace(far, database="far-frozen"), timeout_s=120) as wire:
        assert wire.simple("SELECT label FROM marks LIMIT 0").tags == ["SELECT 0"]
        with frozen(fragile.pids()["redis"]):
            done = management.run("apply", "-f", "-", stdin=document + _DENIAL, timeout_s=60)
            assert done.returncode == 0, done.stderr
            wait_until(
                lambda: wire.simple("SELECT label FROM marks LIMIT 0").sqlstate == "42501",
                within_s=60,
                what="the new rule to hold",
            )
    fragile.wait_healthy(within_s=90)


def test_session_that_nobody_can_be_told_to_end_is_said_to_go_on(fragile: Stack, far: Target) -> None:
    admin = {"Authorization": f"Bearer {fragile.demo['users']['admin']['token']}"}
    sessions = f"{fragile.demo['web_url']}/api/v1/sessions"
    with Wire(far, timeout_s=120) as wire:
        wire.simple("SELECT 1")
        newest = httpx.get(sessions, params={"live": "1", "connection": "far"}, headers=admin, timeout=60).json()
        ours = newest["results"][0]["id"]
        with frozen(fragile.pids()["redis"]):
            answer = httpx.post(f"{sessions}/{ours}/kill", headers=admin, timeout=60)

            assert answer.status_code == 503
            assert answer.json()["code"] == "not-told"
            assert wire.simple("SELECT 2").rows == [(b"2",)]
        fragile.wait_healthy(within_s=90)
        assert httpx.post(f"{sessions}/{ours}/kill", headers=admin, timeout=60).status_code == 202
        wait_until(lambda: wire.simple("SELECT 3").lost, within_s=60, what="the session to end")
