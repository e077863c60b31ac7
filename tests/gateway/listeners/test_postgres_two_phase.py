"""A participant that cannot promise votes no: what nobody can note is not prepared."""

from __future__ import annotations

from gateway.domain.snapshot import ConnectionSpec
from gateway.session.two_phase import RedisPrepared
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from tests.gateway.listeners.harness import Gateway, direct_dsn
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
