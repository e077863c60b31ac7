"""Native PostgreSQL as the contract words it: tokens, notices while held, denials with hint and detail."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

from tests.stack import Stack

# New with every run, so that a stack that is tested twice has never seen these statements.
PHONE = f"({time.time_ns() % 900 + 100}) 555"


def test_token_of_another_agent_is_refused(stack: Stack):
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(stack.gateway_dsn(token=stack.agent_token()).replace("user=demo-agent", "user=admin"))


def test_unknown_connection_is_refused(stack: Stack):
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(stack.gateway_dsn(connection="nowhere"))


def test_denial_has_sqlstate_rule_hint_and_session(stack: Stack):
    with stack.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege) as denied:
        connection.execute("drop table patients")

    assert denied.value.diag.message_hint
    assert "session" in (denied.value.diag.message_detail or "")


def test_held_statement_tells_the_review_and_waits(stack: Stack):
    notices: list[str] = []
    outcome: list[Any] = []

    def hold() -> None:
        with stack.connect() as connection:
            connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
            cursor = connection.execute(f"update patients set phone = '{PHONE}-21' where id = 121")
            outcome.append(cursor.rowcount)

    waiting = threading.Thread(target=hold)
    waiting.start()
    deadline = time.monotonic() + 60
    while not notices and time.monotonic() < deadline:
        time.sleep(0.05)
    url = notices[0].split()[-1]
    assert url.startswith(stack.demo["web_url"])
    review = url.rstrip("/").rsplit("/", 1)[-1]
    assert outcome == []
    answer = stack.rest(
        "POST", f"/api/v1/reviews/{review}/decision", user="reviewer", json={"decision": "approve", "reason": "fine"}
    )
    waiting.join(60)

    assert answer.status_code == 200, answer.text
    assert outcome == [1]


def test_client_that_leaves_withdraws_its_request(stack: Stack):
    notices: list[str] = []
    connection = stack.connect()
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    waiting = threading.Thread(
        target=lambda: _quietly(connection, f"update patients set phone = '{PHONE}-22' where id = 122")
    )
    waiting.start()
    deadline = time.monotonic() + 60
    while not notices and time.monotonic() < deadline:
        time.sleep(0.05)
    review = notices[0].split()[-1].rstrip("/").rsplit("/", 1)[-1]

    connection.cancel()
    waiting.join(60)
    connection.close()

    answer = stack.rest(
        "POST", f"/api/v1/reviews/{review}/decision", user="reviewer", json={"decision": "approve", "reason": "late"}
    )
    assert answer.status_code >= 400
    with stack.direct() as direct:
        row = direct.execute("select phone from patients where id = 122").fetchone()
    assert row is not None
    assert row[0] != f"{PHONE}-22"


def _quietly(connection: psycopg.Connection[Any], text: str) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute(text)
