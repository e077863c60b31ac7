"""Agent-specific: an agent that is careless (writes masks back), or patient (waits for an approval and bends it)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.upstreams.state import TRUST_S
from tests.bypass.attack import Arena, Mode, attack, describe, play
from tests.bypass.wire import Answer, Wire
from tests.reviews import decide, pending_review, post_decision, review, reviewer
from tests.stack import Stack

WRITE = "UPDATE patients SET phone = '(000) 555-0000' WHERE id = 900002"


@pytest.mark.e2e
@pytest.mark.parametrize("mode", [Mode.SIMPLE, Mode.EXTENDED_TEXT])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE patients SET ssn = '[redacted]' WHERE id = 900001",
        "UPDATE patients SET (first_name, last_name) = ('x', 'y') WHERE id = 900001",
        "INSERT INTO patients SELECT id + 100000, mrn || 'x', first_name, last_name, ssn || 'x', dob, sex, email, "
        "phone, address, city, state, zip, active, registered_at FROM patients WHERE id = 900001",
        "DELETE FROM patients WHERE id = 900002",
        "MERGE INTO patients t USING (SELECT 900001 AS id) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET ssn = 'x'",
        "WITH u AS (UPDATE patients SET ssn = 'x' WHERE id = 900001 RETURNING id) SELECT * FROM u",
        "MERGE INTO patients t USING (SELECT 900002 AS id) s ON t.id = s.id WHEN MATCHED THEN DELETE",
        "DELETE FROM attack_view WHERE id = 900002",
        "EXPLAIN (\"analyze\") UPDATE patients SET ssn = 'x' WHERE id = 900001",
        "EXPLAIN (costs off, U&\"\\0061nalyze\") UPDATE patients SET ssn = 'x' WHERE id = 900001",
        'EXPLAIN ("analyze" true, verbose) DELETE FROM patients WHERE id = 900002',
    ],
)
@pytest.mark.by_turns(2)
def test_write_to_protected_columns_never_runs_unseen(arena: Arena, sql: str, mode: Mode) -> None:
    before = stored(arena)

    answer = play(arena.gateway, attack("write-back", sql), mode, rehearsal=False)

    assert answer.refused, describe(answer)
    assert stored(arena) == before


@pytest.mark.e2e
def test_approval_runs_the_held_statement_once(arena: Arena, stack: Stack) -> None:
    with held(arena, WRITE) as (answer, url):
        decide(stack, url, "approve")

    assert answer.tags == ["UPDATE 1"], describe(answer)
    again = play(arena.gateway, attack("again", WRITE), Mode.SIMPLE, rehearsal=False)
    assert again.review_url is not None, "the second run of a once-approved statement was not held"


@pytest.mark.e2e
def test_denied_review_ends_the_held_statement(arena: Arena, stack: Stack) -> None:
    before = stored(arena)

    with held(arena, WRITE) as (answer, url):
        decide(stack, url, "deny")

    assert (answer.sqlstate, answer.tags) == ("42501", [])
    assert stored(arena) == before


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("UPDATE patients SET phone = $1 WHERE id = $2", [b"(000) 555-0001", b"900001"]),
        ("UPDATE patients SET phone = $1 WHERE id = $2 ", [b"(000) 555-0000", b"900002"]),
        ("UPDATE patients SET email = $1 WHERE id = $2", [b"(000) 555-0000", b"900002"]),
    ],
    ids=["other-parameters", "other-bytes", "other-column"],
)
def test_approval_covers_nothing_but_what_was_approved(
    arena: Arena, stack: Stack, sql: str, parameters: list[bytes | None]
) -> None:
    """While one statement waits and is approved, a second session sends a variation and must wait for its own."""
    approved = "UPDATE patients SET phone = $1 WHERE id = $2"
    with held(arena, approved, [b"(000) 555-0000", b"900002"]) as (answer, url), Wire(arena.gateway) as other:
        decide(stack, url, "approve")
        variation = other.extended(sql, parameters)

    assert variation.review_url is not None, describe(variation)
    assert variation.review_url != url
    assert answer.tags == ["UPDATE 1"], describe(answer)


@pytest.mark.e2e
def test_approval_is_void_once_its_names_mean_something_else(arena: Arena, stack: Stack) -> None:
    """A reviewer let an export with a condition on `sex` go; by then the condition is one on the SSN."""
    asked = "COPY (SELECT id, 'void' FROM attack_swap WHERE v LIKE '536-71-%') TO STDOUT"
    with viewing(arena, "sex::text"), held(arena, asked) as (answer, url):
        viewed(arena, "ssn::text")
        decide(stack, url, "approve")

    assert (answer.sqlstate, answer.copied) == ("42501", b""), describe(answer)


@pytest.mark.e2e
def test_review_is_not_joined_by_whose_names_mean_something_else(arena: Arena, stack: Stack) -> None:
    asked = "COPY (SELECT id, 'join' FROM attack_swap WHERE v LIKE '536-71-%') TO STDOUT"
    with viewing(arena, "sex::text"), held(arena, asked) as (answer, url):
        viewed(arena, "ssn::text")
        with Wire(arena.gateway) as other:
            joined = other.simple(asked)
        viewed(arena, "sex::text")
        decide(stack, url, "approve")

    assert joined.review_url is not None, describe(joined)
    assert joined.review_url != url
    assert answer.tags == ["COPY 0"], describe(answer)  # the control: nothing has changed for whoever asked


@contextmanager
def viewing(arena: Arena, expression: str) -> Iterator[None]:
    viewed(arena, expression)
    try:
        yield
    finally:
        viewed(arena, "sex::text")


def viewed(arena: Arena, expression: str) -> None:
    """Replace the view, and wait until the gateway knows."""
    with Wire(arena.owner) as owner:
        owner.simple(f"CREATE OR REPLACE VIEW attack_swap AS SELECT id, {expression} AS v FROM patients")
    time.sleep(TRUST_S + 0.5)


@pytest.mark.e2e
def test_neither_the_agent_nor_its_owner_may_approve(arena: Arena, stack: Stack) -> None:
    with held(arena, WRITE) as (answer, url):
        by_agent = post_decision(stack, url, "approve", token=stack.agent_token("demo-agent"))
        by_owner = post_decision(stack, url, "approve", token=stack.demo["users"]["admin"]["token"])
        decide(stack, url, "deny")

    assert (by_agent.status_code, by_owner.status_code) == (403, 403)
    assert answer.tags == []


@pytest.mark.e2e
def test_client_that_leaves_takes_its_review_along(arena: Arena, stack: Stack) -> None:
    before = stored(arena)
    wire = Wire(arena.gateway, cancel_holds=False)
    waiting = threading.Thread(target=wire.simple, args=(WRITE,))
    waiting.start()
    url = pending_review(stack, WRITE)
    wire.socket.shutdown(2)
    waiting.join(60)

    deadline = time.monotonic() + 60
    while review(stack, url)["status"] == "pending" and time.monotonic() < deadline:
        time.sleep(0.1)

    assert review(stack, url)["status"] == "withdrawn"
    assert post_decision(stack, url, "approve", token=reviewer(stack)).status_code in {403, 404, 409}
    assert stored(arena) == before


@contextmanager
def held(arena: Arena, sql: str, parameters: list[bytes | None] | None = None) -> Iterator[tuple[Answer, str]]:
    """Send a statement that waits; yields its growing answer and the review's URL, and joins at the end."""
    result = Answer()
    told = threading.Event()

    class Waiting(Wire):
        def _maybe_cancel(self, body: bytes, answer: Answer) -> None:
            super()._maybe_cancel(body, answer)
            if answer.review_url is not None:
                result.review_url = answer.review_url
                told.set()

    wire = Waiting(arena.gateway, cancel_holds=False, timeout_s=120)

    def run() -> None:
        answer = wire.simple(sql) if parameters is None else wire.extended(sql, parameters)
        result.__dict__.update(answer.__dict__)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert told.wait(60), f"never held: {describe(result)}"
        yield result, str(result.review_url)
        thread.join(60)
        assert not thread.is_alive(), "the held statement never ended"
    finally:
        wire.close()
        thread.join(10)


def stored(arena: Arena) -> list[tuple[bytes | None, ...]]:
    with Wire(arena.owner) as owner:
        return owner.simple("SELECT * FROM patients WHERE id >= 900000 ORDER BY id").rows
