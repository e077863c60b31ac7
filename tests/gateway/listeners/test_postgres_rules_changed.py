"""Rules that change while something runs: what must not be shown or done any more ends, everything else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import psycopg
import pytest

from analysis.statement import Operation
from approvals.domain.decide import EVERY_RIGHT, AccessRule, Action, Condition, PolicyRule
from approvals.domain.request import ReviewerGroup
from gateway.domain.snapshot import ConnectionSpec, Snapshot
from gateway.protocols.postgres.frames import frame
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from masking.domain.rules import MaskingRule
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, describe, errors, execute, parse, query, rows, status
from tests.gateway.listeners.test_postgres_holding import wait_for

# More than sockets and buffers between server and client hold: the client has not read most of it.
LONG = "select ssn, filler from (select ssn, repeat('x', 2000) filler from people) p, generate_series(1, 40)"
LONG_ROWS = 40_000
READS = [query(LONG), query(f"copy ({LONG}) to stdout"), parse(LONG) + bind() + describe() + execute() + SYNC]
LOCK = 7_301
HELD_LONG = f"{LONG} /* held */"
NO_READS = PolicyRule("no-reads", ("people",), Action.DENY, Condition(operation=frozenset({Operation.READ})))


@pytest.fixture
async def unmasked() -> AsyncIterator[Gateway]:
    running = await Gateway(phi=False, masking=False, durability="os", recording="metadata").start()
    yield running
    await running.stop()


@pytest.fixture
async def reading() -> AsyncIterator[Gateway]:
    """With the product's own analysis; everybody has every right, also to lock a table whole."""

    async def dsn_for(_spec: ConnectionSpec) -> str:
        return direct_dsn()

    analyst = PostgresAnalyst(dsn_for)
    running = await Gateway(analyst=analyst, phi=False, masking=False, durability="os", recording="metadata").start()
    running.rules = replace(running.rules, access_rules=(AccessRule(frozenset({"ai-agents"}), ("*",), EVERY_RIGHT),))
    yield running
    await running.stop()
    await analyst.close()


async def mask(gateway: Gateway, rules: tuple[MaskingRule, ...]) -> None:
    gateway.rules = replace(gateway.rules, version=gateway.rules.version + 1, masking_rules=rules)
    await gateway.registry.rules_changed()


def without_rights(rules: Snapshot) -> Snapshot:
    return replace(rules, version=rules.version + 1, access_rules=())


def with_a_denial(rules: Snapshot) -> Snapshot:
    return replace(rules, version=rules.version + 1, policies=(*rules.policies, NO_READS))


def with_other_reviewers(rules: Snapshot) -> Snapshot:
    others = (ReviewerGroup("security"),)
    policies = tuple(replace(policy, reviewers=others) if policy.reviewers else policy for policy in rules.policies)
    return replace(rules, version=rules.version + 1, policies=policies)


def shown(messages: list[tuple[str, bytes]]) -> int:
    return sum(b"078-05" in body for kind, body in messages if kind in {"D", "d"})


@pytest.mark.parametrize("request_", READS, ids=["select", "copy", "extended"])
async def test_rest_of_a_result_that_is_masked_by_now_is_withheld(unmasked: Gateway, request_: bytes) -> None:
    raw = await RawClient.connect(unmasked)
    raw.writer.write(request_)
    before = await raw.until("D", "d")

    await mask(unmasked, Gateway().snapshot().masking_rules)
    after = await raw.until("E", "Z")
    raw.close()

    assert shown(before) == 1, "it has to leak without the rule"
    assert errors(after)[0]["C"] == "42501"
    assert 0 < shown(after) < LONG_ROWS
    await wait_for(lambda: bool(unmasked.record.of("session.closed")))
    assert [entry.body["status"] for entry in unmasked.record.of("statement.completed")] == ["failed"]


async def test_result_that_other_rules_leave_as_it_was_goes_on(unmasked: Gateway) -> None:
    raw = await RawClient.connect(unmasked)
    raw.writer.write(query(LONG))
    await raw.until("D")
    born = [rule for rule in Gateway().snapshot().masking_rules if rule.name == "born"]

    await mask(unmasked, tuple(born))
    after = await raw.until("E", "Z")
    raw.close()

    assert errors(after) == []
    assert shown(after) == LONG_ROWS - 1


async def test_remembered_statement_that_waits_for_a_lock_is_masked_by_the_new_rules(unmasked: Gateway) -> None:
    """The express lane has no rows to ask about before the whole answer is there."""
    text = f"select ssn, pg_advisory_xact_lock_shared({LOCK}) from people where id = 1"
    raw = await RawClient.connect(unmasked)
    for _ in range(3):
        leaked = await raw.ask(query(text))
    authorised = len(unmasked.record.of("statement.authorised"))
    async with await psycopg.AsyncConnection.connect(direct_dsn()) as holder:
        await holder.execute("select pg_advisory_xact_lock(%s)", [LOCK])
        raw.writer.write(query(text))
        await wait_for(lambda: len(unmasked.record.of("statement.authorised")) > authorised)

        await mask(unmasked, Gateway().snapshot().masking_rules)
        await holder.commit()
    got = await raw.until("E", "Z")
    raw.close()

    assert shown(leaked) == 1
    assert errors(got)[0]["C"] == "42501"
    assert shown(got) == 0


async def test_write_that_nobody_may_make_any_more_is_undone(unmasked: Gateway) -> None:
    raw = await RawClient.connect(unmasked)
    raw.writer.write(query("copy people (id, name) from stdin"))
    await raw.until("G")
    raw.writer.write(frame(b"d", b"7301\tnobody\n"))

    unmasked.rules = replace(unmasked.rules, version=2, access_rules=())
    await unmasked.registry.rules_changed()
    got = await raw.until("E", "Z")
    raw.close()

    assert errors(got)[0]["C"] == "57P01"
    await wait_for(lambda: bool(unmasked.record.of("session.closed")))
    assert unmasked.record.of("session.closed")[0].body["reason"] == "rules-changed"
    assert [entry.body["status"] for entry in unmasked.record.of("statement.completed")] == ["cancelled"]
    async with await psycopg.AsyncConnection.connect(direct_dsn()) as direct:
        found = await direct.execute("select count(*) from people where id = 7301")
        assert await found.fetchone() == (0,)


LOCKED = "lock table people in access exclusive mode"
CURSOR = f"declare c cursor for select ssn, pg_advisory_xact_lock_shared({LOCK}) from people order by id"


@pytest.mark.parametrize("waits", ["move all in c", "fetch 3 in c", LOCKED])
async def test_what_waits_for_a_lock_gets_none_once_nobody_may_ask_for_it(reading: Gateway, waits: str) -> None:
    raw = await RawClient.connect(reading)
    for text in ("begin", CURSOR) if "in c" in waits else ("begin",):
        assert not errors(await raw.ask(query(text)))
    authorised = len(reading.record.of("statement.authorised"))
    async with await psycopg.AsyncConnection.connect(direct_dsn()) as holder:
        await holder.execute(f"select pg_advisory_xact_lock({LOCK}); lock table people in row share mode")
        raw.writer.write(query(waits))
        await wait_for(lambda: len(reading.record.of("statement.authorised")) > authorised)

        reading.rules = without_rights(reading.rules)
        await reading.registry.rules_changed()
        got = await raw.until("E", "Z")
        raw.close()
        await wait_for(lambda: bool(reading.record.of("session.closed")))

    assert errors(got)[0]["C"] == "57P01"
    assert reading.record.of("session.closed")[0].body["reason"] == "rules-changed"
    assert reading.record.of("statement.completed")[-1].body["status"] == "cancelled"
    async with await psycopg.AsyncConnection.connect(direct_dsn()) as direct:
        await direct.execute("set lock_timeout = '30s'")  # the server may still be ending the session
        await direct.execute(f"{LOCKED}; select pg_advisory_xact_lock({LOCK})")


async def test_rows_a_cursor_was_moved_past_say_nothing_of_the_rules_before(reading: Gateway) -> None:
    raw = await RawClient.connect(reading)
    for text in ("begin", CURSOR):
        await raw.ask(query(text))
    leaked = await raw.ask(query("fetch 1 in c"))

    await mask(reading, Gateway().snapshot().masking_rules)
    moved = await raw.ask(query("move 3 in c"))
    fetched = await raw.ask(query("fetch 1 in c"))
    raw.close()

    assert (shown(leaked), shown(moved), shown(fetched)) == (1, 0, 0)
    assert not errors(moved)
    assert [row[0] for row in rows(fetched)] in ([], [b"[REDACTED]"])


async def test_lock_that_is_held_goes_with_a_transaction_in_which_nothing_more_is_allowed(reading: Gateway) -> None:
    raw = await RawClient.connect(reading)
    for text in ("begin", LOCKED):
        assert not errors(await raw.ask(query(text)))

    reading.rules = without_rights(reading.rules)
    await reading.registry.rules_changed()
    refused = await raw.ask(query("select count(*) from people"))
    async with await psycopg.AsyncConnection.connect(direct_dsn()) as direct:
        await direct.execute("set lock_timeout = '30s'")
        await direct.execute(LOCKED)
    raw.close()

    assert errors(refused)[0]["C"] == "42501"
    assert status(refused) == "E"


async def approved(gateway: Gateway) -> RawClient:
    """A long result that a reviewer let through, of which one row is read."""
    raw = await RawClient.connect(gateway)
    raw.writer.write(query(HELD_LONG))
    await raw.until("N")
    gateway.reviewers.approved.set()
    await raw.until("D")
    return raw


@pytest.mark.parametrize("change", [without_rights, with_a_denial])
async def test_approved_result_ends_where_it_is_denied_by_now(
    unmasked: Gateway, change: Callable[[Snapshot], Snapshot]
) -> None:
    """Deny stands above approval, also while what was approved is read."""
    raw = await approved(unmasked)

    unmasked.rules = change(unmasked.rules)
    await unmasked.registry.rules_changed()
    got = await raw.until("E", "Z")
    raw.close()

    assert errors(got)[0]["C"] == "57P01"
    assert 0 < shown(got) < LONG_ROWS - 1
    await wait_for(lambda: bool(unmasked.record.of("session.closed")))
    assert unmasked.record.of("session.closed")[0].body["reason"] == "rules-changed"


async def test_approved_result_goes_on_where_it_would_be_asked_about_otherwise_by_now(unmasked: Gateway) -> None:
    raw = await approved(unmasked)

    unmasked.rules = with_other_reviewers(unmasked.rules)
    await unmasked.registry.rules_changed()
    got = await raw.until("E", "Z")
    raw.close()

    assert errors(got) == []
    assert shown(got) == LONG_ROWS - 1


async def test_idle_session_is_left_alone(unmasked: Gateway) -> None:
    raw = await RawClient.connect(unmasked)

    await mask(unmasked, Gateway().snapshot().masking_rules)
    got = await asyncio.wait_for(raw.ask(query("select ssn from people where id = 1")), 60)
    raw.close()

    assert errors(got) == []
    assert shown(got) == 0
