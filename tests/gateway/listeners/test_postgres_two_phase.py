"""A participant that cannot promise votes no: what nobody can note is not prepared."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.domain.snapshot import ConnectionSpec
from gateway.session.context import SessionContext
from gateway.session.two_phase import RedisPrepared
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.fuzz.tap import tapped
from tests.gateway.listeners.harness import HOST, PORT, Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, errors, execute, parse, query, status


async def test_without_redis_nothing_is_prepared_and_the_record_says_so() -> None:
    async def dsn_for(_spec: ConnectionSpec) -> str:
        return direct_dsn()

    analyst = PostgresAnalyst(dsn_for)
    gateway = await Gateway(analyst=analyst, prepared=RedisPrepared("redis://127.0.0.1:1/0")).start()
    client = await RawClient.connect(gateway)
    by_text = (query("prepare transaction 'x'"),)
    by_protocol = (parse("prepare transaction 'x'"), bind(), execute(), SYNC)
    said = []
    for request in (by_text, by_protocol):
        await client.ask(query("begin"))
        answer = await client.ask(*request)
        said.append(([error["C"] for error in errors(answer)], status(answer)))
        assert status(await client.ask(query("rollback"))) == "I"
    client.close()
    await gateway.stop()
    await analyst.close()

    assert said == [(["53000"], "E")] * 2
    ends = [entry.body for entry in gateway.record.of("statement.completed") if entry.body["error"] == "53000"]
    assert [end["status"] for end in ends] == ["failed", "failed"]


@dataclass
class Renamed:
    """Whose a transaction is, in the words of a server where somebody else takes the name meanwhile, or does not."""

    analyst: PostgresAnalyst
    numbers: list[int]  # what stands behind the name, each time it is asked; the last for good

    def __getattr__(self, name: str) -> object:
        return getattr(self.analyst, name)

    async def prepared(self, _session: SessionContext, _identifier: str) -> int | None:
        return self.numbers.pop(0) if len(self.numbers) > 1 else self.numbers[0]


class OurNumber:
    """Knows one transaction as the principal's own."""

    async def keep(self, *_: object) -> bool:
        return True

    async def known(self, _session: SessionContext, _identifier: str, transaction: int) -> bool:
        return transaction == OURS

    async def forget(self, *_: object) -> None: ...


OURS, ANOTHERS = 7001, 7002
END = "commit prepared 'turn'"
PIPELINED = parse("select 1") + bind() + execute() + parse(END) + bind() + execute() + SYNC


@pytest.mark.parametrize("request_", [query(END), PIPELINED], ids=["simple", "pipelined"])
@pytest.mark.parametrize(("numbers", "sent"), [([OURS], 1), ([OURS, ANOTHERS], 0)], ids=["ours", "taken-meanwhile"])
async def test_end_is_sent_only_where_the_name_still_stands_for_the_same_transaction(
    numbers: list[int], sent: int, request_: bytes
) -> None:
    """Where it is sent the server refuses it: it knows no such transaction, and wants it alone (42704, 25001)."""

    async def dsn_for(_spec: ConnectionSpec) -> str:
        return direct_dsn()

    analyst = PostgresAnalyst(dsn_for)
    async with tapped(HOST, PORT) as tap:
        gateway = Gateway(analyst=Renamed(analyst, list(numbers)), prepared=OurNumber(), upstream_port=tap.port)
        await gateway.start()
        client = await RawClient.connect(gateway)
        answer = await client.ask(request_)
        client.close()
        await gateway.stop()
        await analyst.close()

    assert [error["C"] == "42501" for error in errors(answer)] == [sent == 0]
    assert tap.executed[END] == sent
