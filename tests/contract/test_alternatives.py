"""Every alternative a client is given, on every door, is sent in its place and runs."""

from __future__ import annotations

import re
import threading
import time

import psycopg
import pytest

from tests.contract.test_rest import STATEMENTS
from tests.stack import Stack

# What the demo holds: a bulk read, a comparison on a protected column, both, an export.
NEW = -(time.time_ns() % 1_000_000)  # with every run: what is held already is picked up, and told nothing again
HELD = [
    f"select id, ssn, state from patients where id > {NEW}",
    f"select state, ssn from patients where ssn like '9%' and id > {NEW} limit 20",
    f"select id, last_name from patients where dob > '1990-01-01' and id > {NEW}",
]


@pytest.mark.parametrize("statement", HELD, ids=["bulk", "inference", "both"])
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
    hints: list[str] = []  # a diagnostic is gone with its notice
    with stack.connect(autocommit=True) as agent:
        agent.add_notice_handler(lambda notice: hints.append(notice.message_hint or ""))
        with pytest.raises(psycopg.errors.QueryCanceled):
            cancelled_once_told(agent, HELD[0].replace("id, ", ""), hints)
        told = re.search(r"^allowed now: (.+)$", hints[0], re.M)
        assert told is not None, hints

        assert agent.execute(told[1].encode()).fetchone() is not None


def cancelled_once_told(agent: psycopg.Connection, statement: str, hints: list[str]) -> None:
    """Run `statement` until the notice of its review came, then withdraw it."""

    def withdraw() -> None:
        while not hints:
            threading.Event().wait(0.05)
        agent.cancel_safe()

    waiting = threading.Thread(target=withdraw)
    waiting.start()
    try:
        agent.execute(statement.encode())
    finally:
        waiting.join()
