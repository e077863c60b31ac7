"""A cancel request that comes before the server has what it is about: the statement is still with the gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from dataclasses import dataclass, field

import pytest

from analysis.statement import Analysis, Statement
from gateway.session.context import SessionContext
from gateway.upstreams.postgres import UpstreamConnection
from tests.gateway.listeners.harness import HOST, Gateway, TableAnalyst
from tests.gateway.listeners.raw import FLUSH, SYNC, bind, errors, execute, parse, query, rows
from tests.gateway.listeners.test_postgres_tls import opened

SLEEP = "select pg_sleep(30)"
HELD = "update people set name = 'held' where id = 1 and false"
PID = "select pg_backend_pid()"


@dataclass
class SlowAnalyst(TableAnalyst):
    """Looks at a statement for as long as a test wants."""

    looking: asyncio.Event = field(default_factory=asyncio.Event)
    seen: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        super().__init__()

    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        if statement.text in {SLEEP, HELD}:
            self.looking.set()
            await self.seen.wait()
        return await super().analyse(session, statement)


def cancelled(gateway: Gateway, key: bytes) -> None:
    """Return when the gateway has taken the request: it closes the connection then."""
    with socket.create_connection((HOST, gateway.listener.port)) as courier:
        courier.sendall(struct.pack("!II", 8 + len(key), 80877102) + key)
        courier.recv(1)


@pytest.mark.timeout(25)  # less than it would sleep
async def test_statement_that_is_still_looked_at_is_cancelled() -> None:
    analyst = SlowAnalyst()
    gateway = await Gateway(analyst=analyst).start()
    raw, said = await opened(gateway.listener, 0)
    key = next(body for kind, body in said if kind == "K")
    raw.writer.write(query(SLEEP))
    await analyst.looking.wait()
    await asyncio.to_thread(cancelled, gateway, key)
    analyst.seen.set()
    got = await raw.until_ready()
    raw.close()
    await gateway.stop()

    assert errors(got)[0]["C"] == "57014"


@pytest.mark.timeout(25)  # nobody would decide it
async def test_statement_that_is_cancelled_before_it_is_held_waits_for_nobody() -> None:
    analyst = SlowAnalyst()
    gateway = await Gateway(analyst=analyst).start()
    raw, said = await opened(gateway.listener, 0)
    key = next(body for kind, body in said if kind == "K")
    raw.writer.write(query(HELD))
    await analyst.looking.wait()
    await asyncio.to_thread(cancelled, gateway, key)
    analyst.seen.set()
    got = await raw.until_ready()
    after = await raw.ask(query("select 1"))
    raw.close()
    await gateway.stop()

    assert errors(got)[0]["C"] == "57014"
    assert gateway.reviewers.withdrawn == 1
    assert len(gateway.record.of("statement.authorised")) == 1  # what came after it
    assert rows(after) == [[b"1"]]


async def test_request_with_nothing_to_cancel_does_not_reach_the_next_statement(gateway: Gateway) -> None:
    raw, said = await opened(gateway.listener, 0)
    key = next(body for kind, body in said if kind == "K")
    await asyncio.to_thread(cancelled, gateway, key)
    raw.writer.write(query("select pg_sleep(0.1)"))
    got = await raw.until_ready()
    raw.close()

    assert errors(got) == []


@pytest.mark.timeout(25)
async def test_server_that_reads_the_statement_after_the_request_is_asked_again() -> None:
    """As on a busy machine: the request's process runs before the session's has read what was sent to it."""
    analyst = SlowAnalyst()
    gateway = await Gateway(analyst=analyst).start()
    raw, said = await opened(gateway.listener, 0)
    key = next(body for kind, body in said if kind == "K")
    raw.writer.write(query(PID))
    answered = await raw.until_ready()
    pid = int(next(body for kind, body in answered if kind == "D")[6:])
    raw.writer.write(query(SLEEP))
    await analyst.looking.wait()
    await asyncio.to_thread(cancelled, gateway, key)
    os.kill(pid, signal.SIGSTOP)
    try:
        analyst.seen.set()
        await asyncio.sleep(0.3)  # the request reaches the stopped process, whose statement is still unread
    finally:
        os.kill(pid, signal.SIGCONT)
    got = await raw.until_ready()
    raw.close()
    await gateway.stop()

    assert errors(got)[0]["C"] == "57014"


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> list[UpstreamConnection]:
    """Requests on their way to a server that takes none of them."""
    asked: list[UpstreamConnection] = []

    async def ask(connection: UpstreamConnection) -> None:
        asked.append(connection)

    monkeypatch.setattr(UpstreamConnection, "cancel", ask)
    return asked


async def running(gateway: Gateway, *, behind: int = 0) -> None:
    """Return when the server has a statement, and so many messages behind it."""
    (session,) = gateway.listener._keys.values()
    while session.relay.running is None or session.relay.expected <= behind:
        await asyncio.sleep(0.01)


async def test_request_the_server_did_not_hear_is_repeated_where_it_can_hit_nothing_else(
    gateway: Gateway, unheard: list[UpstreamConnection]
) -> None:
    """The control of the two below."""
    raw, said = await opened(gateway.listener, 0)
    key = next(body for kind, body in said if kind == "K")
    raw.writer.write(query("select pg_sleep(2)"))
    await running(gateway)
    await asyncio.to_thread(cancelled, gateway, key)
    await raw.until_ready()
    raw.close()

    assert len(unheard) > 1


async def test_request_is_not_repeated_where_it_could_hit_what_was_sent_behind(
    gateway: Gateway, unheard: list[UpstreamConnection]
) -> None:
    raw, said = await opened(gateway.listener, 0)
    key = next(body for kind, body in said if kind == "K")
    first = parse("select pg_sleep(2)") + bind() + execute()
    raw.writer.write(first + parse("select 1") + bind() + execute() + SYNC)
    await running(gateway, behind=4)
    await asyncio.to_thread(cancelled, gateway, key)
    await raw.until_ready()
    raw.close()

    assert len(unheard) == 1


async def test_request_is_not_repeated_while_the_next_statement_is_looked_at(
    unheard: list[UpstreamConnection],
) -> None:
    """It would be sent while the request is on its way."""
    analyst = SlowAnalyst()
    gateway = await Gateway(analyst=analyst).start()
    raw, said = await opened(gateway.listener, 0)
    key = next(body for kind, body in said if kind == "K")
    raw.writer.write(parse("select pg_sleep(2)") + bind() + execute() + FLUSH)
    await running(gateway)
    raw.writer.write(parse(SLEEP) + bind() + execute() + SYNC)
    await analyst.looking.wait()
    await asyncio.to_thread(cancelled, gateway, key)
    got = await raw.until("C")
    once = len(unheard)
    raw.close()
    analyst.seen.set()
    await gateway.stop()

    assert errors(got) == []
    assert once == 1
