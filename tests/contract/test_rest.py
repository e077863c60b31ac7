"""The REST and WebSocket names outside checks rely on, driven as a stranger would with only demo.json in hand."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from typing import Any

import psycopg
import pytest
from websockets.sync.client import connect as connect_websocket

from tests.reviews import pending_review, review_id
from tests.stack import Stack

# New with every run, so that a stack that is tested twice has never seen these statements.
PHONE = f"({time.time_ns() % 900 + 100}) 555"
STATEMENTS = "/api/v1/connections/clinic/statements"


def post(stack: Stack, statement: str, **body: Any) -> Any:
    return stack.rest("POST", STATEMENTS, json={"statement": statement, **body})


def decide(stack: Stack, review_id: str, decision: str, *, user: str = "reviewer", **body: Any) -> Any:
    return stack.rest(
        "POST",
        f"/api/v1/reviews/{review_id}/decision",
        user=user,
        json={"decision": decision, "reason": "checked with the ward", **body},
    )


def until(stack: Stack, statement_id: str, *statuses: str, within_s: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while True:
        answer: dict[str, Any] = stack.rest("GET", f"/api/v1/statements/{statement_id}").json()
        if answer["status"] in statuses:
            return answer
        assert time.monotonic() < deadline, f"still {answer['status']}, expected {statuses}"
        time.sleep(0.1)


def phone_of(stack: Stack, patient: int) -> str:
    with stack.direct() as direct:
        row = direct.execute("select phone from patients where id = %s", (patient,)).fetchone()
    assert row is not None
    return str(row[0])


def test_statement_completes_with_masked_columns_named(stack: Stack):
    answer = post(stack, "select id, ssn, state from patients where id = $1", parameters=[5])

    assert answer.status_code == 200
    body = answer.json()
    assert {"id", "session_id", "status", "columns", "rows", "row_count"} <= body.keys()
    assert body["status"] == "completed"
    assert [column["name"] for column in body["columns"]] == ["id", "ssn", "state"]
    assert [(column["masked"], column["rule"]) for column in body["columns"][:2]] == [(False, None), (True, "ssn")]
    with stack.direct() as direct:
        clear = direct.execute("select ssn from patients where id = 5").fetchone()
    assert clear is not None
    assert body["rows"][0][0] == 5
    assert clear[0] not in json.dumps(body)
    later = stack.rest("GET", f"/api/v1/statements/{body['id']}").json()
    assert later["rows"] == body["rows"]


def test_denied_statement_is_a_problem_document(stack: Stack):
    answer = post(stack, "drop table patients")

    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert {"reason", "rule", "permitted_alternative", "session_id"} <= answer.json().keys()


def test_database_error_is_told_without_values(stack: Stack):
    answer = post(stack, "select no_such_column from patients where id = 1")

    assert 400 <= answer.status_code < 500
    assert "42703" in answer.text


@pytest.mark.parametrize("token", ["", "not-a-token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJkZW1vLWFnZW50In0."])
def test_nobody_is_unauthorised(stack: Stack, token: str):
    answer = stack.rest("POST", STATEMENTS, token=token or "x", json={"statement": "select 1"})

    assert answer.status_code == 401


def test_held_statement_runs_once_after_approval_and_is_read_later(stack: Stack):
    held = post(stack, f"update patients set phone = '{PHONE}-11' where id = 111")

    assert held.status_code == 202
    body = held.json()
    assert body["status"] == "pending"
    assert {"id", "url", "expires_at"} <= body["review"].keys()
    pending = stack.rest("GET", "/api/v1/reviews?status=pending", user="reviewer").json()
    assert body["review"]["id"] in json.dumps(pending)
    before = phone_of(stack, 111)
    assert before != f"{PHONE}-11"
    assert decide(stack, body["review"]["id"], "approve").status_code == 200
    done = until(stack, body["id"], "completed")
    assert done["row_count"] == 1
    assert phone_of(stack, 111) == f"{PHONE}-11"


def test_later_call_with_the_same_statement_uses_the_grant_once(stack: Stack):
    text = f"update patients set phone = '{PHONE}-12' where id = 112"
    review = post(stack, text).json()["review"]["id"]
    decide(stack, review, "approve")

    again = post(stack, text, wait_s=60)
    third = post(stack, text)

    assert (again.status_code, again.json()["status"]) == (200, "completed")
    assert third.status_code == 202
    assert third.json()["review"]["id"] != review


def test_call_that_waits_is_held_until_the_decision(stack: Stack):
    text = f"update patients set phone = '{PHONE}-13' where id = 113"
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(post(stack, text, wait_s=60)))

    waiting.start()
    review = review_id(pending_review(stack, f"{PHONE}-13"))
    decide(stack, review, "approve")
    waiting.join(60)

    assert answers[0].status_code == 200
    assert answers[0].json()["status"] == "completed"


def test_what_ran_is_kept_as_that_and_recorded_whole(stack: Stack):
    """Whoever has the answer hangs up at once: what is left to do for the statement is done nevertheless."""
    asked = [post(stack, "update encounters set status = status where id = -1").json() for _ in range(20)]

    assert {answer["status"] for answer in asked} == {"completed"}
    assert {until(stack, answer["id"], "completed")["status"] for answer in asked} == {"completed"}
    sessions = [answer["session_id"] for answer in asked]
    ended = "SELECT count(*) FROM audit_sessionrecord WHERE id = ANY(%s) AND close_reason = 'finished'"
    deadline = time.monotonic() + 60
    with psycopg.connect(stack.demo["control_dsn"], autocommit=True) as control:
        while control.execute(ended, [sessions]).fetchone() != (20,):
            assert time.monotonic() < deadline, "a session has no end, or another one"
            time.sleep(0.1)


def test_denied_review_ends_the_statement(stack: Stack):
    held = post(stack, f"update patients set phone = '{PHONE}-14' where id = 114").json()
    decide(stack, held["review"]["id"], "deny")

    assert until(stack, held["id"], "denied")["status"] == "denied"
    assert phone_of(stack, 114) != f"{PHONE}-14"


def test_modified_statement_says_what_ran_and_what_was_asked(stack: Stack):
    asked = f"update patients set phone = '{PHONE}-15' where id in (115, 116)"
    modified = f"update patients set phone = '{PHONE}-15' where id = 115"
    untouched = phone_of(stack, 116)
    held = post(stack, asked).json()

    answer = decide(stack, held["review"]["id"], "modify", statement=modified)

    assert answer.status_code == 200, answer.text
    done = until(stack, held["id"], "completed")
    assert (done["statement"], done["modified_from"]) == (modified, asked)
    assert phone_of(stack, 115) == f"{PHONE}-15"
    assert phone_of(stack, 116) == untouched


@pytest.mark.parametrize("user", ["auditor", "admin"])
def test_only_a_reviewer_of_the_group_decides(stack: Stack, user: str):
    held = post(stack, f"update patients set phone = '{PHONE}-17' where id = 117").json()

    answer = decide(stack, held["review"]["id"], "approve", user=user)

    assert answer.status_code == 403
    assert stack.rest("GET", f"/api/v1/statements/{held['id']}").json()["status"] == "pending"


def test_agent_never_decides(stack: Stack):
    held = post(stack, f"update patients set phone = '{PHONE}-18' where id = 118").json()

    answer = stack.rest(
        "POST", f"/api/v1/reviews/{held['review']['id']}/decision", json={"decision": "approve", "reason": "please"}
    )

    assert answer.status_code == 403


def test_dry_run_explains_without_running(stack: Stack):
    before = phone_of(stack, 119)

    answer = post(stack, "update patients set phone = 'x' where id = 119", dry_run=True)

    assert answer.status_code == 200
    assert phone_of(stack, 119) == before


def test_ticket_is_a_password_once(stack: Stack):
    bought = stack.rest("POST", "/api/v1/tickets", json={"connection": "clinic"})
    assert bought.status_code in {200, 201}, bought.text
    ticket = next(value for key, value in bought.json().items() if key in {"password", "ticket"})
    dsn = stack.gateway_dsn(token=ticket)

    with psycopg.connect(dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


def test_session_is_listed_and_killed(stack: Stack):
    with stack.connect() as connection:
        connection.execute("select 1")
        sessions = stack.rest("GET", "/api/v1/sessions", user="auditor").json()
        listed = sessions["results"] if isinstance(sessions, dict) else sessions
        newest = next(each for each in listed if each["protocol"] == "postgres")
        killed = stack.rest("POST", f"/api/v1/sessions/{newest['id']}/kill", user="admin")
        assert killed.status_code in {200, 202, 204}, killed.text
        deadline = time.monotonic() + 60
        with pytest.raises(psycopg.Error):  # noqa: PT012  until the kill arrives
            while time.monotonic() < deadline:
                connection.execute("select 1")
                time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("DELETE FROM diagnoses", "require_approval"),
        ("DELETE FROM diagnoses WHERE true", "require_approval"),
        ("TRUNCATE diagnoses", "require_approval"),
        ("WITH gone AS (DELETE FROM diagnoses RETURNING 1) SELECT 1", "require_approval"),
        ("DELETE FROM diagnoses WHERE id = 1", "allow"),
        ("INSERT INTO diagnoses (id) VALUES (-1)", "allow"),
    ],
)
def test_demo_asks_about_writes_of_whole_tables(stack: Stack, text: str, action: str):
    """Nothing of it is protected; nobody wants it to happen by mistake."""
    answer = stack.rest("POST", STATEMENTS, json={"statement": text, "dry_run": True}).json()

    assert answer["decision"]["action"] == action
    assert (answer["decision"]["rule"] == "whole-table-writes") == (action != "allow")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("SELECT ssn FROM patients LIMIT 5000", "require_approval"),
        ("SELECT ssn, ARRAY(SELECT 1 LIMIT 0) FROM (SELECT * FROM patients LIMIT 5000) p", "require_approval"),
        ("VALUES (ARRAY(SELECT ssn FROM patients))", "require_approval"),
        ("SELECT p.ssn FROM patients p, LATERAL (VALUES (p.id)) v(i) WHERE p.id = v.i", "require_approval"),
        ("SELECT id + 0, max(ssn) FROM patients GROUP BY id + 0", "require_approval"),
        ("SELECT state, max(ssn) FROM patients GROUP BY state", "allow"),
        ("SELECT count(ssn) FROM patients", "allow"),
    ],
)
def test_demo_asks_about_bulk_reads_however_they_are_written(stack: Stack, text: str, action: str):
    answer = stack.rest("POST", STATEMENTS, json={"statement": text, "dry_run": True}).json()

    assert answer["decision"]["action"] == action
    assert (answer["decision"]["rule"] == "bulk-reads") == (action != "allow")


def test_websocket_streams_the_same_answer(stack: Stack):
    url = stack.demo["web_url"].replace("http", "ws") + "/ws/v1/connections/clinic/"
    headers = {"Authorization": f"Bearer {stack.agent_token()}"}

    with connect_websocket(url, additional_headers=headers, proxy=None) as socket:
        socket.send(json.dumps({"statement": "select id, ssn from patients where id = 5"}))
        frames = []
        while not frames or frames[-1]["type"] not in {"completed", "denied", "failed"}:
            frames.append(json.loads(socket.recv(timeout=60)))

    assert frames[-1]["type"] == "completed"
    with stack.direct() as direct:
        clear = direct.execute("select ssn from patients where id = 5").fetchone()
    assert clear is not None
    assert clear[0] not in json.dumps(frames)


def test_websocket_tells_of_a_held_statement_as_rest_does(stack: Stack):
    url = stack.demo["web_url"].replace("http", "ws") + "/ws/v1/connections/clinic/"
    headers = {"Authorization": f"Bearer {stack.agent_token()}"}

    with connect_websocket(url, additional_headers=headers, proxy=None) as socket:
        socket.send(json.dumps({"statement": f"update patients set phone = '{PHONE}-31' where id = 131"}))
        frame: dict[str, Any] = {"type": ""}
        while frame["type"] != "pending":
            frame = json.loads(socket.recv(timeout=60))

    held = post(stack, f"update patients set phone = '{PHONE}-32' where id = 132").json()
    assert frame["review"].keys() == held["review"].keys()
    moments = [datetime.fromisoformat(review["expires_at"]) for review in (frame["review"], held["review"])]
    assert all(moment.tzinfo is not None for moment in moments)
    assert decide(stack, held["review"]["id"], "deny").status_code == 200  # nobody is left waiting


def test_schema_is_served(stack: Stack):
    answer = stack.rest("GET", "/api/v1/schema/")

    assert answer.status_code == 200
    assert "openapi" in answer.text


def test_statement_sent_again_with_its_key_runs_once(stack: Stack):
    key = {"Idempotency-Key": f"run-{time.time_ns()}"}
    count = {"statement": "select id, ssn from patients where id = $1", "parameters": [7]}
    first = stack.rest("POST", STATEMENTS, json=count, headers=key)

    again = stack.rest("POST", STATEMENTS, json=count, headers=key)

    assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (200, 200, "true")
    assert (again.json()["id"], again.json()["rows"]) == (first.json()["id"], first.json()["rows"])
    other = stack.rest("POST", STATEMENTS, json={**count, "parameters": [8]}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
