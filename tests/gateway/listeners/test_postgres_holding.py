"""Held statements: the notice, the resumption, cancelling, leaving; and cancelling what runs."""

from __future__ import annotations

import asyncio
import contextlib
import time

import psycopg
import pytest

from approvals.domain.facts import meaning_of, review_facts
from gateway.listeners import postgres_client
from gateway.protocols.postgres.startup import encode_cancel
from gateway.session.assessment import assess
from gateway.session.context import StatementRequest
from tests.gateway.listeners.harness import HOST, Gateway
from tests.gateway.listeners.raw import FLUSH, SYNC, RawClient, bind, errors, execute, kinds, parse, query, rows

HELD = "update people set name = 'held' where id = 1 and false"


async def wait_for(condition, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        await asyncio.sleep(0.01)


async def begun(gateway: Gateway, count: int = 1) -> None:
    """Wait until so many statements may run: what is asked of one before ends nothing."""
    await wait_for(lambda: len(gateway.record.of("statement.authorised")) >= count)


async def modified(gateway: Gateway, text: str) -> None:
    """The reviewer puts the text in the place of the asked one, having seen what it does."""
    session = next(iter(gateway.registry.live()))
    assessment = await assess(gateway.services, session.context, StatementRequest(text))
    gateway.reviewers.modified, gateway.reviewers.meaning = text, meaning_of(review_facts(assessment.access))


async def cancel(gateway: Gateway, key: tuple[int, bytes]) -> None:
    reader, writer = await asyncio.open_connection(HOST, gateway.listener.port)
    writer.write(encode_cancel(*key))
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def test_held_statement_says_where_and_resumes_when_approved(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query(HELD))
    notice = await raw.until("N")
    gateway.reviewers.approved.set()
    got = await raw.until_ready()
    raw.close()

    assert b"http://console/reviews/r1" in notice[-1][1]
    assert kinds(got) == "NCZ"
    assert b"approved by reviewer: looks right" in got[0][1]


async def test_modified_text_runs_and_is_named(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await modified(gateway, "select 'the reviewer' as words")
    raw.writer.write(query(HELD))
    await raw.until("N")
    gateway.reviewers.approved.set()
    got = await raw.until_ready()
    raw.close()

    assert rows(got) == [[b"the reviewer"]]


async def test_bound_statement_is_held_before_it_is_planned_and_cannot_be_modified(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(parse(HELD) + bind() + execute() + SYNC)
    early = await raw.until("N")
    gateway.reviewers.approved.set()
    got = await raw.until_ready()
    gateway.reviewers.modified = "select 1"
    raw.writer.write(parse(HELD) + bind() + execute() + SYNC)
    await raw.until("N")
    gateway.reviewers.approved.set()
    refused = await raw.until_ready()
    raw.close()

    assert kinds(early) in {"1N", "N"}
    assert kinds(early + got).replace("N", "") == "12CZ"
    assert errors(refused)[0]["C"] == "42501"


FAILING = parse("select 1 / (id - id) from people, pg_sleep(0.3)") + bind() + execute()


async def test_nobody_is_asked_about_what_stands_behind_a_failure(gateway: Gateway) -> None:
    """The server skips it up to the Sync, so an approval would be spent on nothing, and the client wait for it."""
    raw = await RawClient.connect(gateway)
    got = await raw.ask(FAILING, parse(HELD, "s"), bind("s"), execute(), SYNC)
    raw.close()

    assert (kinds(got), gateway.reviewers.opened) == ("12EZ", [])


async def test_a_portal_that_is_to_run_again_behind_a_failure_waits_for_nobody(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    raw.writer.write(parse(HELD, "s") + bind("s", "p") + execute("p") + SYNC)
    await raw.until("N")
    gateway.reviewers.approved.set()
    await raw.until_ready()
    got = await raw.ask(FAILING, execute("p"), SYNC)
    raw.close()

    assert (kinds(got), gateway.reviewers.withdrawn) == ("12EZ", 1)


async def test_second_execute_of_an_approved_portal_is_held_again(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    raw.writer.write(parse(HELD, "s") + bind("s") + execute() + SYNC)
    await raw.until("N")
    gateway.reviewers.approved.set()
    await raw.until_ready()
    raw.writer.write(bind("s") + execute() + SYNC)
    again = await raw.until("N", "Z")
    raw.close()

    assert again[-1][0] == "N"
    await wait_for(lambda: gateway.reviewers.withdrawn == 1)


async def test_client_that_leaves_withdraws_its_request(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query(HELD))
    await raw.until("N")
    raw.close()

    await wait_for(lambda: gateway.reviewers.withdrawn == 1)
    await wait_for(lambda: len(gateway.registry) == 0)
    assert gateway.record.of("session.closed")[0].body["reason"] == "client"
    assert not gateway.record.of("statement.authorised")


async def test_cancel_request_withdraws_a_held_statement(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query(HELD))
    await raw.until("N")
    await cancel(gateway, raw.key)
    got = await raw.until_ready()
    after = await raw.ask(query("select 1"))
    raw.close()

    assert errors(got)[0]["C"] == "57014"
    assert rows(after) == [[b"1"]]


async def test_cancel_request_stops_only_what_runs_now(gateway: Gateway) -> None:
    raw, other = await RawClient.connect(gateway), await RawClient.connect(gateway)
    raw.writer.write(query("select pg_sleep(20)"))
    other.writer.write(query("select pg_sleep(0.5)"))
    await begun(gateway, 2)
    await cancel(gateway, raw.key)
    got, untouched = await raw.until_ready(), await other.until_ready()
    await cancel(gateway, raw.key)  # nothing runs: nothing happens
    after = await raw.ask(query("select 1"))
    raw.close()
    other.close()

    assert errors(got)[0]["C"] == "57014"
    assert not errors(untouched)
    assert rows(after) == [[b"1"]]
    assert gateway.record.of("statement.completed")[0].body["status"] == "cancelled"


async def test_cancel_with_a_wrong_secret_does_nothing(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("select pg_sleep(0.5)"))
    await begun(gateway)
    await cancel(gateway, (raw.key[0], b"\0\0\0\1"))
    got = await raw.until_ready()
    raw.close()

    assert not errors(got)


async def test_kill_ends_a_session_and_its_query(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("select pg_sleep(30)"))
    await begun(gateway)
    session = next(iter(gateway.registry.live())).context
    assert await gateway.registry.kill(session.session_id)
    got = await raw.until("E")
    raw.close()

    assert errors(got)[0]["C"] == "57P01"
    assert gateway.record.of("statement.completed")[0].body["status"] == "cancelled"
    assert gateway.record.of("session.closed")[0].body["reason"] == "killed"
    async with await psycopg.AsyncConnection.connect(gateway.dsn(), autocommit=True) as connection:
        running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(30)'"
        async with asyncio.timeout(60):
            while await (await connection.execute(running)).fetchone() != (0,):
                await asyncio.sleep(0.05)


async def test_client_leaving_mid_result_cancels_it(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("select ssn, repeat('x', 2000) from people, generate_series(1, 5000)"))
    await raw.until("D")
    raw.writer.transport.abort()

    await wait_for(lambda: bool(gateway.record.of("session.closed")))
    assert gateway.record.of("statement.completed")[0].body["status"] == "cancelled"


@pytest.mark.parametrize("expires_in", [0.5])
async def test_session_ends_with_its_token(gateway: Gateway, expires_in: float) -> None:
    gateway.door.expires_in = expires_in
    raw = await RawClient.connect(gateway)
    got = await raw.until("E")
    raw.close()

    assert errors(got)[0]["C"] == "57P01"
    await wait_for(lambda: bool(gateway.record.of("session.closed")))
    assert gateway.record.of("session.closed")[0].body["reason"] == "token-expired"


async def test_no_record_no_statement(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    gateway.record.broken = True
    got = await raw.ask(query("select ssn from people"))
    raw.close()

    assert kinds(got) == "EZ"


async def test_approval_of_an_execute_is_bound_to_what_its_name_stands_for(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query(f"prepare p as {HELD}"))
    await raw.until("N")
    gateway.reviewers.approved.set()
    await raw.until_ready()
    raw.writer.write(query("execute p"))
    await raw.until("N")
    raw.close()

    assert [binding.statement for binding in gateway.reviewers.opened] == [f"prepare p as {HELD}", "execute p"]
    assert gateway.reviewers.opened[1].governed_as == HELD


MADE = {
    "parse": ((parse(HELD, "s"), SYNC), (bind("s"), execute(), SYNC)),
    "bind": ((parse(HELD, "s"), bind("s", "p"), SYNC), (execute("p"), SYNC)),
    "prepare": ((query(f"prepare s as {HELD}"),), (query("execute s"),)),
    "declare": ((query("declare c cursor for select name as held from people"),), (query("fetch 1 from c"),)),
}


@pytest.mark.parametrize("how", MADE)
async def test_what_was_read_under_other_settings_is_approved_by_nobody(gateway: Gateway, how: str) -> None:
    """`'02/03/2020'` is what DateStyle was when it was read: whoever looks at it now is told another one."""
    made, run = MADE[how]
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    raw.writer.write(b"".join(made))
    if how != "parse":
        await raw.until("N")
        gateway.reviewers.approved.set()
    await raw.until_ready()
    asked = len(gateway.reviewers.opened)
    await raw.ask(query("set datestyle to dmy"))

    raw.writer.write(b"".join(run))
    got = await raw.until("N", "E", "C")
    raw.close()

    assert [error["C"] for error in errors(got)] == ["42501"], kinds(got)
    assert "other settings" in errors(got)[0]["M"]
    assert len(gateway.reviewers.opened) == asked


async def test_a_client_that_half_closes_and_takes_nothing_more_holds_no_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_client, "SHUTDOWN_TIMEOUT_S", 0.1)
    open_gateway = await Gateway(phi=False, masking=False).start()
    raw = await RawClient.connect(open_gateway)
    raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
    raw.writer.write(query("select repeat('x',1000) from generate_series(1,100000)"))
    (session,) = open_gateway.listener._keys.values()
    await wait_for(lambda: session.client._transport.get_write_buffer_size() > 0)
    raw.writer.write_eof()

    await wait_for(lambda: bool(open_gateway.record.of("session.closed")))
    raw.close()
    await open_gateway.stop()


@pytest.mark.parametrize("by", ["protocol", "cursor"])
async def test_what_is_revoked_runs_no_portal_and_no_cursor_that_was_approved_before(gateway: Gateway, by: str) -> None:
    """The control is the first half: what is approved goes on for as long as nobody takes it back."""
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    first, second = (
        ((parse(HELD), bind(), FLUSH), (execute(), SYNC))
        if by == "protocol"
        else ((query("declare c cursor for select name as held from people order by id"),), (query("fetch 1 from c"),))
    )
    raw.writer.write(b"".join(first))
    await raw.until("N")
    gateway.reviewers.approved.set()
    await raw.until("2" if by == "protocol" else "Z")
    if by == "cursor":
        assert rows(await raw.ask(*second)) == [[b"name 1"]]

    gateway.reviewers.revoked = True
    raw.writer.write(b"".join(second))
    got = await raw.until("N", "Z", "E")
    raw.close()

    assert got[-1][0] == "N"
    assert rows(got) == []
    assert len(gateway.reviewers.opened) == 2
