"""What the server keeps of a statement means what its text meant then: it runs only as what its text means now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from approvals.domain.decide import EVERY_RIGHT, AccessRule
from gateway.domain.snapshot import Snapshot
from tests.gateway.listeners.harness import USER, Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, close, describe, execute, kinds, parse, query
from tests.gateway.listeners.test_postgres_midway import transcript

CLEAR = "078-05-0007"
SSN = "select ssn from people where id = 7"
SHADOW = "create temp table people as select id, 'harmless'::text as ssn from public.people"
FIRST = "create temp table namespace_exists (x int)"  # or the server notices that its search path changed

Request = tuple[bytes, ...]


def run(text: str) -> Request:
    return (parse(text), bind(), execute(), SYNC)


KEPT: dict[str, list[Request]] = {
    "parsed": [run(FIRST), (parse(SSN, "s"), SYNC), run(SHADOW), (bind("s"), execute(), SYNC)],
    "described-between": [
        *(run(FIRST), (parse(SSN, "s"), SYNC), run(SHADOW), (describe("S", "s"), SYNC)),
        *(run("drop table people"), (describe("S", "s"), SYNC), run(SHADOW), (bind("s"), execute(), SYNC)),
    ],
    "unnamed": [run(FIRST), (parse(SSN), SYNC), (query(SHADOW),), (parse(SSN), bind(), execute(), SYNC)],
    "prepared-by-text": [run(FIRST), run(f"prepare p as {SSN}"), run(SHADOW), (query("execute p"),)],
    "prepared-by-text-midway": [(query(f"{FIRST}; prepare p as {SSN}; {SHADOW}; execute p"),)],
    "executed-by-protocol": [run(FIRST), run(f"prepare p as {SSN}"), run(SHADOW), run("execute p")],
    "explained": [run(FIRST), run(f"prepare p as {SSN}"), run(SHADOW), run("explain analyze execute p")],
    "bound": [
        *(run(FIRST), run("begin"), (parse(SSN, "s"), bind("s", "p"), SYNC)),
        *(run(SHADOW), (execute("p"), SYNC), run("rollback")),
    ],
    "bound-midway": [
        run(FIRST),
        (parse(SSN, "s"), bind("s", "p"), parse(SHADOW), bind(), execute(), execute("p"), SYNC),
    ],
    "suspended": [
        *(run(FIRST), run("begin"), (parse("select ssn from people order by id", "s"), bind("s", "p"), SYNC)),
        *((execute("p", 2), SYNC), run(SHADOW), (execute("p", 9), SYNC), run("rollback")),
    ],
    "skipped-behind-an-error": [
        *(run(FIRST), (parse(SSN, "s"), SYNC), run(SHADOW)),
        (*run("select 1/0")[:3], bind("s"), execute(), SYNC),
        (bind("s"), execute(), SYNC),
    ],
    "skipped-behind-an-error-by-text": [
        *(run(FIRST), run(f"prepare p as {SSN}"), run(SHADOW)),
        (*run("select 1/0")[:3], *run("execute p")),
        (query("select 1/0; execute p"),),
        (query("execute p"),),
    ],
    "undone": [
        *(run(FIRST), run(SHADOW), (parse(SSN, "s"), SYNC), (bind("s"), execute(), SYNC)),
        *(run("begin"), run("drop table people"), (bind("s"), execute(), SYNC), run("rollback")),
        *((bind("s"), execute(), SYNC), (close("S", "s"), SYNC)),
    ],
    "undone-by-an-error": [
        *(run(FIRST), run(SHADOW), (parse(SSN, "s"), SYNC)),
        (*run("drop table people")[:3], bind("s"), execute(), parse("select 1/0"), bind(), execute(), SYNC),
        (bind("s"), execute(), SYNC),
    ],
}


async def heard(gateway: Gateway, requests: list[Request]) -> str:
    client = await RawClient.connect(gateway)
    answers = b""
    for request in requests:
        answers += b" ".join(body for _, body in await client.ask(*request))
    client.close()
    return answers.decode("latin-1")


@pytest.mark.parametrize("requests", KEPT.values(), ids=KEPT)
@pytest.mark.by_turns(2)
async def test_a_shadow_that_comes_later_uncovers_nothing(reading_gateway: Gateway, requests: list[Request]) -> None:
    assert "078-05-" not in await heard(reading_gateway, requests)


async def test_control_the_server_keeps_what_a_name_meant() -> None:
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute(FIRST)
        direct.execute(f"prepare p as {SSN}")
        direct.execute(SHADOW)

        assert direct.execute("execute p").fetchall() == [(CLEAR,)]
        assert direct.execute(SSN).fetchall() == [("harmless",)]
        direct.execute("discard plans")
        assert direct.execute("execute p").fetchall() == [("harmless",)]


async def test_a_prepared_statement_goes_on_as_what_its_text_means(reading_gateway: Gateway) -> None:
    prepared = [run(FIRST), (parse(SSN, "s"), SYNC), run(SHADOW), (bind("s"), execute(), SYNC)]
    assert (await heard(reading_gateway, prepared)).count("harmless") == 1


async def test_a_portal_that_still_means_the_same_goes_on(reading_gateway: Gateway) -> None:
    names = "select name from people order by id"
    requests = [
        *(run("begin"), (parse(names, "s"), bind("s", "p"), SYNC), (execute("p", 2), SYNC)),
        *(run("create temp table other (x int)"), (execute("p", 1), SYNC), run("rollback")),
    ]
    assert "name 3" in await heard(reading_gateway, requests)


class OpenGateway(Gateway):
    """Nothing to protect, no policy, every right."""

    def snapshot(self) -> Snapshot:
        rights = (AccessRule(frozenset({"ai-agents"}), ("people",), EVERY_RIGHT),)
        return replace(super().snapshot(), access_rules=rights, policies=(), masking_rules=())


async def test_open_connections_are_left_alone() -> None:
    gateway = await OpenGateway(phi=False, masking=False).start()
    requests = [[FIRST], [f"prepare p as {SSN}"], [SHADOW], ["execute p"], [SSN]]
    through = await asyncio.to_thread(transcript, gateway.dsn(), requests)
    directly = await asyncio.to_thread(transcript, direct_dsn(), requests)
    await gateway.stop()

    assert through == directly
    assert CLEAR.encode() in [value for _, _, rows, *_ in through[::2] for row in rows for value in row]


@pytest.fixture
def shadow_schema() -> Iterator[Callable[[], None]]:
    """The schema `"$user"`, before `public`; calling it makes another `people` there, as somebody else's DDL does."""
    schema = sql.Identifier(USER)

    def make() -> None:
        direct.execute(sql.SQL("create table {}.people as select 7 as id, 'harmless'::text as ssn").format(schema))

    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute(sql.SQL("create schema {}").format(schema))
        yield make
        direct.execute(sql.SQL("drop schema {} cascade").format(schema))


async def test_a_table_somebody_else_puts_before_it_uncovers_nothing(
    reading_gateway: Gateway, shadow_schema: Callable[[], None]
) -> None:
    client = await RawClient.connect(reading_gateway)
    await client.ask(parse(SSN, "s"), SYNC)
    for _ in range(4):  # on the express lane by now
        before = await client.ask(bind("s"), describe(), execute(), SYNC)
    shadow_schema()
    for _ in range(1200):
        seen = b"".join(body for _, body in await client.ask(query(SSN)))
        if b"harmless" in seen:
            break
        await asyncio.sleep(0.05)
    later = [await client.ask(bind("s"), describe(), execute(), SYNC) for _ in range(4)]
    client.close()

    shown = b"".join(body for answers in [before, *later] for _, body in answers)
    assert b"harmless" in seen
    assert b"078-05-" not in shown
    assert shown.count(b"harmless") == 4


async def test_plans_count_as_renewed_only_once_the_server_did_it(
    reading_gateway: Gateway, shadow_schema: Callable[[], None]
) -> None:
    """In a transaction that failed it refuses DISCARD PLANS like anything else."""
    client, watcher = await RawClient.connect(reading_gateway), await RawClient.connect(reading_gateway)
    await client.ask(parse(SSN, "s"), SYNC)
    before = await client.ask(bind("s"), describe(), execute(), SYNC)
    shadow_schema()
    for _ in range(1200):
        seen = b"".join(body for _, body in await watcher.ask(query(SSN)))
        if b"harmless" in seen:
            break
        await asyncio.sleep(0.05)

    renewing = (bind("s"), describe(), execute(), SYNC)
    for request in ((query("begin"),), (query("select 1/0"),), renewing):
        refused = await client.ask(*request)
    await client.ask(query("rollback"))
    later = [await client.ask(*renewing) for _ in range(3)]
    client.close()
    watcher.close()

    assert kinds(refused)[-2:] == "EZ"
    shown = b"".join(body for answers in [before, *later] for _, body in answers)
    assert b"078-05-" not in shown
    assert shown.count(b"harmless") == 3
