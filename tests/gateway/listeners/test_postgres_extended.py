"""Extended protocol transcripts: pipelines, portals, names, denials in their midst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from analysis.statement import Analysis, ColumnRef, Flow, Origin, Statement, Transform
from approvals.domain.binding import binding_digest
from gateway.session.approval import bind as bound
from gateway.session.context import SessionContext, StatementRequest
from masking.domain.rules import MaskingRule, Technique
from tests.gateway.listeners.harness import PORT, Gateway, TableAnalyst
from tests.gateway.listeners.raw import (
    FLUSH,
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
    status,
)

SSNS = "select ssn from people order by id"


@pytest.fixture
async def raw(gateway: Gateway) -> AsyncIterator[RawClient]:
    client = await RawClient.connect(gateway)
    yield client
    client.close()


async def test_pipeline_answers_in_order(raw: RawClient) -> None:
    got = await raw.ask(
        parse("select 1"), bind(), describe(), execute(), parse("select 2"), bind(), execute(), close("S", ""), SYNC
    )

    assert kinds(got) == "12TDC12DC3Z"
    assert rows(got) == [[b"1"], [b"2"]]


async def test_denial_in_a_pipeline_fails_like_the_server_would(raw: RawClient) -> None:
    got = await raw.ask(
        parse("begin"), bind(), execute(),
        parse("drop table forbidden_one"), bind(), execute(),
        parse("select 3"), bind(), execute(), SYNC,
    )  # fmt: skip

    assert kinds(got) == "12CEZ"
    assert errors(got)[0]["C"] == "42501"
    assert "no-ddl" in errors(got)[0]["M"]
    assert errors(got)[0]["D"].startswith("session ")
    assert status(got) == "E"  # the explicit transaction failed with it
    assert status(await raw.ask(query("rollback"))) == "I"


async def test_denial_in_a_simple_query_undoes_its_parts(raw: RawClient) -> None:
    got = await raw.ask(query("update people set name = 'x' where id = 1; drop table people; select 3"))
    name = await raw.ask(query("select name from people where id = 1"))

    assert kinds(got) == "CEZ"
    assert rows(name) == [[b"name 1"]]


async def test_suspended_portal_stays_masked_and_is_recorded_each_time(raw: RawClient, gateway: Gateway) -> None:
    first = await raw.ask(query("begin"), *[])
    got = await raw.ask(parse(SSNS), bind(portal="c"), execute("c", 2), execute("c", 2), SYNC)

    assert kinds(first) == "CZ"
    assert kinds(got) == "12DDsDDsZ"
    assert all(b"078-05" not in row[0] for row in rows(got) if row[0])
    authorised = [e for e in gateway.record.of("statement.authorised") if e.sensitive["statement"] == SSNS]
    assert len(authorised) == 2


async def test_binary_and_text_portals_of_one_statement_are_masked(raw: RawClient) -> None:
    born = "select born, ssn from people where id = 1"
    got = await raw.ask(
        parse(born, "s"), describe("S", "s"), bind("s", formats=(1,)), execute(), bind("s"), execute(), SYNC
    )

    assert kinds(got) == "1tT2DC2DCZ"
    binary, text = rows(got)
    assert int.from_bytes(binary[0], "big", signed=True) == -18262  # 1950-01-01 in days from 2000-01-01
    assert text[0] == b"1950-01-01"
    assert b"078-05" not in binary[1] + text[1]


async def test_parse_of_a_taken_name_does_not_change_what_it_stands_for(raw: RawClient) -> None:
    await raw.ask(parse(SSNS, "s"), SYNC)
    failed = await raw.ask(parse("select name as ssn from people", "s"), SYNC)
    got = await raw.ask(bind("s"), execute("", 1), SYNC)

    assert errors(failed)[0]["C"] == "42P05"
    assert kinds(got) == "2DsZ"
    assert b"078-05" not in rows(got)[0][0]


async def test_unknown_names_are_errors(raw: RawClient) -> None:
    statement = await raw.ask(bind("nothing"), SYNC)
    portal = await raw.ask(execute("nothing"), SYNC)

    assert errors(statement)[0]["C"] == "26000"
    assert errors(portal)[0]["C"] == "34000"
    assert kinds(statement) == kinds(portal) == "EZ"


async def test_flush_without_sync_answers_what_is_known(raw: RawClient) -> None:
    raw.writer.write(parse("select 1") + bind() + execute() + FLUSH)
    got = await raw.until("C")

    assert kinds(got) == "12DC"
    assert kinds(await raw.ask(SYNC)) == "Z"


async def test_error_skips_to_sync_and_the_session_goes_on(raw: RawClient) -> None:
    got = await raw.ask(parse("select 1/0"), bind(), execute(), parse("select 5"), bind(), execute(), SYNC)
    after = await raw.ask(parse("select 6"), bind(), execute(), SYNC)

    assert kinds(got)[-2:] == "EZ"
    assert errors(got)[0]["C"] == "22012"
    assert rows(after) == [[b"6"]]


async def test_cursor_fetches_are_masked_every_time(raw: RawClient) -> None:
    got = await raw.ask(query(f"begin; declare c cursor for {SSNS}"))
    first, second = await raw.ask(query("fetch 2 from c")), await raw.ask(query("fetch 2 from c"))

    assert kinds(got) == "CCZ"
    assert kinds(first) == kinds(second) == "TDDCZ"
    assert b"078-05" not in b"".join(row[0] or b"" for row in rows(first) + rows(second))


async def test_fetch_of_a_protocol_portal_is_masked(raw: RawClient) -> None:
    await raw.ask(query("begin"))
    await raw.ask(parse(SSNS), bind(portal="named"), SYNC)
    got = await raw.ask(query("fetch 1 from named"))

    assert kinds(got) == "TDCZ"
    assert b"078-05" not in rows(got)[0][0]


async def test_text_level_prepared_statement_is_masked_and_shares_its_name(raw: RawClient) -> None:
    prepared = await raw.ask(query(f"prepare p as {SSNS} limit 1"))
    executed = await raw.ask(query("execute p"))
    protocol = await raw.ask(parse(f"{SSNS} limit 2", "q"), SYNC)
    crossed = await raw.ask(query("execute q"))
    gone = await raw.ask(query("deallocate p; execute p"))

    assert kinds(prepared) == "CZ"
    assert kinds(protocol) == "1Z"
    assert b"078-05" not in b"".join(row[0] or b"" for row in rows(executed) + rows(crossed))
    assert len(rows(executed)) == 1
    assert len(rows(crossed)) == 2
    assert errors(gone)


async def test_function_call_is_refused(raw: RawClient) -> None:
    from gateway.protocols.postgres.frames import frame

    got = await raw.ask(frame(b"F", b"\0" * 14))

    assert kinds(got) == "EZ"
    assert errors(got)[0]["C"] == "0A000"


async def test_empty_queries_are_answered_like_the_server_does(raw: RawClient) -> None:
    assert kinds(await raw.ask(query("  -- nothing"))) == "IZ"
    assert kinds(await raw.ask(parse(" ; "), bind(), execute(), SYNC)) == "12IZ"


async def test_several_pipelines_in_flight_are_answered_in_order(raw: RawClient) -> None:
    raw.writer.write(b"".join(parse(f"select {n}") + bind() + execute() + SYNC for n in range(50)))
    got = [frame for _ in range(50) for frame in await raw.until_ready()]

    assert [row[0] for row in rows(got)] == [str(n).encode() for n in range(50)]


async def test_search_path_and_role_are_asked_after_they_change(raw: RawClient, gateway: Gateway) -> None:
    await raw.ask(query("set search_path to pg_catalog, public"))
    await raw.ask(query("select 1"))
    session = next(iter(gateway.registry.live())).context
    inside = session.search_path
    await raw.ask(query("begin; set local search_path to public"))
    await raw.ask(query("select 1"))
    local = session.search_path
    await raw.ask(query("rollback"))
    await raw.ask(query("select 1"))

    assert (inside, local, session.search_path) == ("pg_catalog, public", "public", "pg_catalog, public")
    assert session.role == "postgres"


async def test_settings_that_change_what_literals_mean_are_part_of_what_is_approved(
    raw: RawClient, gateway: Gateway
) -> None:
    await raw.ask(query("select 1"))
    session = next(iter(gateway.registry.live())).context
    asked = StatementRequest("delete from visits where day < '02/03/2020'")
    before = bound(session, asked, session.connection)
    await raw.ask(parse("set datestyle to dmy") + bind() + execute() + parse("select 1") + bind() + execute() + SYNC)
    after = bound(session, asked, session.connection)
    await raw.ask(query("begin; set local timezone to 'Asia/Tokyo'"))
    await raw.ask(query("select 1"))
    local = bound(session, asked, session.connection)
    spelled = []
    for setting in ("extra_float_digits to -5", "bytea_output to escape", "xmlbinary to hex"):
        await raw.ask(query(f"set local {setting}"))
        await raw.ask(query("select 1"))
        spelled.append(bound(session, asked, session.connection))

    assert "DateStyle ISO, MDY" in before.settings
    assert "DateStyle ISO, DMY" in after.settings
    assert "TimeZone Asia/Tokyo" in local.settings
    assert len({binding_digest(binding) for binding in (before, after, local, *spelled)}) == 6


@pytest.mark.parametrize("text", ["set standard_conforming_strings = off", "set client_encoding to latin1"])
@pytest.mark.parametrize("asked", [query, lambda text: parse(text) + bind() + execute() + SYNC])
async def test_another_meaning_of_texts_ends_the_session(
    raw: RawClient, asked: Callable[[str], bytes], text: str
) -> None:
    raw.writer.write(asked(text) + query("select 1"))
    got = await raw.until("E")

    assert (errors(got)[0]["V"], errors(got)[0]["C"]) == ("FATAL", "42501")
    assert "quoting rules were changed" in errors(got)[0]["M"]


async def test_rows_without_columns_pass(raw: RawClient) -> None:
    got = await raw.ask(parse("select from people where id < 3"), bind(), execute(), SYNC)

    assert kinds(got) == "12DDCZ"
    assert rows(got) == [[], []]


async def test_result_that_cannot_be_planned_is_withheld(raw: RawClient, gateway: Gateway, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no plan")

    monkeypatch.setattr("gateway.session.assessment.build_plan", fail)
    raw.writer.write(query("select name from people"))
    got = await raw.until("E")

    assert errors(got)[0]["V"] == "FATAL"
    assert not rows(got)


async def test_broken_messages_end_the_session(raw: RawClient) -> None:
    raw.writer.write(b"B" + (4).to_bytes(4, "big"))
    got = await raw.until("E")

    assert errors(got)[0]["C"] == "08P01"


async def test_failed_transaction_can_be_left(raw: RawClient) -> None:
    await raw.ask(query("begin; set local search_path to public"))
    await raw.ask(query("select 1/0"))
    failed = await raw.ask(query("select 1"))
    left = await raw.ask(query("rollback"))
    after = await raw.ask(query("select 1"))

    assert errors(failed)[0]["C"] == "25P02"
    assert status(left) == "I"
    assert rows(after) == [[b"1"]]


async def test_failed_setting_is_rolled_back_frame_by_frame(raw: RawClient) -> None:
    """Some drivers send Bind, Execute and Sync one by one: nothing of ours may be asked in a failed transaction."""
    raw.writer.write(query("begin"))
    await raw.until_ready()
    raw.writer.write(query("set datestyle = 'nonsense'"))
    failed = await raw.until_ready()
    for frame in (parse("rollback") + SYNC, bind(), execute()):
        raw.writer.write(frame)
        await raw.writer.drain()
        await asyncio.sleep(0.05)
    raw.writer.write(SYNC)
    parsed = await raw.until_ready()
    ended = await raw.until_ready()

    assert errors(failed)[0]["C"] == "22023"
    assert errors(parsed + ended) == []
    assert ("Z", b"I") in ended


class Carrying(TableAnalyst):
    """Statements that write carry names of people into a column of their own."""

    def _read(self, session: SessionContext, statement: Statement) -> Analysis:
        found = super()._read(session, statement)
        name, copied = ColumnRef("public", "people", "name"), ColumnRef("public", "people", "nickname")
        flow = Flow(1, 1, copied, Origin(name, Transform.IDENTITY))
        return replace(found, flows=frozenset({flow})) if found.kind == "INSERT" else found


async def test_what_another_connection_protects_is_asked_for_at_each_execution() -> None:
    gateway = await Gateway(others={"reports": PORT}, analyst=Carrying(), recording="metadata", durability="os").start()
    names = MaskingRule("names", ("reports",), ("public.people.name",), Technique.REDACT)
    gateway.rules = replace(gateway.rules, masking_rules=(*gateway.rules.masking_rules, names))
    try:
        raw = await RawClient.connect(gateway)
        heard = await raw.ask(
            parse("insert into people (id) select 0 from people where name is null") + bind() + execute() + SYNC
        )
    finally:
        await gateway.stop()
    assert kinds(heard) == "12EZ"
    assert "inheritance-unavailable" in errors(heard)[0]["D"]
