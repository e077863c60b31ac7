"""A cancel request that comes before the server has what it is about: the statement is still with the gateway."""

from __future__ import annotations

import asyncio
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
