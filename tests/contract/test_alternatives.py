"""Every alternative a client is given, on every door, is sent in its place and runs."""

from __future__ import annotations

import re
import threading

import psycopg
import pytest

from tests.contract.test_rest import STATEMENTS
from tests.stack import Stack

# What the demo holds: a bulk read, a comparison on a protected column, both, an export.
HELD = [
    "select id, ssn, state from patients",
    "select state, ssn from patients where ssn like '9%' and state = 'NY' limit 20",
    "select id, last_name from patients where dob > '1990-01-01'",
]


@pytest.mark.parametrize("statement", HELD)
def test_alternative_over_rest_runs(stack: Stack, statement: str):
    held = stack.rest("POST", STATEMENTS, json={"statement": statement})
    assert held.status_code == 202, held.text
    instead = held.json()["permitted_statement"]
    assert instead.lower() != statement

    answer = stack.rest("POST", STATEMENTS, json={"statement": instead})

    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    kept = stack.rest("GET", f"/api/v1/statements/{held.json()['id']}").json()
    assert "permitted_statement" not in str({**kept, "statement": ""})


def test_alternative_over_the_native_protocol_runs(stack: Stack):
    notices: list[psycopg.errors.Diagnostic] = []
    with stack.connect(autocommit=True) as agent:
        agent.add_notice_handler(notices.append)
        with pytest.raises(psycopg.errors.QueryCanceled):
            cancelled_once_told(agent, HELD[0], notices)
        told = re.search(r"^allowed now: (.+)$", notices[-1].message_hint or "", re.M)
        assert told is not None, notices[-1].message_hint

        assert agent.execute(told[1].encode()).fetchone() is not None


def cancelled_once_told(agent: psycopg.Connection, statement: str, notices: list[psycopg.errors.Diagnostic]) -> None:
    """Run `statement` until the notice of its review came, then withdraw it."""

    def withdraw() -> None:
        while not notices:
            threading.Event().wait(0.05)
        agent.cancel_safe()

    waiting = threading.Thread(target=withdraw)
    waiting.start()
    try:
        agent.execute(statement.encode())
    finally:
        waiting.join()
