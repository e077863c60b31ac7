"""Simple queries that differ in integers alone are run from one template, and nobody can tell from the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from analysis.fingerprint import skeleton
from gateway.listeners import postgres_express
from gateway.protocols.postgres import server
from gateway.protocols.postgres.frames import frame
from gateway.session.context import SessionContext
from tests.gateway.listeners.harness import Gateway, Recalled, TableAnalyst, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, describe, errors, execute, kinds, query, rows
from tests.gateway.listeners.test_postgres_express import NAMES, SSN, run, shut_lane
from tests.gateway.listeners.test_postgres_holding import cancel
from tests.gateway.listeners.test_postgres_quick import Watched, gateway, watched
from tests.gateway.listeners.test_postgres_reused import Sent, watching

__all__ = ["gateway", "watched"]  # fixtures

pytestmark = pytest.mark.skipif(postgres_express.QuickLane is None, reason="nobody compiled it")

PERSON = "select id, name, ssn from people where id = {}"
FIRST_ONES = "select id, name, ssn from people where id <= {} order by id"
_SPELLED = {None: None, True: b"t", False: b"f"}
FOUND = "select found from templated where found = {}"


@pytest.fixture(autouse=True)
def by_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of one shape mean the same, as the analyst finds of most."""

    def recollect(
        self: TableAnalyst, session: SessionContext, text: str, types: tuple[int, ...], found: Any
    ) -> Recalled:
        return Recalled(lambda: self.recall(session, text, types) is found, shape=skeleton(text))

    monkeypatch.setattr(TableAnalyst, "recollect", recollect)


@pytest.fixture
def table() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute("drop table if exists templated")
        direct.execute("create table templated as select generate_series(1, 9) as found")
        yield direct
        direct.execute("drop table if exists templated")


async def templated(gateway: Gateway, watched: type[Watched], text: str) -> tuple[RawClient, Sent]:
    """A session in which queries like `text` are run from a template the server has."""
    raw, sent = await watching(gateway, watched)
    for number in (1, 1, 2, 3, 4, 5):
        await raw.ask(query(text.format(number)))
    assert sent.kinds[-1] == "B"
    return raw, sent


@pytest.mark.parametrize(
    "text", [PERSON, PERSON + ";", FIRST_ONES, "select id, ssn from people where id = {} and id<{}"]
)
async def test_answers_and_records_are_those_of_the_query(
    gateway: Gateway, watched: type[Watched], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    asked = [query(text.replace("{}", str(number))) for number in (1, 1, 2, 3, 4, 0, 3, 999_999_999)]
    with monkeypatch.context() as shut:
        shut_lane(shut)
        raw = await RawClient.connect(gateway)
        expected = [await raw.ask(one) for one in asked]
    entries = [_without(entry) for entry in gateway.record.entries if entry.kind.startswith("statement.")]
    gateway.record.entries.clear()
    raw, sent = await watching(gateway, watched)

    heard = [await raw.ask(one) for one in asked]

    assert "B" in sent.kinds
    assert heard == expected
    assert [_without(entry) for entry in gateway.record.entries if entry.kind.startswith("statement.")] == entries


def _without(entry: Any) -> Any:
    """An entry without what differs between two executions. The analysis here takes texts for fingerprints."""
    body = {key: value for key, value in entry.body.items() if not key.endswith(("_id", "_ms", "_us", "fingerprint"))}
    return entry.kind, body, entry.sensitive


async def test_it_is_masked(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await templated(gateway, watched, PERSON)

    assert rows(await raw.ask(query(PERSON.format(7)))) == [[b"7", b"name 7", b"[REDACTED]"]]
    assert sent.kinds[-1] == "B"
    assert gateway.record.of("statement.completed")[-1].body["masked"][0]["count"] == 1


@pytest.mark.parametrize(
    "text",
    [
        *("select id from people order by id limit {}", "select id, 'now'::text as at from people where id = {}"),
        *("select id from people where id = {} -- = {}", 'select id as "a = {}" from people where id = {}'),
        *(
            "with found as (select 1 as one) select one from found where one = {}",
            "select id + 1 as more from people where id = {}",
        ),
    ],
)
async def test_whatever_may_be_something_else_goes_as_it_came(
    gateway: Gateway, watched: type[Watched], text: str
) -> None:
    raw, sent = await watching(gateway, watched)
    for number in (1, 1, 2, 3, 4, 5):
        assert not errors(await raw.ask(query(text.replace("{}", str(number)))))

    assert "B" not in sent.kinds


async def test_what_the_server_does_not_take_as_a_template_is_sent_as_it_came(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    """To the server two parameters are two different things, two equal constants are not."""
    raw, sent = await watching(gateway, watched)
    text = "select found = {0} as same, count(*) from templated group by found = {0} order by same"

    heard = [await raw.ask(query(text.format(number))) for number in (1, 1, 2, 3, 4, 5, 6)]

    assert [rows(one) for one in heard] == [[[b"f", b"8"], [b"t", b"1"]]] * 7
    assert sent.kinds.count("P") <= 3  # twice by the ordinary way, and the one that was refused
    assert sent.kinds[-3:] == ["Q", "Q", "Q"]
    assert len(gateway.record.of("statement.completed")) == 7


async def test_sent_as_it_came_when_the_result_has_changed(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    raw, sent = await templated(gateway, watched, FOUND)
    table.execute("alter table templated alter found type bigint")

    heard = await raw.ask(query(FOUND.format(7)))

    assert kinds(heard) == "TDCZ"
    assert rows(heard) == [[b"7"]]
    assert sent.kinds[-2:] == ["B", "Q"]
    assert rows(await raw.ask(query(FOUND.format(8)))) == [[b"8"]]
    assert len(gateway.record.of("statement.completed")) == 8


async def test_relation_that_is_gone_is_told_as_ever(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    raw, _ = await templated(gateway, watched, FOUND)
    table.execute("drop table templated")

    heard = await raw.ask(query(FOUND.format(7)))

    assert kinds(heard) == "EZ"
    assert errors(heard)[0]["C"] == "42P01"
    assert kinds(await raw.ask(query(NAMES))) == "TDDDCZ"


async def test_a_long_answer_is_that_of_the_query(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await templated(gateway, watched, FIRST_ONES)

    heard = await raw.ask(query(FIRST_ONES.format(1000)))

    assert sent.kinds[-1] == "B"
    assert kinds(heard) == "T" + 1000 * "D" + "CZ"
    assert rows(heard)[999] == [b"1000", b"name 1000", b"[REDACTED]"]


async def test_error_of_an_execution_is_told_as_ever(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    table.execute("create function halved(int) returns int language plpgsql as 'begin return 10 / (7 - $1); end'")
    try:
        raw, sent = await templated(gateway, watched, "select halved(found) from templated where found = {}")
        heard = await raw.ask(query("select halved(found) from templated where found = 7"))
    finally:
        table.execute("drop function halved")

    assert sent.kinds[-1] == "B"
    assert kinds(heard) == "TEZ"
    assert errors(heard)[0]["C"] == "22012"
    assert gateway.record.of("statement.completed")[-1].body["status"] == "failed"


@pytest.mark.parametrize(
    "between",
    [query("set enable_seqscan to off"), query(SSN), run(SSN), run("select id / 0 from people"), query("select")],
)
async def test_whatever_comes_between_has_the_template_parsed_again(
    gateway: Gateway, watched: type[Watched], between: bytes
) -> None:
    raw, sent = await templated(gateway, watched, PERSON)
    for _ in range(3):
        await raw.ask(between)
    at = len(sent.kinds)

    heard = await raw.ask(query(PERSON.format(7)))

    assert sent.kinds[at] != "B"
    assert rows(heard) == [[b"7", b"name 7", b"[REDACTED]"]]


@pytest.mark.parametrize(
    "asked", [bind() + execute() + SYNC, describe("S", "") + SYNC, bind() + describe() + execute() + SYNC]
)
async def test_the_template_is_nobodys_statement(gateway: Gateway, watched: type[Watched], asked: bytes) -> None:
    raw, _ = await templated(gateway, watched, PERSON)

    heard = await raw.ask(asked)

    assert kinds(heard) == "EZ"
    assert errors(heard)[0]["C"] == "26000"


async def test_in_a_transaction_it_goes_as_it_came(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await templated(gateway, watched, PERSON)
    await raw.ask(query("begin"))
    at = len(sent.kinds)

    for number in range(4):
        await raw.ask(query(PERSON.format(number)))

    assert set(sent.kinds[at:]) == {"Q"}


async def test_cancelled_it_is_not_sent_again(gateway: Gateway, watched: type[Watched]) -> None:
    raw, sent = await templated(gateway, watched, PERSON)
    with psycopg.connect(direct_dsn()) as direct:
        direct.execute("lock table people")
        raw.writer.write(query(PERSON.format(7)))
        await asyncio.sleep(0.2)
        await cancel(gateway, raw.key)
        heard = await raw.until_ready()
        direct.rollback()

    assert errors(heard)[0]["C"] == "57014"
    assert sent.kinds[-1] == "B"
    assert rows(await raw.ask(query(PERSON.format(7)))) == [[b"7", b"name 7", b"[REDACTED]"]]


async def test_another_number_than_the_template_takes_goes_another_way(
    gateway: Gateway, watched: type[Watched]
) -> None:
    raw, _ = await templated(gateway, watched, PERSON)

    heard = [await raw.ask(query(PERSON.format(number))) for number in ("-1", "7.0", "1234567890", "007", "7e0")]

    assert [len(rows(one)) for one in heard] == [0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    "unit", ["grouping sets ((found), (found = {0}))", "rollup (found, found = {0})", "cube (found, found = {0})"]
)
async def test_a_constant_that_is_grouped_by_stays_one(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any], unit: str
) -> None:
    """Both are the same expression to the server and null where it is not grouped by; two parameters are neither."""
    raw, _ = await watching(gateway, watched)
    text = f"select found, found = {{0}} as same, count(*) from templated group by {unit} order by found, same"

    for number in (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2):
        heard = await raw.ask(query(text.format(number)))
        with psycopg.ClientCursor(table) as cursor:
            expected = cursor.execute(text.format(number)).fetchall()
        assert [row[1] for row in rows(heard)] == [_SPELLED[row[1]] for row in expected]


async def test_a_query_behind_one_that_is_refused_as_a_template(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    """The first is sent as it came before the next is sent."""
    raw, sent = await watching(gateway, watched)
    text = "select found = {0} as same, count(*) from templated group by found = {0} order by same"
    for number in (1, 1, 2):
        await raw.ask(query(text.format(number)))
    assert "P" not in sent.kinds[2:]

    table.execute("begin")
    table.execute("lock table templated")
    raw.writer.write(query(text.format(3)))
    await asyncio.sleep(0.2)
    raw.writer.write(query(text.format(4)))
    await asyncio.sleep(0.2)
    table.execute("rollback")
    heard = [await raw.until_ready(), await raw.until_ready()]

    assert [rows(one) for one in heard] == [[[b"f", b"8"], [b"t", b"1"]]] * 2
    assert sent.kinds[4:6] == ["P", "Q"]


async def test_what_is_sent_behind_it_waits_for_no_answer_that_was_taken_another_way(
    gateway: Gateway, watched: type[Watched], table: psycopg.Connection[Any]
) -> None:
    """Behind the half of a notice an answer does not come to the lane."""
    raw, sent = await templated(gateway, watched, FOUND)
    upstream = watched.lanes[-1].session.upstream
    notice = server.encode_error({"S": "NOTICE", "C": "00000", "M": "said"}, notice=True)
    described = server.encode_row_description((server.Field("found", 0, 0, 23, 4),))
    answer = b"2\0\0\0\4" + described + frame(b"C", b"SELECT 0\0") + frame(b"Z", b"I")
    at = len(sent.kinds)
    table.execute("begin")
    table.execute("lock table templated")
    upstream.data_received(notice[:7])

    raw.writer.write(query(FOUND.format(7)))
    while len(sent.kinds) == at:
        await asyncio.sleep(0.01)
    upstream.data_received(notice[7:] + answer)
    assert kinds(await raw.until_ready()) == "NTCZ"
    raw.writer.write(query("select"))
    while len(sent.kinds) == at + 1:
        await asyncio.sleep(0.01)

    assert sent.kinds[at] == "B"
    table.execute("rollback")
