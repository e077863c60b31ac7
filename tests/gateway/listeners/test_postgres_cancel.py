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
from tests.gateway.listeners.harness import HOST, Gateway, TableAnalyst
from tests.gateway.listeners.raw import errors, query
from tests.gateway.listeners.test_postgres_tls import opened

SLEEP = "select pg_sleep(30)"
PID = "select pg_backend_pid()"


@dataclass
class SlowAnalyst(TableAnalyst):
    """Looks at a statement for as long as a test wants."""

    looking: asyncio.Event = field(default_factory=asyncio.Event)
    seen: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        super().__init__()

    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        if statement.text == SLEEP:
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
