"""What names stand for: after code nobody could read, and what an approval of a cursor covers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import psycopg
import pytest

from analysis.statement import Analysis
from gateway.listeners.postgres_express import ExpressLane
from gateway.protocols.postgres import client
from gateway.protocols.postgres.client import Bind
from gateway.session.context import SessionContext
from tests.gateway.listeners.harness import Gateway, TableAnalyst, direct_dsn
from tests.gateway.listeners.raw import (
    SYNC,
    RawClient,
    bind,
    close,
    describe,
    errors,
    execute,
    kinds,
    parse,
    query,
    rows,
)
from tests.gateway.listeners.test_postgres_holding import wait_for

# Two functions nobody has read: one does nothing, one puts another statement under a name.
_FUNCTIONS = """
create or replace function opaque() returns int language sql as 'select 1';
create or replace function opaque_swap(name text) returns int language plpgsql as $$
begin
  execute 'deallocate ' || name;
  execute 'prepare ' || name || ' as select id, ssn from people where id = 7';
  return 1;
end $$;
"""
_TEMP = """
create or replace function opaque_temp() returns int language plpgsql as $$
begin
  execute 'create temp table loot as select ssn as name from people';
  return 1;
end $$;
"""
_REAL = b"078-05-0007"


@pytest.fixture
async def masking_gateway() -> AsyncIterator[Gateway]:
    """Masks without holding PHI, so that opaque statements may run at all."""
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute(_FUNCTIONS)
    running = await Gateway(phi=False).start()
    yield running
    await running.stop()


async def test_names_survive_code_nobody_could_read(masking_gateway: Gateway) -> None:
    raw = await RawClient.connect(masking_gateway)
    await raw.ask(query("prepare by_sql as select id, ssn from people where id = 7;"))
    await raw.ask(parse("select id, ssn from people where id = 7", name="by_parse"), SYNC)

    await raw.ask(query("select opaque()"))

    by_sql = await raw.ask(query("execute by_sql"))
    by_parse = await raw.ask(bind("by_parse"), execute(), SYNC)
    raw.close()
    for answer in (by_sql, by_parse):
        assert rows(answer)[0][0] == b"7"
        assert rows(answer)[0][1] not in {_REAL, None}


@pytest.mark.parametrize("made_by", ["prepare", "parse"])
async def test_name_that_now_stands_for_something_else_is_not_believed(masking_gateway: Gateway, made_by: str) -> None:
    """The plan of `select id, id` would let the second column through as it is."""
    raw = await RawClient.connect(masking_gateway)
    harmless = "select id, score from people where id = 7"
    if made_by == "prepare":
        await raw.ask(query(f"prepare tool as {harmless}"))
    else:
        await raw.ask(parse(harmless, name="tool"), SYNC)

    swapped = await raw.ask(query("select opaque_swap('tool')"))
    by_sql = await raw.ask(query("execute tool"))
    by_bind = await raw.ask(bind("tool"), execute(), SYNC)
    raw.close()

    assert kinds(swapped) == "TDCZ"  # it did run
    assert _REAL not in [value for answer in (by_sql, by_bind) for row in rows(answer) for value in row]
    assert errors(by_bind)[0]["C"] == "26000"
    with psycopg.connect(direct_dsn()) as direct:  # the control: the swap does what is feared
        direct.execute(f"prepare tool as {harmless}")
        direct.execute("select opaque_swap('tool')")
        assert direct.execute("execute tool").fetchone() == (7, _REAL.decode())


async def test_swap_inside_one_pipeline_is_not_believed(masking_gateway: Gateway) -> None:
    raw = await RawClient.connect(masking_gateway)
    await raw.ask(parse("select id, score from people where id = 7", name="tool"), SYNC)

    answer = await raw.ask(parse("select opaque_swap('tool')"), bind(), execute(), bind("tool"), execute(), SYNC)
    raw.close()

    assert _REAL not in [value for row in rows(answer) for value in row]
    assert errors(answer)[0]["C"] == "26000"


async def test_names_the_server_would_cut_are_refused(masking_gateway: Gateway) -> None:
    """To the server `first` and `second` are one name; what was analysed under one would run under the other."""
    raw = await RawClient.connect(masking_gateway)
    first, second, longest = "n" * 63 + "1", "n" * 63 + "2", "é" * 31 + "n"
    harmless, real = "select id, score from people where id = 7", "select id, ssn from people where id = 7"

    refused = [
        await raw.ask(parse(harmless, name=first), SYNC),
        await raw.ask(close("S", second), SYNC),
        await raw.ask(parse(real, name="é" * 32), SYNC),
        await raw.ask(parse(harmless), bind(portal=first), SYNC),
        await raw.ask(close("P", second), SYNC),
    ]
    missing = await raw.ask(bind(first), execute(), SYNC)
    served = await raw.ask(parse(harmless, name=longest), bind(longest, longest), execute(longest), SYNC)
    raw.close()

    assert [errors(answer)[0]["C"] for answer in refused] == ["42622"] * 5
    assert errors(missing)[0]["C"] == "26000"
    assert rows(served)[0][0] == b"7"


async def test_unnamed_statement_has_no_name_in_sql(masking_gateway: Gateway) -> None:
    raw = await RawClient.connect(masking_gateway)
    sessions = masking_gateway.listener._keys.values()

    await raw.ask(query("begin"))
    await raw.ask(
        parse("select id from people"), bind(), parse("select id from people", name="p"), bind("p", "c"), SYNC
    )
    context = next(iter(sessions)).context

    assert (set(context.prepared), set(context.cursors)) == ({"p"}, {"c"})
    raw.close()


async def test_cursor_of_sql_can_be_described_by_the_protocol(gateway: Gateway) -> None:
    """What psycopg's server-side cursors do: DECLARE, Describe, FETCH."""
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    await raw.ask(parse("declare pieces cursor for select id, ssn from people"), bind(), execute(), SYNC)

    described = await raw.ask(describe("P", "pieces"), SYNC)
    unknown = await raw.ask(describe("P", "others"), SYNC)
    raw.close()

    assert kinds(described) == "TZ"
    assert errors(unknown)[0]["C"] == "34000"


async def test_approval_of_a_cursor_covers_what_it_fetches(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    gateway.reviewers.approved.set()
    declared = await raw.ask(query("declare c cursor for select id, ssn from people where id > 0 /* held */"))
    assert "E" not in kinds(declared)

    fetched = [await raw.ask(query("fetch 3 from c")) for _ in range(3)]
    raw.close()

    assert [len(rows(answer)) for answer in fetched] == [3, 3, 3]
    assert not gateway.reviewers.opened
    recorded = [entry for entry in gateway.record.of("statement.authorised") if "fetch" in str(entry).lower()]
    assert len(recorded) == 3


async def test_approval_of_a_cursor_ends_with_its_transaction_and_its_name(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    gateway.reviewers.approved.set()
    await raw.ask(query("begin"))
    await raw.ask(query("declare c cursor with hold for select id from people where id > 0 /* held */"))
    await raw.ask(query("commit"))

    raw.writer.write(query("fetch 3 from c"))
    await wait_for(lambda: len(gateway.reviewers.opened) == 1)
    raw.close()

    assert gateway.reviewers.opened[0].statement == "fetch 3 from c"


async def test_temporary_relations_of_code_nobody_could_read_are_noticed(masking_gateway: Gateway) -> None:
    """A function may shadow a table with a temporary one: no name is believed until the server says there is none."""
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        direct.execute(_TEMP)
    raw = await RawClient.connect(masking_gateway)
    (live,) = masking_gateway.registry.live()
    doubted = []
    for text in ("select opaque()", "select 1", "select opaque_temp()", "select 2"):
        await raw.ask(query(text))
        doubted.append(live.context.temp_relations)
    raw.close()

    assert doubted == [True, False, True, True]


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The analyst remembers by template, as the real one does: one memory serves every number in a text's place."""

    def recall(analyst: TableAnalyst, session: SessionContext, text: str, types: tuple[int, ...]) -> Analysis | None:
        shape = re.sub(r"\d+", "?", text)
        kept = analyst._remembered.items()
        return next((found for key, found in kept if re.sub(r"\d+", "?", key[0]) == shape and key[1] == types), None)

    monkeypatch.setattr(TableAnalyst, "recall", recall)


@pytest.mark.usefixtures("templates")
@pytest.mark.parametrize("express", [True, False])
async def test_name_stands_for_its_own_text_not_for_another_of_the_template(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, express: bool
) -> None:
    """A record (and an approval) of EXECUTE or FETCH must say which statement ran."""
    if not express:
        monkeypatch.setattr(ExpressLane, "door", property(lambda lane: lambda data: False))
    raw = await RawClient.connect(gateway)
    said, meant = "select name from people where id = 1", "select name from people where id = 7"
    for _ in range(2):
        await raw.ask(query(said))
    await raw.ask(query("begin"))
    await raw.ask(parse(meant, name="p"), SYNC)
    await raw.ask(parse(meant), bind(), describe(), execute(), SYNC)
    await raw.ask(client.encode_bind(Bind("c", "", (), (), ())), SYNC)

    executed = await raw.ask(query("execute p"))
    fetched = await raw.ask(query("fetch from c"))
    raw.close()

    assert (rows(executed), rows(fetched)) == ([[b"name 7"]], [[b"name 7"]])
    recorded = [entry.sensitive["governed_as"] for entry in gateway.record.of("statement.authorised")[-2:]]
    assert recorded == [meant, meant]
