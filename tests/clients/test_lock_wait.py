"""A statement that waits for a row's lock while something about it changes: what it shows follows what holds then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.clients.conftest import PASSWORD
from tests.reviews import pending_review, post_decision, review_id, reviewer
from tests.stack import Stack

_CONNECTION = """
apiVersion: hoopweb/v1
connections:
  - {{name: waits, kind: postgres, host: 127.0.0.1, port: {port}, database: ledger, username: ledger_app,
      password: {{value: {password}}}, tls: disable, phi: true}}
access:
  - {{groups: [wait-agents], connections: [waits], operations: [read, write]}}
agents:
  - {{name: wait-agent, groups: [wait-agents], owner: admin}}
policies:
  - {{name: waits-writes, connections: [waits], when: {{operation: [write]}}, action: require_approval,
      reviewers: [privacy-officers]}}
"""
_RULE = """
apiVersion: hoopweb/v1
masking:
  - {name: waits-secret, connections: [waits], columns: [public.waits.secret], technique: redact, inference: open}
"""
CANARY = "Vexilloryx"
WITHIN_S = 60


@pytest.fixture
def waits(stack: Stack, ledger_dsn: str) -> Iterator[str]:
    """A connection whose writes are reviewed, over one table; removed with its rule afterwards."""
    with psycopg.connect(stack.superuser_dsn("ledger"), autocommit=True) as owner:
        owner.execute("DROP TABLE IF EXISTS waits")
        owner.execute("CREATE TABLE waits (id integer PRIMARY KEY, secret text)")
        owner.execute("INSERT INTO waits VALUES (1, %s), (2, %s)", [CANARY, CANARY])
        owner.execute("GRANT ALL ON waits TO ledger_app")
        apply(stack, _CONNECTION.format(port=psycopg.conninfo.conninfo_to_dict(stack.superuser_dsn())["port"],
                                        password=PASSWORD))  # fmt: skip
        yield stack.gateway_dsn(user="wait-agent", connection="waits")
        owner.execute("DROP TABLE waits")


def apply(stack: Stack, document: str) -> None:
    done = stack.manage("apply", "-f", "-", stdin=document)
    assert done.returncode == 0, done.stderr


@contextmanager
def locked(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.superuser_dsn("ledger")) as holder:
        holder.execute("SELECT FROM waits WHERE id = 1 FOR UPDATE")
        yield holder
        holder.rollback()


class Asking:
    """One statement in a session of the agent's, on a thread of its own; `heard` is rows or an error."""

    def __init__(self, dsn: str, text: str) -> None:
        self.heard: Any = None
        self._dsn, self._text = dsn, text
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as agent:
                self.heard = agent.execute(self._text.encode()).fetchall()
        except psycopg.Error as error:
            self.heard = error

    def ended(self) -> Any:
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()
        return self.heard


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (found := look()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return found


_WAITING = "SELECT 1 FROM pg_stat_activity WHERE usename = 'ledger_app' AND wait_event_type = 'Lock'"


def waits_for_the_lock(stack: Stack) -> None:
    with psycopg.connect(stack.superuser_dsn("ledger"), autocommit=True) as owner:
        until(lambda: owner.execute(_WAITING).fetchone())


def is_masked(dsn: str) -> bool:
    """Asked in a session of its own: one ends with a statement in the middle of which the rules change."""
    try:
        with psycopg.connect(dsn, autocommit=True) as agent:
            return agent.execute("SELECT secret FROM waits WHERE id = 2").fetchall() != [(CANARY,)]
    except psycopg.errors.InsufficientPrivilege:
        return False


WRITE = "UPDATE waits SET id = id WHERE id = 1 RETURNING secret"


def test_control_what_waited_is_shown_when_nothing_changed(stack: Stack, waits: str) -> None:
    with locked(stack):
        asking = Asking(waits, WRITE)
        decided(stack, "approve")
        waits_for_the_lock(stack)

    assert asking.ended() == [(CANARY,)]


def decided(stack: Stack, decision: str) -> str:
    url = pending_review(stack, "RETURNING secret")
    answer = post_decision(stack, url, decision, token=reviewer(stack))
    assert answer.status_code == 200, answer.text
    return review_id(url)


def test_approval_that_was_revoked_meanwhile_shows_nothing(stack: Stack, waits: str) -> None:
    with locked(stack) as holder:
        asking = Asking(waits, WRITE)
        review = decided(stack, "approve")
        waits_for_the_lock(stack)
        listed = stack.rest("GET", "/api/v1/grants", user="reviewer").json()["results"]
        (grant,) = [each for each in listed if review in str(each)]
        answer = stack.rest("POST", f"/api/v1/grants/{grant['id']}/revoke", user="reviewer")
        assert answer.status_code == 200, answer.text
        heard = asking.ended()  # while the lock is still held
        holder.rollback()

    assert isinstance(heard, psycopg.Error)
    assert CANARY not in str(heard)


def test_session_that_an_administrator_ended_shows_nothing(stack: Stack, waits: str) -> None:
    with locked(stack):
        asking = Asking(waits, WRITE)
        decided(stack, "approve")
        waits_for_the_lock(stack)
        with psycopg.connect(stack.demo["control_dsn"], autocommit=True) as control:
            # The newest: of the one before, the end may be on its way to the records.
            (session,) = control.execute(
                "SELECT id FROM audit_sessionrecord WHERE connection = 'waits' AND closed_at IS NULL "
                "ORDER BY opened_at DESC LIMIT 1"
            ).fetchone()
        answer = stack.rest("POST", f"/api/v1/sessions/{session}/kill", user="admin")
        assert answer.status_code < 300, answer.text
        heard = asking.ended()

    assert isinstance(heard, psycopg.Error)
    assert CANARY not in str(heard)


def test_column_that_was_protected_meanwhile_is_not_shown(stack: Stack, waits: str) -> None:
    with locked(stack):
        asking = Asking(waits, WRITE)
        decided(stack, "approve")
        waits_for_the_lock(stack)
        apply(stack, _RULE)
        until(lambda: is_masked(waits))

    assert CANARY not in str(asking.ended())
