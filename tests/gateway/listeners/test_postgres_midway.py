"""Temporary tables made and used within one simple query or pipeline: read midway, and the client hears as directly.

A block of the gateway's own is open then. What the server says, tag by tag, notice by notice and up to the status of
the transaction, is compared with a direct connection; what must not be shown is not.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any

import psycopg
import pytest
from psycopg import pq

from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, execute, parse, query

CLEAR = "078-05-0007"
SHADOW = "create temp table people {} as select id, 'harmless'::text as ssn from public.people"
SSN = "select ssn from people where id = 7"
DUPES = "create table if not exists dupes (x int unique deferrable initially deferred)"

Heard = list[tuple[Any, ...]]


def transcript(dsn: str, requests: list[list[str]]) -> Heard:
    """What a client hears of each request: one text is a simple Query, several are a pipeline with one Sync."""
    heard: Heard = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        wire = connection.pgconn
        wire.notice_handler = lambda notice: heard.append(("notice", notice.error_field(pq.DiagnosticField.SQLSTATE)))
        for request in requests:
            if len(request) == 1:
                wire.send_query(request[0].encode())
            else:
                wire.enter_pipeline_mode()
                for text in request:
                    wire.send_query_params(text.encode(), None)
                wire.pipeline_sync()
            heard += results(wire)
            if len(request) > 1:
                wire.exit_pipeline_mode()
            heard.append(("status", wire.transaction_status))
    return heard


def results(wire: pq.abc.PGconn) -> Heard:
    heard: Heard = []
    nothing = 0
    while nothing < 2:  # of a pipeline, every statement ends with None
        wire.flush()
        while wire.is_busy():  # get_result would keep the gateway, in the same process, from running
            assert select.select([wire.socket], [], [], 30)[0]
            wire.consume_input()
        found = wire.get_result()
        nothing = nothing + 1 if found is None else 0
        if found is None:
            continue
        values = [[found.get_value(r, c) for c in range(found.nfields)] for r in range(found.ntuples)]
        sqlstate = found.error_field(pq.DiagnosticField.SQLSTATE)
        heard.append((pq.ExecStatus(found.status).name, found.command_status, values, sqlstate))
        if found.status == pq.ExecStatus.PIPELINE_SYNC:
            break
    return heard


MAKE = "create temp table t (x int)"
REQUESTS = {
    "used": [["create temp table t as select id, name from people where id = 7; select name from t"], ["table t"]],
    "dropped-at-its-end": [[f"{MAKE} on commit drop; insert into t values (1); table t"], ["select 1"], ["table t"]],
    "error-within": [[f"{MAKE}; insert into t values (0); select 1/x from t; table t"], ["table t"]],
    "refused-by-reading": [[f"{MAKE}; insert into t values (0); select nope from t; table t"], ["table t"]],
    "commit-within": [[f"{MAKE}; table t; commit; insert into t values (1); table t"], ["table t"]],
    "rollback-within": [[f"{MAKE}; table t; rollback; table t"], ["select 1"]],
    "rollback-twice": [[f"{MAKE}; table t; rollback; rollback; select 1"]],
    "begin-within": [[f"{MAKE}; table t; begin; insert into t values (1); table t"], ["rollback"], ["table t"]],
    "begin-last": [[f"{MAKE}; table t; begin"], ["insert into t values (1)"], ["rollback"], ["table t"]],
    "commit-last": [[f"{MAKE}; table t; commit"], ["table t"]],
    "begin-and-error": [[f"{MAKE}; table t; begin; select 1/0; table t"], ["rollback"], ["table t"]],
    "whole-transaction": [[f"begin; {MAKE}; insert into t values (1); table t; commit; table t"]],
    "in-open-transaction": [["begin"], [f"{MAKE}; insert into t values (1); table t"], ["rollback"], ["table t"]],
    "savepoint-undone": [["begin"], [f"savepoint s; {MAKE}; table t; rollback to s; select 1"], ["table t"], ["end"]],
    "deferred": [[f"{MAKE}; insert into t values (1), (1); insert into dupes table t; table t"], ["table dupes"]],
    "nothing-temporary": [["select 1; select 2"], ["begin; select 1"], ["commit"]],
    "pipeline": [[MAKE, "insert into t values (1)", "table t"], ["table t"]],
    "pipeline-error": [[MAKE, "table t", "select 1/0", "table t"], ["table t"]],
    "pipeline-begin": [[MAKE, "table t", "begin", "insert into t values (1)", "table t"], ["rollback"], ["table t"]],
    "pipeline-begin-skipped": [[MAKE, "table t", "select 1/0", "begin"], ["select 1"]],
    "pipeline-commit": [[MAKE, "table t", "commit", "table t"], ["table t"]],
    "pipeline-whole": [["begin", MAKE, "table t", "commit"], ["table t"]],
    "pipeline-deferred": [[MAKE, "insert into t values (1), (1)", "insert into dupes table t"], ["table dupes"]],
}  # fmt: skip


@pytest.mark.parametrize("requests", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.by_turns(2)
async def test_the_client_hears_what_it_hears_directly(reading_gateway: Gateway, requests: list[list[str]]) -> None:
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute(DUPES)
    through = await asyncio.to_thread(transcript, reading_gateway.dsn(), requests)
    directly = await asyncio.to_thread(transcript, direct_dsn(), requests)

    assert through == directly


def shown(answers: list[tuple[str, bytes]]) -> str:
    return b" ".join(body for _, body in answers).decode("latin-1")


async def test_control_the_values_are_there_directly() -> None:
    with psycopg.connect(direct_dsn()) as direct:
        direct.execute(SHADOW.format(""))
        harmless, real = direct.execute(SSN).fetchall(), direct.execute(SSN.replace("people", "public.people"))
        assert (harmless, real.fetchall()) == ([("harmless",)], [(CLEAR,)])


@pytest.mark.parametrize(
    ("requests", "harmless"),
    [
        (["create temp table loot as select ssn as a from people where id = 7; select a, reverse(a) from loot"], 0),
        ([f"{SHADOW.format('on commit drop')}; {SSN}", SSN], 1),
        ([f"{SHADOW.format('')}; {SSN}; rollback; {SSN}"], 1),
        ([f"{SHADOW.format('')}; {SSN}; select 1/0", SSN], 1),
        (["begin", f"savepoint s; {SHADOW.format('')}; {SSN}; rollback to s; {SSN}", SSN], 1),
        ([f"begin; {SHADOW.format('')}; {SSN}; commit; drop table people; {SSN}"], 1),
        ([f"{SHADOW.format('')}; {SSN}; alter table people rename to q; {SSN}", SSN], 1),
        ([f"{SHADOW.format('')}; {SSN}; discard temp; {SSN}", SSN], 1),
        ([f"{SHADOW.format('')}; prepare p as {SSN}; execute p; rollback; execute p", "execute p"], 1),
        ([f"{SHADOW.format('')}; begin; declare c cursor for {SSN}; fetch c; drop table people; {SSN}", "fetch c"], 1),
        ([f"{SHADOW.format('')}; {SSN}; copy (table people) to stdout; rollback; copy people to stdout"], 1001),
    ],
)
@pytest.mark.by_turns(2)
async def test_what_a_name_means_is_known_at_every_statement(
    reading_gateway: Gateway, requests: list[str], harmless: int
) -> None:
    """`harmless` rows are really shown: the reading was complete where the temporary table was meant."""
    client = await RawClient.connect(reading_gateway)
    heard = ""
    for text in requests:
        heard += shown(await client.ask(query(text)))
    client.close()

    assert "078-05-" not in heard
    assert heard.count("harmless") == harmless


async def test_a_statement_prepared_midway_is_read_again_when_its_names_change(reading_gateway: Gateway) -> None:
    client = await RawClient.connect(reading_gateway)
    first = await client.ask(
        parse(SHADOW.format("on commit drop")), bind(), execute(), parse(SSN, "s"), bind("s"), execute(), SYNC
    )
    later = await client.ask(bind("s"), execute(), SYNC)
    undone = await client.ask(
        *(parse(SHADOW.format("")), bind(), execute(), bind("s"), execute()),
        *(parse("rollback"), bind(), execute(), bind("s"), execute(), SYNC),
    )
    client.close()

    assert shown(first).count("harmless") == 1
    assert "078-05-" not in shown(later) + shown(undone)
    assert shown(undone).count("harmless") == 1


async def test_a_client_that_stays_between_flush_and_sync_is_no_longer_in_our_block(reading_gateway: Gateway) -> None:
    client = await RawClient.connect(reading_gateway)
    client.writer.write(b"".join([parse("create temp table t (x int)"), bind(), execute()]))
    client.writer.write(b"".join([parse("table t"), bind(), execute(), b"H\0\0\0\4"]))
    await client.until("C")
    await client.until("C")
    answers = await client.ask(query("select 1"))  # a Query ends what was begun without a Sync
    after = await client.ask(query("rollback; table t"))
    client.close()

    assert answers[-1] == ("Z", b"I")
    assert [kind for kind, _ in after][-2:] == ["C", "Z"]
