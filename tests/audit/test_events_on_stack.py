"""Every act leaves its entry: done on the running product, read from its control database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.stack import Stack

# Not caused here, and where each is proved instead.
ELSEWHERE = {
    "recording.lost": "tests/audit/test_check.py",
    "log.damage_found": "tests/audit/test_check.py",
    "gateway.stopped": "tests/chaos",
    "review.expired": "tests/approvals",
    "grant.revoked": "tests/approvals",
    "statement.read_again": "tests/bigquery",
    "request.refused": "tests/bigquery",
}


@pytest.fixture
def entries(stack: Stack) -> Iterator[Any]:
    with psycopg.connect(stack.demo["control_dsn"], autocommit=True) as connection:
        (start,) = connection.execute("SELECT max(seq) FROM audit_logentry").fetchone() or (0,)

        def since(kind: str, *, within_s: float = 60, **fields: Any) -> list[dict[str, Any]]:
            """Entries of the kind that have `fields`, once there are any: of others' statements some come late."""
            deadline = time.monotonic() + within_s
            while True:
                rows = connection.execute(
                    "SELECT convert_from(canonical, 'UTF8')::jsonb -> 'body' FROM audit_logentry"
                    " WHERE seq > %s AND kind = %s ORDER BY seq",
                    [start, kind],
                ).fetchall()
                found = [body for (body,) in rows if all(body.get(name) == value for name, value in fields.items())]
                if found or time.monotonic() > deadline:
                    return found
                time.sleep(0.1)

        yield since


def test_a_session_its_statements_and_its_end_are_recorded(stack: Stack, entries) -> None:
    with stack.connect() as connection:
        connection.execute("SELECT id, ssn FROM patients WHERE id = 11").fetchall()
        with pytest.raises(psycopg.Error):
            connection.execute("DROP TABLE patients")

    assert entries("session.opened")[0]["auth_method"] == "oidc"
    assert entries("statement.authorised")[0]["rule"] == "agents-work"
    assert entries("statement.denied")[0]["sqlstate"] == "42501"
    ssn = {"column": "ssn", "count": 1, "rule": "ssn", "technique": "redact"}
    assert entries("statement.completed", masked=[ssn])
    assert entries("session.closed")[0]["reason"]


def test_refused_authentication_is_recorded_without_the_secret(stack: Stack, entries) -> None:
    with pytest.raises(psycopg.OperationalError):
        stack.connect(token="not-a-token-4711")
    assert stack.rest("GET", "/api/v1/sessions", token="not-a-token-4711").status_code == 401

    assert entries("authentication.failed", protocol="postgres")
    assert "token-4711" not in str(entries("authentication.failed"))


def test_tokens_and_tickets_are_recorded_from_purchase_to_use(stack: Stack, entries) -> None:
    token = stack.manage("agent_token", "demo-agent").stdout.strip()
    assert entries("token.issued")[0]["subject"] == "demo-agent"

    bought = stack.rest("POST", "/api/v1/tickets", token=token, json={"connection": "clinic"}).json()
    with stack.connect(token=bought["ticket"]) as connection:
        connection.execute("SELECT 1")

    ticket = entries("ticket.bought")[0]["ticket"]
    assert [redeemed["ticket"] for redeemed in entries("ticket.redeemed")] == [ticket]
    assert entries("session.opened")[0]["auth_method"] == "ticket"


def test_a_hold_its_review_and_its_execution_are_recorded(stack: Stack, entries) -> None:
    done: list[str] = []

    def update() -> None:
        with stack.connect() as connection:
            done.append(connection.execute("UPDATE patients SET phone = '(415) 555-0142' WHERE id = 21").statusmessage)

    thread = threading.Thread(target=update)
    thread.start()
    review = entries("review.opened")[0]["review"]
    answer = stack.rest(
        "POST",
        f"/api/v1/reviews/{review}/decision",
        user="reviewer",
        json={"decision": "approve", "reason": "synthetic reason 4711"},
    )
    thread.join(60)

    assert answer.status_code == 200, answer.text
    assert done == ["UPDATE 1"]
    assert entries("statement.held")[0]["review"] == review
    decided = entries("review.decided")
    assert decided[0]["review"] == review
    assert "reason 4711" not in str(decided)  # what people type is sealed
    assert entries("statement.authorised")[0]["approvers"] == ["reviewer"]


def test_a_client_that_leaves_withdraws_its_review(stack: Stack, entries) -> None:
    connection = stack.connect()
    thread = threading.Thread(target=lambda: _refused(connection, "UPDATE patients SET phone = '1' WHERE id = 22"))
    thread.start()
    entries("review.opened")
    connection.cancel()
    thread.join(60)
    connection.close()

    assert entries("review.withdrawn")


def test_a_kill_is_recorded_with_who_asked(stack: Stack, entries) -> None:
    connection = stack.connect()
    connection.execute("SELECT 1")
    # The newest that speaks this protocol: others' may still be ending.
    live = stack.rest("GET", "/api/v1/sessions?live=1", user="admin").json()["results"]
    session = next(each["id"] for each in live if each["protocol"] == "postgres")

    assert stack.rest("POST", f"/api/v1/sessions/{session}/kill", user="admin").status_code == 202

    assert entries("session.kill_requested")[0]["subject"] == "admin"
    assert entries("session.closed", reason="killed")  # other tests' sessions end meanwhile
    connection.close()


def test_people_signing_in_and_out_are_recorded(stack: Stack, entries) -> None:
    auditor = stack.demo["users"]["auditor"]
    with httpx.Client(base_url=stack.demo["web_url"], follow_redirects=True, trust_env=False, timeout=60) as browser:
        browser.get("/admin/login/")
        form = {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post("/admin/login/", data={**form, "username": "auditor", "password": "wrong"})
        browser.post("/admin/login/", data={**form, "username": "auditor", "password": auditor["password"]})
        browser.post("/admin/logout/", data={"csrfmiddlewaretoken": browser.cookies["csrftoken"]})

    assert entries("authentication.failed")[0]["claimed_subject"] == "auditor"
    assert entries("person.signed_in")[0]["subject"] == "auditor"
    assert entries("person.signed_out")[0]["subject"] == "auditor"


def test_configuration_changes_say_before_and_after(stack: Stack, entries, tmp_path) -> None:
    document = stack.manage("export").stdout
    changed = tmp_path / "changed.yaml"
    changed.write_text(document.replace("technique: zip3", "technique: redact", 1))
    original = tmp_path / "original.yaml"
    original.write_text(document)
    try:
        assert stack.manage("apply", "-f", str(changed)).returncode == 0
    finally:
        assert stack.manage("apply", "-f", str(original)).returncode == 0

    change = entries("config.changed")[0]["changes"][0]

    differing = {name for name in change["after"] if change["before"].get(name) != change["after"][name]}
    assert differing == {"technique"}


def test_exports_and_checks_are_recorded(stack: Stack, entries, tmp_path) -> None:
    assert stack.manage("audit_check").returncode == 0
    assert stack.manage("audit_bundle", "-o", str(tmp_path / "b")).returncode == 0

    assert entries("evidence.checked")[0]["findings"] == 0
    assert entries("evidence.exported")[0]["scope"] == {"kind": "all"}


def test_the_gateways_start_is_recorded(stack: Stack) -> None:
    with psycopg.connect(stack.demo["control_dsn"]) as connection:
        started = connection.execute("SELECT count(*) FROM audit_logentry WHERE kind = 'gateway.started'").fetchone()

    assert started is not None
    assert started[0] >= 1


def _refused(connection: psycopg.Connection[Any], statement: str) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute(statement)
