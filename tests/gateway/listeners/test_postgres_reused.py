"""A server that was asked to parse the same text a moment ago is spared it, and nobody can tell from the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from gateway.listeners import postgres_express
from gateway.protocols.postgres import client
from gateway.protocols.postgres.client import Bind, Parse
from gateway.session.recurring import MOST_REUSED_RUN_S, MOST_REUSED_S
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, describe, errors, execute, kinds, parse, query, rows
from tests.gateway.listeners.test_postgres_express import NAMES, SSN, run, told
from tests.gateway.listeners.test_postgres_holding import cancel
from tests.gateway.listeners.test_postgres_quick import Watched, gateway, watched

__all__ = ["gateway", "watched"]  # fixtures

pytestmark = pytest.mark.skipif(postgres_express.QuickLane is None, reason="nobody compiled it")

FOUND = "select found from reused"
DIVIDED = "select 100 / (id - $1) as share from people where id = 7"
FIRST_ONES = "select id, name, ssn from people where id <= $1 order by id"


class Sent:
    """What one session's upstream is sent: a transport that keeps the first byte of each write."""

    def __init__(self, session: Any, kinds: list[str] | None = None) -> None:
        self.kinds: list[str] = [] if kinds is None else kinds
        self._transport = session.upstream._transport
        session.upstream._transport = self

    def write(self, data: bytes) -> None:
        self.kinds.append(chr(data[0]))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.fixture
def table() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute("drop table if exists reused")
        direct.execute("create table reused as select 7 as found")
        yield direct
        direct.execute("drop table if exists reused")


async def spared(gateway: Gateway, watched: type[Watched], request: bytes) -> tuple[RawClient, Sent]:
    """A session in which `request` was sent without its Parse."""
    raw, sent = await watching(gateway, watched)
    for _ in range(4):
        await raw.ask(request)
    assert sent.kinds[-1] == "B"
    return raw, sent


async def watching(gateway: Gateway, watched: type[Watched]) -> tuple[RawClient, Sent]:
    """However long it takes here, as if nothing took long."""
    raw = await RawClient.connect(gateway)
    watched.lanes[-1].real.sparing.most_reused_s = watched.lanes[-1].real.sparing.most_reused_run_s = 600.0
    return raw, Sent(watched.lanes[-1].session)


def asked(text: str, value: bytes) -> bytes:
    parsed = client.encode_parse(Parse("", text, (23,)))
    return parsed + client.encode_bind(Bind("", "", (), (value,), ())) + describe() + execute() + SYNC


async def test_text_that_comes_again_is_not_parsed_again(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await watching(gateway, watched)

    heard = [await raw.ask(run(SSN)) for _ in range(6)]

    assert sent.kinds[-3:] == ["B", "B", "B"]
    assert "P" in sent.kinds
    assert all(one == heard[0] for one in heard)
    assert kinds(heard[-1]) == "12TDCZ"
    assert rows(heard[-1]) == [[b"[REDACTED]"]]
    assert len(gateway.record.of("statement.authorised")) == len(gateway.record.of("statement.completed")) == 6


@pytest.mark.parametrize("text", ["select 'now'::timestamptz::text as at", "select $$today$$::date::text as at"])
async def test_constants_are_evaluated_each_time(gateway: Gateway, watched: type[Watched], text: str) -> None:
    """`'now'` is read while its text is parsed, and would stand still."""
    raw, sent = await watching(gateway, watched)

    shown = [rows(await raw.ask(run(text)))[0][0] for _ in range(6)]

    assert "B" not in sent.kinds
    assert watched.requests[-1]
    assert "now" not in text or len(set(shown)) == 6


async def test_what_was_parsed_in_a_transaction_is_parsed_again_behind_it(
    gateway: Gateway, watched: type[Watched]
) -> None:
    """Whatever ended it: a prepared word of control leaves the unnamed statement where it is."""
    raw, sent = await watching(gateway, watched)
    await raw.ask(parse("commit", "ends") + SYNC)
    for _ in range(4):
        for request in (query("begin"), run(SSN), told("ends")):
            assert not errors(await raw.ask(request))
    assert watched.requests[-3:] == [True] * 3

    assert rows(await raw.ask(run(SSN))) == [[b"[REDACTED]"]]

    assert watched.requests[-1]
    assert sent.kinds[-1] == "P"


async def test_others_are_parsed(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await spared(gateway, watched, run(SSN))

    heard = [await raw.ask(run(text)) for text in (NAMES, SSN, NAMES, SSN)]

    assert [len(rows(one)[0]) for one in heard] == [3, 1, 3, 1]
    assert "B" not in sent.kinds[-4:]


@pytest.mark.parametrize(
    "between",
    [
        *(query("set datestyle to german"), query(SSN), run("set enable_seqscan to off"), query("discard all")),
        *(run("select id / 0 from people"), query("create temp table mine (x int)"), query("syntax error")),
        *(client.encode_parse(Parse(name, "select", ())) + SYNC for name in ("", "kept")),
    ],
)
async def test_whatever_comes_between_has_it_parsed_again(
    gateway: Gateway, watched: type[Watched], between: bytes
) -> None:
    raw, sent = await spared(gateway, watched, run(NAMES))

    await raw.ask(between)
    at = len(sent.kinds)
    heard = await raw.ask(run(NAMES))

    assert sent.kinds[at] != "B"
    assert kinds(heard) == "12TDDDCZ"


async def test_failed_parse_leaves_nothing_to_reuse(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    """PostgreSQL drops the unnamed statement before it parses the next: the one before is not there any more."""
    raw, _ = await spared(gateway, watched, run(FOUND))
    for _ in range(2):
        await raw.ask(run(NAMES))
    table.execute("alter table reused rename to away")
    try:
        assert errors(await raw.ask(run(FOUND)))
    finally:
        table.execute("alter table away rename to reused")

    assert kinds(await raw.ask(run(NAMES))) == "12TDDDCZ"
    assert rows(await raw.ask(run(FOUND))) == [[b"7"]]


async def test_parsed_anew_when_the_result_has_changed(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    raw, sent = await spared(gateway, watched, run(FOUND))
    table.execute("alter table reused alter found type text using 'seven'")

    heard = await raw.ask(run(FOUND))

    assert kinds(heard) == "12TDCZ"
    assert rows(heard) == [[b"seven"]]
    assert sent.kinds[-2:] == ["B", "P"]
    assert len(gateway.record.of("statement.completed")) == 5
    assert rows(await raw.ask(run(FOUND))) == [[b"seven"]]


async def test_control_the_server_refuses_what_it_kept(table: psycopg.Connection[Any]) -> None:
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        for _ in range(2):
            direct.execute(FOUND, prepare=True)
        table.execute("alter table reused alter found type text using 'seven'")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            direct.execute(FOUND, prepare=True)


async def test_relation_that_is_gone_is_told_as_ever(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    raw, _ = await spared(gateway, watched, run(FOUND))
    table.execute("drop table reused")

    heard = await raw.ask(run(FOUND))

    assert errors(heard)[0]["C"] == "42P01"
    assert kinds(heard) == "EZ"
    assert kinds(await raw.ask(run(NAMES))) == "12TDDDCZ"
    assert gateway.record.of("statement.completed")[-2].body["status"] == "skipped"  # nothing ran


async def test_error_of_an_execution_comes_behind_what_was_parsed(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await spared(gateway, watched, asked(DIVIDED, b"5"))

    heard = await raw.ask(asked(DIVIDED, b"7"))

    assert sent.kinds[-1] == "B"
    assert kinds(heard) == "12TEZ"
    assert errors(heard)[0]["C"] == "22012"
    assert rows(await raw.ask(asked(DIVIDED, b"3"))) == [[b"25"]]


async def test_in_a_transaction_it_is_parsed(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await spared(gateway, watched, run(NAMES))
    await raw.ask(query("begin"))
    at = len(sent.kinds)

    for _ in range(4):
        await raw.ask(run(NAMES))

    assert "B" not in sent.kinds[at:]


async def test_a_second_later_it_is_parsed_again(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await spared(gateway, watched, run(SSN))
    watched.lanes[-1].real.sparing.most_reused_s = MOST_REUSED_S
    await asyncio.sleep(MOST_REUSED_S + 0.05)

    await raw.ask(run(SSN))

    assert sent.kinds[-1] == "P"


async def test_a_statement_that_takes_long_is_parsed_each_time(gateway: Gateway, watched: type[Watched]) -> None:
    """A plan made for any parameters may be much worse than one for these."""
    slow = run("select pg_sleep(0.02)")
    raw, sent = await spared(gateway, watched, slow)
    watched.lanes[-1].real.sparing.most_reused_run_s = MOST_REUSED_RUN_S
    at = len(sent.kinds)

    for _ in range(4):
        await raw.ask(slow)

    assert watched.requests[-1]
    assert sent.kinds[at:] == ["B", "P", "B", "P"]


async def test_a_long_answer_says_it_was_parsed(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await spared(gateway, watched, asked(FIRST_ONES, b"1"))

    heard = await raw.ask(asked(FIRST_ONES, b"1000"))

    assert sent.kinds[-1] == "B"
    assert kinds(heard) == "12T" + 1000 * "D" + "CZ"


async def test_cancelled_it_is_not_run_again(gateway: Gateway, watched: type[Watched]) -> None:
    """Only what says that nothing has run is repeated."""
    raw, sent = await spared(gateway, watched, run(NAMES))
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute("begin")
        direct.execute("lock table people")
        raw.writer.write(run(NAMES))
        await asyncio.sleep(0.2)
        await cancel(gateway, raw.key)
        heard = await raw.until_ready()
        direct.execute("rollback")

    assert errors(heard)[0]["C"] == "57014"
    assert sent.kinds.count("B") >= 1
    assert sent.kinds[-1] == "B"
